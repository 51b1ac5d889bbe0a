"""The guard of the policy: its nonces, its reports, and what it leaves alone."""

import asyncio
import json
import re
import sys
import types

import flask
import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse, StreamingResponse
from starlette.testclient import TestClient

from shipworthy.clock import ManualClock
from shipworthy.context import RequestRecord, request_scope
from shipworthy.errors import Misuse
from shipworthy.telemetry import Registry
from shipworthy.web import (
    Blocked,
    Correlation,
    CspGuard,
    CspSettings,
    Line,
    PolicyProposed,
    Problems,
    csp,
    csp_nonce,
)
from shipworthy.web.csp_policy import DATA_POLICY
from shipworthy.web.health import ProbeRouteTaken

pytestmark = pytest.mark.anyio

REPORTED, ENFORCED = "content-security-policy-report-only", "content-security-policy"
PATH = "/.well-known/shipworthy/csp"
REPORT = {
    "csp-report": {
        "document-uri": "http://test/page",
        "effective-directive": "img-src",
        "blocked-uri": "https://cdn.example/x.png",
    }
}


def service():
    app = FastAPI()

    @app.get("/page")
    def page():
        return HTMLResponse(f"<script nonce='{csp_nonce()}'>{csp_nonce()}</script>")

    @app.get("/plain")
    def plain():
        return HTMLResponse("nobody asks")

    @app.get("/stream")
    def stream():
        def parts():
            yield "<script nonce='"
            yield csp_nonce()
            yield "'>"

        return StreamingResponse(parts(), media_type="text/html")

    @app.get("/own")
    def own():
        return HTMLResponse("own", headers={"Content-Security-Policy": "default-src *"})

    @app.get("/data")
    def data():
        return {"a": 1}

    return app


def nonce_in(policy):
    return re.search(r"script-src 'self' 'nonce-([A-Za-z0-9+/]{22}==)'", policy)[1]


def test_each_page_has_a_nonce_of_its_own_and_the_same_in_its_policy(hull):
    """128 random bits, in the head and wherever the application asks, also after the head."""
    with TestClient(hull(service())) as client:
        answers = [client.get(path) for path in ("/page", "/page", "/stream", "/plain")]

    nonces = [nonce_in(answer.headers[REPORTED]) for answer in answers]
    assert len(set(nonces)) == 4
    for answer, nonce in list(zip(answers, nonces, strict=True))[:3]:
        assert f"nonce='{nonce}'" in answer.text
    assert answers[0].headers[REPORTED].endswith(f"; report-uri {PATH}")


def test_reported_only_pages_have_a_policy_and_nothing_is_forbidden(hull):
    """Data has none, and what the application says itself stays alone."""
    with TestClient(hull(service())) as client:
        page, data, own = (client.get(path) for path in ("/page", "/data", "/own"))

    assert ENFORCED not in page.headers
    assert not {REPORTED, ENFORCED} & set(data.headers)
    assert (own.headers[ENFORCED], REPORTED in own.headers) == ("default-src *", False)


def test_enforced_pages_and_data_have_one_and_nobody_reports(hull):
    """The endpoint is there while the policy is reported, and no longer."""
    app = hull(
        service(),
        SHIPWORTHY_CSP__MODE="enforce",
        SHIPWORTHY_CSP__POLICY="default-src 'self'; script-src 'strict-dynamic' {nonce}",
    )
    with TestClient(app) as client:
        page, data, missing = (client.get(path) for path in ("/page", "/data", "/nowhere"))
        report = client.post(PATH, json=REPORT, headers={"content-type": "application/csp-report"})

    (nonce,) = re.findall(r"nonce='(.*)'", page.text)
    assert page.headers[ENFORCED] == (
        f"default-src 'self'; script-src 'strict-dynamic' 'nonce-{nonce}'"
    )
    assert data.headers[ENFORCED] == missing.headers[ENFORCED] == DATA_POLICY
    assert report.status_code == 404
    assert app.learned_policy["seen"] == []


def test_off_is_off(hull):
    """No policy, no endpoint; a template that asks for a nonce still gets one."""
    app = hull(service(), SHIPWORTHY_CSP__MODE="off")
    with TestClient(app) as client:
        page = client.get("/page")
        assert client.post(PATH, json=REPORT).status_code == 404

    assert not {REPORTED, ENFORCED} & set(page.headers)
    assert "nonce=''" not in page.text
    assert app.learned_policy == {}


def test_there_is_no_nonce_outside_of_a_page():
    """Within a request it stays the same."""
    with pytest.raises(Misuse, match="while a request is served"):
        csp_nonce()
    with request_scope(RequestRecord("r", "r", "t", "s")):
        assert csp_nonce() == csp_nonce()


