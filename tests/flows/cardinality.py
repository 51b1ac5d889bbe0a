"""Requests of somebody who wants a service to remember him: what the test and the evidence share.

Every one is new: its path, its method, its host, its agent, its query, who sends it. Run as a
process of its own (`python cardinality.py COUNT`) it asks the application in process and prints
what that left behind, as JSON.
"""

import asyncio
import json
import os
import random
import string
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from shipworthy.events import OTHER, Domain, Metric, Routes
from shipworthy.telemetry import exposition, resident_bytes
from shipworthy.web import request_metrics

# Every template of `service`, and what is for no template.
ROUTES = frozenset(
    {
        "/items/{item}",
        "/slash/{item}/",
        "/{tenant}/inner/{thing}",
        "/sub/deep/{thing}",
        "/other/{tenant}/{thing}",
        "/static/{path}",
        "/boom/{item}",
        "_unmatched",
    }
)
# After so many, what is kept on purpose (texts, templates) is there.
WARM = 5_000


class Sent(NamedTuple):
    """One request of the attack."""

    method: str
    path: str
    query: str
    headers: list[tuple[bytes, bytes]]


def service() -> FastAPI:
    """Return an application with every way a path can be taken apart."""
    app, router, below = FastAPI(), APIRouter(prefix="/deep"), FastAPI()

    async def thing(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.path_params["thing"])

    small = Starlette(routes=[Route("/{thing}", thing)])

    @app.api_route("/items/{item}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    async def item(item: str) -> str:
        return item

    @app.get("/slash/{item}/")
    async def slash(item: str) -> str:
        return item

    @app.get("/boom/{item}")
    async def boom(item: str) -> None:
        # A class of its own for each request is what a careless application may have.
        raise type(f"E{item}", (Exception,), {})

    @router.get("/{thing}")
    async def deep(thing: str) -> str:
        return thing

    below.include_router(router)
    app.mount("/sub", below)
    app.mount("/other/{tenant}", small)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent))
    app.router.routes.append(Mount("/{tenant}/inner", small))
    return app


def attack(count: int, seed: int) -> Iterator[Sent]:
    """Yield that many requests, no two of them alike."""
    draw = random.Random(seed)

    def word() -> str:
        return "".join(draw.choices(string.ascii_letters + string.digits + "-._~", k=12))

    shapes = (
        lambda: f"/items/{word()}",
        lambda: f"/items/{word()}/",
        lambda: f"/slash/{word()}",
        lambda: f"/slash/{word()}/",
        lambda: f"/{word()}",
        lambda: f"/{word()}/{word()}/{word()}/",
        lambda: f"/{word()}/inner/{word()}",
        lambda: f"/sub/deep/{word()}",
        lambda: f"/sub/{word()}",
        lambda: f"/other/{word()}/{word()}",
        lambda: f"/static/{word()}.css",
        lambda: f"/boom/{word()}",
    )
    methods = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
    for _ in range(count):
        odd = draw.random() < 0.3
        yield Sent(
            word().upper().replace(".", "-") if odd else draw.choice(methods),
            draw.choice(shapes)(),
            f"q={word()}",
            [
                (b"host", f"{word().lower()}.example.org".encode()),
                (b"user-agent", word().encode()),
                (b"x-request-id", word().encode()),
                (b"x-forwarded-for", word().encode()),
                (b"authorization", b"Bearer " + word().encode()),
            ],
        )


async def ask(app: Any, sent: Sent) -> None:
    """Send one request in process, whatever becomes of it."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": sent.method,
        "scheme": "http",
        "path": sent.path,
        "raw_path": sent.path.encode(),
        "query_string": sent.query.encode(),
        "root_path": "",
        "headers": sent.headers,
        "client": (f"10.{hash(sent.path) % 256}.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Any) -> None:
        return

    try:
        await app(scope, receive, send)
    except Exception as error:
        if not type(error).__name__.startswith("E"):
            raise


METRICS = {
    metric.name: metric for metric in vars(request_metrics).values() if isinstance(metric, Metric)
}


def strangers(snapshot: dict[str, Any]) -> list[str]:
    """Return the labels of requests that no declaration allows: each with its metric."""
    return [
        f"{name}: {label}={value!r}"
        for name, metric in METRICS.items()
        for labels, _ in snapshot[name]["sets"]
        for (label, domain), value in zip(metric.labels.items(), labels, strict=True)
        if not _allowed(domain, value)
    ]


def _allowed(domain: Domain, value: str) -> bool:
    if isinstance(domain, Routes):
        return value in ROUTES or value == OTHER
    return value == OTHER or domain.holds(value)


def label_sets(snapshot: dict[str, Any]) -> dict[str, int]:
    """Return how many label sets each metric of requests has."""
    return {name: len(snapshot[name]["sets"]) for name in METRICS}


async def suffered(app: Any, count: int, *, warm_count: int = WARM) -> dict[str, Any]:
    """Let `app` have `count` requests, and return what they left behind."""
    for sent in attack(warm_count, seed=1):
        await ask(app, sent)
    warm_bytes, warm = resident_bytes(), label_sets(app.registry.snapshot())
    for sent in attack(count, seed=2):
        await ask(app, sent)
    snapshot = app.registry.snapshot()
    sets = label_sets(snapshot)
    text = exposition([snapshot]).decode()
    return {
        "requests": count,
        "warm_requests": warm_count,
        "label_sets_warm": warm,
        "label_sets": sets,
        "samples": sum(not line.startswith("#") for line in text.splitlines()),
        "exposition_bytes": len(text),
        "grown_bytes": resident_bytes() - warm_bytes,
        "strangers": strangers(snapshot),
    }


def main() -> None:
    """Suffer the attack in this process and print what it left."""
    from shipworthy import harden
    from shipworthy.settings import load

    out = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    app = harden(service(), settings=load(environ={}, directory=Path.cwd()))
    print(json.dumps(asyncio.run(suffered(app, int(sys.argv[1])))), file=out, flush=True)


if __name__ == "__main__":
    main()
