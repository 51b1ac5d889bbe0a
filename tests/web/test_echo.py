"""What a 422 repeats of the input: no secret, and nothing at all where that is asked for."""

import asyncio
import gzip
import json
from typing import Annotated

import httpx
import orjson
import pytest
from fastapi import FastAPI, Header
from fastapi.middleware.gzip import GZipMiddleware
from pydantic import BaseModel, field_validator

from shipworthy import harden
from shipworthy.settings import load
from shipworthy.web.echo import ECHO_BYTES, may_echo, without_echo

CANARY = "Plover-Lantern-4800"


class Account(BaseModel):
    """What people sign up with."""

    name: str
    password: str
    age: int

    @field_validator("password")
    @classmethod
    def long_enough(cls, value):
        """Repeat the value in the message, as people do."""
        if len(value) < 40:
            raise ValueError(f"password={value} is too short")
        return value


def application(*, packed=False):
    app = FastAPI()
    if packed:
        app.add_middleware(GZipMiddleware, minimum_size=10)

    @app.post("/accounts")
    async def make(account: Account) -> str:
        return account.name

    @app.get("/mine")
    async def mine(x_api_key: Annotated[int, Header()]) -> int:
        return x_api_key

    @app.post("/large")
    async def large(values: list[int]) -> int:
        return len(values)

    return app


def ask(app, tmp_path, method, path, *, echo="secrets", **more):
    settings = load(
        environ={},
        directory=tmp_path,
        overrides={"web.validation_input": echo, "web.access_log": "false"},
    )
    transport = httpx.ASGITransport(app=harden(app, settings=settings))

    async def once():
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **more)

    return asyncio.run(once())


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("echo", ["secrets", "hide"])
@pytest.mark.parametrize(
    "sent",
    [
        {"name": "ana", "password": CANARY},
        {"name": "ana", "password": [CANARY], "age": 3},
        {"name": "ana", "password": CANARY, "age": "x"},
        {"nested": {"deep": {"api_key": CANARY}}},
    ],
)
def test_no_422_repeats_a_secret(tmp_path, sent, echo, packed):
    """Whichever field is wrong, the body that comes back holds no password; packed or not."""
    heard = ask(application(packed=packed), tmp_path, "POST", "/accounts", json=sent, echo=echo)
    assert heard.status_code == 422
    assert CANARY not in heard.text
    assert {error["loc"][0] for error in heard.json()["detail"]} == {"body"}
    assert int(heard.headers["content-length"]) == len(heard.content)
    if echo == "hide":
        assert not any("input" in error for error in heard.json()["detail"])


def test_a_header_with_a_key_does_not_come_back(tmp_path):
    """The place of the error names the secret where its value has no name."""
    heard = ask(application(), tmp_path, "GET", "/mine", headers={"x-api-key": CANARY})
    assert heard.status_code == 422
    assert CANARY not in heard.text


def test_what_is_no_secret_stays_as_it_was(tmp_path):
    """Byte for byte: a client that shows what was wrong goes on doing so."""
    sent = {"name": 7, "password": "x" * 50, "age": "seven"}
    bare, guarded = (
        ask(application(), tmp_path, "POST", "/accounts", json=sent, echo=echo)
        for echo in ("show", "secrets")
    )
    inputs = [[error["input"] for error in heard.json()["detail"]] for heard in (bare, guarded)]
    assert inputs[0] == inputs[1] == [7, "seven"]
    assert bare.content == guarded.content


def test_with_show_the_application_has_the_word(tmp_path):
    """The setting that changes nothing changes nothing."""
    sent = {"name": "ana", "password": CANARY}
    heard = ask(application(), tmp_path, "POST", "/accounts", json=sent, echo="show")
    assert CANARY in heard.text


def test_an_answer_that_is_too_long_is_replaced(tmp_path):
    """It repeats what was sent, and nobody looks through a megabyte: a problem says as much."""
    sent = json.dumps([CANARY + "x" * ECHO_BYTES]).encode()
    heard = ask(
        application(), tmp_path, "POST", "/large", content=sent,
        headers={"content-type": "application/json"},
    )  # fmt: skip
    assert heard.status_code == 422
    assert heard.headers["content-type"] == "application/problem+json"
    assert CANARY not in heard.text


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'{"detail": "no"}', b'{"detail": [1]}', b'{"detail": [{}]}',
        b'{"detail": []}', b"\x1f\x8b\x08broken", gzip.compress(b"{", mtime=0),
    ],
)  # fmt: skip
def test_what_is_no_list_of_errors_stays(body):
    """An application's own 422 has its own form, and is its own affair."""
    assert without_echo(body, "hide") is None


def test_a_gzip_bomb_is_not_unpacked_whole():
    """An answer is the application's, yet what it packs may have come from a client."""
    bomb = gzip.compress(b'{"detail": [' + b" " * (50 * ECHO_BYTES) + b"]}")
    assert without_echo(bomb, "secrets") is None


@pytest.mark.parametrize(
    ("headers", "may"),
    [
        ({b"content-type": b"application/json"}, True),
        ({b"content-type": b"application/json; charset=utf-8", b"content-encoding": b"gzip"}, True),
        ({b"content-type": b"application/json", b"content-encoding": b"br"}, False),
        ({b"content-type": b"text/html"}, False),
        ({}, False),
    ],
)
def test_only_what_can_be_read_is_held_back(headers, may):
    """A page of HTML is sent on as it comes."""
    assert may_echo(headers) is may


def test_the_whole_body_in_an_error_loses_its_secrets_at_any_depth():
    """FastAPI repeats all that was sent where one field is missing."""
    error = {
        "loc": ["body", "age"], "msg": "Field required", "type": "missing",
        "input": {"user": {"name": "ana", "credentials": [{"password": CANARY}]}},
    }  # fmt: skip
    written = without_echo(orjson.dumps({"detail": [error]}), "secrets")
    assert written is not None
    assert CANARY.encode() not in written
    assert b'"name":"ana"' in written