class Guarded:
    """A line with the guard alone, its clock in the test's hand."""

    def __init__(self, app=None, *, owns=False, mode="report", **settings):
        self.clock, self.registry = ManualClock(), Registry()
        self.guard = CspGuard(
            CspSettings(**settings),
            Blocked(self.registry, now=self.clock.now),
            self.registry,
            mode=mode,
            owns=lambda path: owns,
            route_of=lambda path: path,
            now=self.clock.now,
        )
        self.line = Line(
            app or fine,
            (Correlation(), self.guard),
            answers=Problems(mode="enforce", development=True, leaving=lambda: False),
            route_of=lambda scope: "",
            now=self.clock.now,
        )

    def outcomes(self):
        sets = self.registry.snapshot()[csp.REPORTS.name]["sets"]
        return {labels[0]: numbers[0] for labels, numbers in sets}

    def seen(self):
        return [(one["source"], one["reports"]) for one in self.guard.describe()["seen"]]


async def fine(scope, receive, send):
    html = [(b"content-type", b"text/html")]
    await send({"type": "http.response.start", "status": 200, "headers": html})
    await send({"type": "http.response.body", "body": b"fine"})


@pytest.fixture
def report(ask):
    async def send(guarded, document=REPORT, *, kind=b"application/csp-report", **more):
        body = more.pop("body", None) or [json.dumps(document).encode()]
        headers = [(b"content-type", kind)] if kind else []
        more = {"method": "POST", "headers": headers, **more}
        return await ask(guarded.line, more.pop("path", PATH), body=body, **more)

    return send


async def test_reports_of_both_forms_are_taken(report):
    """204, and what they name is learned."""
    guarded = Guarded()
    told = await report(guarded)
    body = {
        "documentURL": "http://test/page",
        "effectiveDirective": "img-src",
        "blockedURL": "https://cdn.example/x.png",
    }
    newer = await report(
        guarded,
        [{"type": "csp-violation", "body": body}, {"type": "other"}],
        kind=b"application/reports+json; charset=utf-8",
    )

    assert (told.status, newer.status, told.body) == (204, 204, b"")
    assert guarded.seen() == [("https://cdn.example", 2)]
    assert guarded.outcomes() == {"new": 1, "known": 1, "noise": 0, "unreadable": 1}


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ({"kind": b"application/json"}, "application/csp-report"),
        ({"kind": b""}, "application/csp-report"),
        ({"body": [b"{"]}, "not JSON"),
        ({"body": [b"x" * 40_000] * 2}, "longer than 65536 bytes"),
    ],
    ids=["of another type", "of no type", "no JSON", "too long"],
)
async def test_what_is_no_report_is_refused_in_a_sentence(report, heard, sent, says):
    """400, counted among what guards turn away, and nothing is learned."""
    guarded = Guarded()
    told = await report(guarded, **sent)

    assert told.status == 400
    assert says in json.loads(told.body)["detail"]
    assert [(fact.guard, fact.rule) for fact in heard] == [("csp", "unreadable-report")]
    assert guarded.seen() == []


async def test_a_client_that_leaves_within_its_report_harms_nobody(report):
    """It gets no answer, and nothing is learned."""
    guarded = Guarded()

    async def receive():
        return {"type": "http.disconnect"}

    scope = {
        "type": "http", "method": "POST", "path": PATH, "scheme": "http", "http_version": "1.1",
        "headers": [(b"content-type", b"application/csp-report")], "client": None,
    }  # fmt: skip
    sent = []

    async def send(message):
        sent.append(message)

    await guarded.line(scope, receive, send)
    assert guarded.seen() == []


async def test_a_report_that_does_not_come_is_not_waited_for(report, ask, monkeypatch):
    """So nobody holds a connection for nothing."""
    monkeypatch.setattr(csp, "REPORT_SECONDS", 0.01)
    guarded = Guarded()
    told = []

    async def receive():
        await asyncio.Event().wait()

    async def send(message):
        told.append(message)

    scope = {
        "type": "http", "method": "POST", "path": PATH, "scheme": "http", "http_version": "1.1",
        "headers": [(b"content-type", b"application/csp-report")], "client": ("192.0.2.1", 1),
    }  # fmt: skip
    await guarded.line(scope, receive, send)
    assert told[0]["status"] == 400


async def test_more_reports_than_are_read_in_a_second_are_told_to_come_later(report, heard):
    """429 with Retry-After, and the next second they are read again."""
    guarded = Guarded(reports_per_second=2)
    told = [await report(guarded) for _ in range(4)]
    guarded.clock.advance(1.0)
    later = await report(guarded)

    assert [one.status for one in told] == [204, 204, 429, 429]
    assert told[2].one(b"retry-after") == b"1"
    assert later.status == 204
    assert guarded.seen() == [("https://cdn.example", 3)]
    blocked = [fact for fact in heard if type(fact).__name__ == "RequestBlocked"]
    assert [(fact.rule, fact.mode) for fact in blocked] == [("too-many-reports", "enforce")]


