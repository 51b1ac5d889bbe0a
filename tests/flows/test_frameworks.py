"""`shipworthy run` with each framework: an application nobody changed, from its start to its end.

One process for each framework, because to start one is what costs the time.
"""

from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from serve.launch import BRISK, During, Service, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

APPS = Path(__file__).parent / "apps"
LIVES = ("start", "stop")


@dataclass(frozen=True, kw_only=True)
class Case:
    """An application, where its routes are, what it says for a page it does not have."""

    target: str
    template: str
    missing: tuple[str, str]
    below: str = ""
    lives: tuple[str, ...] = LIVES
    boom: str = "/boom"
    no_page: str = "_unmatched"


CASES = {
    "Litestar": Case(
        target="on_litestar.py:app",
        template="/items/{item}",
        missing=("application/json", '{"status_code":404,"detail":"Not Found"}'),
    ),
    "Quart": Case(
        target="on_quart.py:app",
        template="/items/<int:item>",
        missing=("text/html; charset=utf-8", "<!doctype html>\n<html lang=en>\n<title>404 "),
    ),
    "Django ASGI": Case(
        target="on_django.py:asgi",
        template="/items/<int:item>",
        missing=("text/html; charset=utf-8", '\n<!doctype html>\n<html lang="en">\n'),
        lives=(),
    ),
    "Django WSGI": Case(
        target="on_django.py:wsgi",
        template="/items/<int:item>",
        missing=("text/html; charset=utf-8", '\n<!doctype html>\n<html lang="en">\n'),
        lives=(),
    ),
    "Flask": Case(
        target="on_flask.py:app",
        template="/items/<int:item>",
        missing=("text/html; charset=utf-8", "<!doctype html>\n<html lang=en>\n<title>404 "),
        lives=(),
    ),
    "Starlette with Flask": Case(
        target="on_flask.py:mounted",
        below="/old",
        template="/old/items/<int:item>",  # Flask's own word, below its mount
        no_page="/old/{path}",
        boom="/old/boom",
        missing=("text/html; charset=utf-8", "<!doctype html>\n<html lang=en>\n<title>404 "),
    ),
    "FastAPI with FastAPI": Case(
        target="on_fastapi.py:app",
        below="/v1",
        template="/v1/items/{item}",
        boom="/v1/boom",
        missing=("application/json", '{"detail":"Not Found"}'),
    ),
    "ASGI": Case(
        target="on_nothing.py:app",
        template="_unmatched",
        boom="_unmatched",
        missing=("text/plain", "nothing here"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_unchanged_application_is_served_whole(name: str, tmp_path: Path) -> None:
    """Ids, routes, its own 404, problems, streams, its life (L32), a drain that waits for it."""
    case = CASES[name]
    waits = f"{case.below}/sync" if name == "Django WSGI" else case.below
    diary = tmp_path / "diary.txt"
    with started(f"{APPS}/{case.target}", directory=tmp_path, settings=BRISK) as service:
        service.until_ready()
        fine = service.get(f"{case.below}/items/7")
        missing = service.get(f"{case.below}/no/such/page")
        broken = service.get(f"{case.below}/boom")
        parts = streamed(service, f"{waits}/stream", tmp_path / "go")
        metrics = httpx.get(f"{service.operations}/metrics").text
        during = During(service, f"{waits}/slow")
        service.until(lambda: diary.exists() and "slow began" in diary.read_text())
        service.signal()
        service.until(lambda: httpx.get(f"{service.operations}/readyz").status_code == 503)
        (tmp_path / "released").touch()
        last = during.result()
        code = service.ended()

    answers = (fine, missing, broken, last)
    assert [answer.status_code for answer in answers] == [200, 404, 500, 200]
    assert [len(answer.headers.get_list("x-request-id")) for answer in answers] == [1] * 4
    assert len({answer.headers["x-request-id"] for answer in answers}) == 4
    assert "item 7" in fine.text
    assert missing.headers["content-type"] == case.missing[0]
    assert missing.text.startswith(case.missing[1])
    assert broken.headers["content-type"] == "application/problem+json"
    assert broken.json()["request_id"] == broken.headers["x-request-id"]
    assert "s3cret" not in broken.text
    assert parts == ["one\n", "two\n"]
    for route, status in ((case.template, 200), (case.no_page, 404), (case.boom, 500)):
        labels = (
            f'http_request_method="GET",http_route="{route}",http_response_status_code="{status}"'
        )
        assert f"http_server_request_duration_seconds_count{{{labels}}} " in metrics
    assert "slow" in last.text
    assert last.headers["connection"] == "close"
    assert code == 0
    noted = diary.read_text().splitlines()
    assert tuple(line for line in noted if line.endswith(LIVES)) == case.lives
    assert ("web.lifespan_unsupported" in service.out) == (name == "Django ASGI")
    # Flask, Quart and Django write a line of their own as well; each says for which request.
    raised = [line for line in service.lines() if "s3cret" in str(line)]
    assert {line["request_id"] for line in raised} == {broken.headers["x-request-id"]}
    assert [line.get("event") for line in raised].count("web.exception_unhandled") == 1


def streamed(service: Service, path: str, go: Path) -> list[str]:
    """Return the parts of a stream; the second is not made before the first has arrived."""
    with httpx.stream("GET", service.url + path, timeout=20) as answer:
        parts = answer.iter_text()
        first = next(parts)
        go.touch()
        return [first, *parts]
