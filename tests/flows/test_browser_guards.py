"""`shipworthy run` with the guards against what browsers can be made to do, in both modes."""

from pathlib import Path

import httpx
import pytest
import websockets.sync.client
from websockets.exceptions import InvalidStatus

from serve.launch import BRISK, TOKEN, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

PAGES = f"{Path(__file__).parent / 'apps' / 'pages.py'}:app"
FOREIGN = {"sec-fetch-site": "cross-site", "origin": "https://evil.example"}
REPORTS = "/.well-known/shipworthy/csp"


def post(service, path, **options):
    return httpx.post(service.url + path, timeout=30, **options)


def hello(service, origin):
    """The status of a handshake from a page of `origin`."""
    url = f"{service.url.replace('http', 'ws')}/talk"
    try:
        with websockets.sync.client.connect(url, origin=origin) as socket:
            return socket.recv()
    except InvalidStatus as refused:
        return refused.response.status_code


def policy(service):
    answer = httpx.get(
        f"{service.operations}/api/security/csp",
        headers={"Authorization": f"Bearer {TOKEN}"},
        timeout=30,
    )
    return answer.json()


def report(service, blocked, directive="img-src"):
    said = {
        "document-uri": f"{service.url}/page",
        "effective-directive": directive,
        "blocked-uri": blocked,
    }
    kind = {"content-type": "application/csp-report"}
    return post(service, REPORTS, json={"csp-report": said}, headers=kind)


def test_by_default_nothing_is_refused_and_what_would_be_is_learned(tmp_path):
    """Two workers, in production: one proposal of what both were told, one remark at the start."""
    with started(
        PAGES,
        "--workers",
        "2",
        directory=tmp_path,
        settings=BRISK,
        environ={"SHIPWORTHY_ENV": "production", "SHIPWORTHY_HOSTS__ALLOWED": "*"},
    ) as service:
        service.until_ready()
        page = service.get("/page")
        order = post(service, "/orders/7", headers=FOREIGN)
        talked = hello(service, "https://evil.example")
        # Each on a connection of its own, so that both workers hear of it.
        answers = {report(service, "https://cdn.example/x.png").status_code for _ in range(8)}
        report(service, "inline", "script-src-elem")
        learned = policy(service)
        health = httpx.get(f"{service.operations}/health", timeout=30).text
        service.signal()
        assert service.ended() == 0

    assert page.headers["x-content-type-options"] == "nosniff"
    assert "'nonce-" in page.headers["content-security-policy-report-only"]
    assert (order.json(), talked, answers) == ({"order": 7}, "hello", {204})
    assert learned["mode"] == "report"
    assert "img-src 'self' data: https://cdn.example" in learned["proposal"]
    assert {(one["source"], one["route"], one["reports"]) for one in learned["seen"]} == {
        ("https://cdn.example", "/page", 8),
        ("inline", "/page", 1),
    }
    assert "csp_nonce()" in learned["advice"][0]
    blocked = service.events("web.request_blocked")
    assert {(e["guard"], e["rule"], e["mode"]) for e in blocked} == {
        ("csrf", "cross-site", "report"),
        ("csrf", "foreign-origin", "report"),
    }
    undecided = {event["what"] for event in service.events("web.guard_undecided")}
    (remark,) = undecided
    assert remark.startswith("csp and csrf only report")
    assert remark in health


def test_enforced_a_foreign_page_changes_nothing(tmp_path):
    """Forms and websockets of others are refused; own ones, programs and webhooks are not."""
    settings = f"""{BRISK}
[csrf]
mode = "enforce"
trusted_origins = ["https://friend.example"]
exempt = ["/orders/99"]
[csp]
mode = "enforce"
"""
    with started(PAGES, directory=tmp_path, settings=settings) as service:
        service.until_ready()
        refused = post(service, "/orders/7", headers=FOREIGN)
        told = {
            "own": post(service, "/orders/7", headers={"origin": service.url}),
            "program": post(service, "/orders/7", headers={"authorization": "Bearer a"}),
            "friend": post(
                service, "/orders/7", headers={**FOREIGN, "origin": "https://friend.example"}
            ),
            "webhook": post(service, "/orders/99", headers=FOREIGN),
        }
        handshakes = [hello(service, origin) for origin in ("https://evil.example", service.url)]
        page = service.get("/page")
        missing = report(service, "https://cdn.example/x.png")
        service.signal()
        assert service.ended() == 0

    assert (refused.status_code, refused.headers["content-type"]) == (
        403,
        "application/problem+json",
    )
    assert {name: answer.status_code for name, answer in told.items()} == dict.fromkeys(told, 200)
    assert handshakes == [403, "hello"]
    assert "script-src 'self' 'nonce-" in page.headers["content-security-policy"]
    assert refused.headers["content-security-policy"].startswith("default-src 'none'")
    assert missing.status_code == 404
    (undecided,) = service.events("web.guard_undecided")
    assert undecided["what"].startswith("csrf.secret is not set")