async def test_a_body_of_many_reports_counts_as_many(report):
    """So that a second holds no more of them in the newer form."""
    guarded = Guarded(reports_per_second=15)
    many = [{"type": "deprecation", "body": {}}] * 20
    kind = b"application/reports+json"
    told = [(await report(guarded, many, kind=kind)).status for _ in range(2)]

    assert told == [204, 429]
    assert guarded.outcomes()["unreadable"] == 20


async def test_only_a_post_to_its_path_is_a_report(report, ask):
    """Everything else is the application's, under whatever path it is mounted."""
    guarded = Guarded()
    assert (await ask(guarded.line, PATH)).body == b"fine"
    assert (await report(guarded, path="/other")).body == b"fine"
    mounted = await report(guarded, path=f"/api{PATH}", root_path="/api")
    assert mounted.status == 204
    page = await ask(guarded.line, "/api/page", root_path="/api;x")
    assert page.one(REPORTED.encode()).endswith(b"; report-uri /api%3Bx" + PATH.encode())


async def test_a_route_of_the_application_stays_its_own(report, ask, heard):
    """It is said once, and pages are not told to report to it."""
    guarded = Guarded(owns=True)
    told = await report(guarded)
    page = await ask(guarded.line, "/page")

    assert told.body == b"fine"
    assert b"report-uri" not in page.one(REPORTED.encode())
    assert [fact.path for fact in heard if isinstance(fact, ProbeRouteTaken)] == [PATH]


async def test_without_a_path_nobody_reports(report, ask):
    """The policy is sent all the same."""
    guarded = Guarded(report_path="", policy="default-src 'self'")
    told = await report(guarded)
    assert told.body == b"fine"
    assert told.one(REPORTED.encode()) == b"default-src 'self'"


async def test_news_is_said_once_when_it_has_settled(report, heard, monkeypatch):
    """A page has many reports at once; what says nothing new is not said again."""
    monkeypatch.setattr(csp, "SETTLE_SECONDS", 0.0)
    guarded = Guarded()

    def proposed():
        return [fact for fact in heard if isinstance(fact, PolicyProposed)]

    async def settled():
        for _ in range(5):
            await asyncio.sleep(0)

    inline = {"csp-report": {**REPORT["csp-report"], "blocked-uri": "inline"}}
    again = {"csp-report": {**REPORT["csp-report"], "document-uri": "http://test/other"}}
    for document in (REPORT, REPORT, again):
        await report(guarded, document)
        await settled()
    first = proposed()
    await report(guarded, inline)
    await settled()

    assert [fact.added for fact in first] == ["img-src https://cdn.example"]
    assert "img-src 'self' data: https://cdn.example;" in first[0].policy
    assert len(proposed()) == 2
    assert "1 reports: " in proposed()[1].advice


async def test_many_reports_at_once_are_one_piece_of_news(report, heard):
    """Until it has settled, nothing is said."""
    guarded = Guarded()
    for _ in range(3):
        await report(guarded)
    assert not [fact for fact in heard if isinstance(fact, PolicyProposed)]
    guarded.guard._say()
    assert len([fact for fact in heard if isinstance(fact, PolicyProposed)]) == 1
    guarded.guard._timer.cancel() if guarded.guard._timer else None


async def test_a_websocket_has_no_policy(hull, ask):
    """There is no page."""

    async def accepting(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})

    told = await ask(hull(accepting), type="websocket")
    assert REPORTED.encode() not in dict(told.headers)


def on_flask():
    app = flask.Flask("pages")
    app.add_url_rule("/page", "page", lambda: f"<script nonce='{csp_nonce()}'>")
    return app


def on_django():
    from django.core.handlers.asgi import ASGIHandler

    return ASGIHandler()


@pytest.fixture
def django_page(django_urls, monkeypatch):
    """A page of Django at /page."""
    from django.http import HttpResponse
    from django.test import override_settings
    from django.urls import path

    def page(_):
        return HttpResponse(f"<script nonce='{csp_nonce()}'>")

    urls = types.ModuleType("page_of_the_test")
    urls.urlpatterns = [path("page", page)]
    monkeypatch.setitem(sys.modules, "page_of_the_test", urls)
    with override_settings(ROOT_URLCONF="page_of_the_test"):
        yield


@pytest.mark.parametrize("made", [on_flask, on_django], ids=["Flask", "Django"])
def test_a_page_of_any_framework_has_the_nonce_of_its_policy(hull, django_page, made):
    """In a worker thread of a WSGI application, and in Django."""
    with TestClient(hull(made())) as client:
        answers = [client.get("/page") for _ in range(2)]

    nonces = [nonce_in(answer.headers[REPORTED]) for answer in answers]
    assert [answer.text for answer in answers] == [f"<script nonce='{one}'>" for one in nonces]
    assert len(set(nonces)) == 2
