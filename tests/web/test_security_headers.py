"""The headers by which browsers are careful: where an answer lacks them, and never in the way."""

import flask
import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from starlette.testclient import TestClient

from shipworthy.errors import Draining
from shipworthy.web import HeadersMissing, security_headers

pytestmark = pytest.mark.anyio

CAREFUL = (
    b"x-content-type-options", b"referrer-policy", b"cross-origin-resource-policy",
    b"x-frame-options", b"cross-origin-opener-policy", b"permissions-policy",
    b"strict-transport-security", b"cache-control",
)  # fmt: skip
EVERY = {
    "SHIPWORTHY_HEADERS__RESOURCES": "same-origin",
    "SHIPWORTHY_HEADERS__FRAMES": "none",
    "SHIPWORTHY_HEADERS__OPENER": "same-origin",
    "SHIPWORTHY_HEADERS__PERMISSIONS": "camera=(), geolocation=()",
    "SHIPWORTHY_HEADERS__HSTS": "730d",
    "SHIPWORTHY_HEADERS__HSTS_SUBDOMAINS": "true",
    "SHIPWORTHY_HEADERS__NO_STORE": "/account/*",
}

OFF = {
    "SHIPWORTHY_HEADERS__MODE": "off",
    "SHIPWORTHY_CSP__MODE": "off",
    "SHIPWORTHY_CSRF__MODE": "off",
}


def answering(*headers, status=200):
    """An application that answers everything with these headers."""

    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept", "headers": list(headers)})
            return
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b"x"})

    return app


def typed(kind):
    return answering((b"content-type", kind))


def careful(told):
    return {name.lower(): value for name, value in told.headers if name.lower() in CAREFUL}


def missing(heard):
    return [fact for fact in heard if isinstance(fact, HeadersMissing)]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (
            b"text/html; charset=utf-8",
            {CAREFUL[0]: b"nosniff", CAREFUL[1]: b"strict-origin-when-cross-origin"},
        ),
        (b"application/json", {CAREFUL[0]: b"nosniff"}),
        (b"text/css", {CAREFUL[0]: b"nosniff"}),
        (b"image/png", {CAREFUL[0]: b"nosniff"}),
    ],
)
async def test_by_default_there_is_what_breaks_no_page(hull, ask, kind, expected):
    """By content: a page says what other sites learn of it; nothing may be guessed from bytes."""
    assert careful(await ask(hull(typed(kind)), "/x")) == expected


async def test_what_has_no_type_has_to_be_guessed(hull, ask):
    """To forbid it there would break what works; a redirect needs nothing."""
    assert careful(await ask(hull(answering()), "/x")) == {}
    redirect = answering((b"location", b"/y"), status=302)
    assert careful(await ask(hull(redirect), "/x")) == {}


@pytest.mark.parametrize(
    ("path", "used_as"),
    [
        ("/app.js", b""),
        ("/theme.css", b""),
        ("/config", b"script"),
        ("/config", b"style"),
        ("/config", b"serviceworker"),
    ],
)
@pytest.mark.parametrize("kind", [b"text/html", b"text/plain", b"application/json"])
async def test_a_script_under_a_wrong_type_goes_on_running(  # noqa: PLR0917 - fixtures
    hull, ask, heard, path, used_as, kind
):
    """Browsers would refuse it with nosniff, or as a resource of others; it is said once."""
    app = hull(typed(kind), SHIPWORTHY_HEADERS__RESOURCES="same-origin")
    for _ in range(3):
        told = await ask(app, path, headers=[(b"sec-fetch-dest", used_as)] if used_as else [])
    assert not {CAREFUL[0], CAREFUL[2]} & set(careful(told))
    (fact,) = missing(heard)
    assert "x-content-type-options" in fact.headers
    assert "used as a script or style sheet" in fact.why


async def test_a_script_under_its_own_type_is_not_guessed_at(hull, ask, heard):
    """So nothing is left out."""
    app = hull(typed(b"text/javascript"))
    told = await ask(app, "/app.js", headers=[(b"sec-fetch-dest", b"script")])
    assert careful(told) == {CAREFUL[0]: b"nosniff"}
    assert missing(heard) == []


async def test_every_header_can_be_asked_for(hull, ask):
    """Each on what it is for; of transport security nothing is said over http."""
    page = hull(typed(b"text/html"), **EVERY)
    over_http = careful(await ask(page, "/account/7"))
    over_https = careful(await ask(page, "/public", scheme="https"))
    data = careful(await ask(hull(typed(b"application/json"), **EVERY), "/x", scheme="https"))

    assert over_http == {
        b"x-content-type-options": b"nosniff",
        b"referrer-policy": b"strict-origin-when-cross-origin",
        b"cross-origin-resource-policy": b"same-origin",
        b"x-frame-options": b"DENY",
        b"cross-origin-opener-policy": b"same-origin",
        b"permissions-policy": b"camera=(), geolocation=()",
        b"cache-control": b"no-store",
    }
    hsts = {b"strict-transport-security": b"max-age=63072000; includeSubDomains"}
    assert {n: v for n, v in over_https.items() if n not in over_http} == hsts
    assert b"cache-control" not in over_https
    assert data == {
        b"x-content-type-options": b"nosniff",
        b"cross-origin-resource-policy": b"same-origin",
        **hsts,
    }


async def test_what_is_not_wanted_is_not_sent(hull, ask):
    """An empty policy is none; without subdomains there is no word of them."""
    app = hull(typed(b"text/html"), SHIPWORTHY_HEADERS__REFERRER="", SHIPWORTHY_HEADERS__HSTS="1d")
    assert careful(await ask(app, "/x", scheme="https")) == {
        b"x-content-type-options": b"nosniff",
        b"strict-transport-security": b"max-age=86400",
    }


async def test_what_the_application_has_set_stays(hull, ask):
    """Once, as it wrote it, and whatever it is."""
    own = [
        (b"Content-Type", b"text/html"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"Referrer-Policy", b"no-referrer"),
        (b"X-Frame-Options", b"SAMEORIGIN"),
        (b"cache-control", b"private"),
        (b"strict-transport-security", b"max-age=1"),
    ]
    told = await ask(hull(answering(*own), **EVERY), "/account/7", scheme="https")

    assert [header for header in told.headers if header in own] == own
    added = set(careful(told)) - {name.lower() for name, _ in own}
    assert added == {
        b"cross-origin-resource-policy",
        b"cross-origin-opener-policy",
        b"permissions-policy",
    }


async def test_the_lists_of_an_application_are_not_changed(hull, ask):
    """It may use the same for each answer."""
    headers = [(b"content-type", b"text/html")]

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    told = await ask(hull(app), "/x")
    assert len(careful(told)) == 2
    assert headers == [(b"content-type", b"text/html")]


async def test_in_report_nothing_is_added_and_it_is_said_once_for_each_kind(hull, ask, heard):
    """With the names of what is missing; no answer changes."""
    app = hull(typed(b"text/html"), SHIPWORTHY_HEADERS__MODE="report")
    for path in ("/a", "/b", "/a"):
        assert careful(await ask(app, path)) == {}
    assert [(fact.content, fact.headers) for fact in missing(heard)] == [
        ("page", "x-content-type-options, referrer-policy")
    ]


async def test_off_is_off(hull, ask, heard):
    """The guard is not in the line."""
    app = hull(typed(b"text/html"), SHIPWORTHY_HEADERS__MODE="off")
    assert careful(await ask(app, "/a")) == {}
    assert missing(heard) == []


async def test_a_websocket_that_is_accepted_gets_none_and_a_refused_one_does(hull, ask):
    """One is no content; the other is an answer."""
    accepted = await ask(hull(answering()), type="websocket")
    assert careful(accepted) == {}
    refused = await ask(
        hull(answering(), SHIPWORTHY_CSRF__MODE="enforce"),
        type="websocket",
        scheme="ws",
        headers=[(b"origin", b"http://evil.example")],
        extensions={"websocket.http.response": {}},
    )
    assert refused.status == 403
    assert careful(refused)[b"x-content-type-options"] == b"nosniff"


async def test_refusals_and_failures_have_them_too(hull, ask):
    """403, 429, 500 and 503 are said by us, and read by the same browsers."""

    async def fails(scope, receive, send):
        raise RuntimeError

    failed = await ask(hull(fails), "/x")
    foreign = [(b"sec-fetch-site", b"cross-site")]
    refused = await ask(
        hull(fails, SHIPWORTHY_CSRF__MODE="enforce"), "/x", method="POST", headers=foreign
    )
    app = hull(fails, SHIPWORTHY_CSP__REPORTS_PER_SECOND="1")
    kind = [(b"content-type", b"application/csp-report")]
    for _ in range(2):
        crowded = await ask(app, "/.well-known/shipworthy/csp", method="POST", headers=kind)

    async def leaves(scope, receive, send):
        raise Draining

    draining = await ask(hull(leaves), "/x")

    answers = {told.status: careful(told) for told in (failed, refused, crowded, draining)}
    assert sorted(answers) == [403, 429, 500, 503]
    assert {found[b"x-content-type-options"] for found in answers.values()} == {b"nosniff"}


async def test_types_and_routes_without_end_take_no_memory_without_end(hull, ask, heard):
    """A boundary for each answer is a type for each answer."""
    numbers = iter(range(10_000))

    async def app(scope, receive, send):
        kind = b"multipart/mixed; boundary=%d" % next(numbers)
        headers = [(b"content-type", kind)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x"})

    hardened = hull(app)
    for number in range(150):
        await ask(hardened, f"/{number}.js")
    (guard,) = [
        hook.__self__
        for hook in hardened._hull.line.starting
        if isinstance(hook.__self__, security_headers.SecurityHeaders)
    ]
    assert len(guard._ready) == 100
    assert len(missing(heard)) <= 100


def fastapi_pages():
    app = FastAPI()

    @app.get("/page")
    def page():
        return HTMLResponse("<script>1</script>")

    @app.post("/form")
    def form():
        return {"fine": True}

    return app


def flask_pages():
    app = flask.Flask("pages")
    app.add_url_rule("/page", "page", lambda: "<script>1</script>")
    app.add_url_rule("/form", "form", lambda: {"fine": True}, methods=["POST"])
    return app


@pytest.mark.parametrize("made", [fastapi_pages, flask_pages], ids=["FastAPI", "Flask"])
def test_by_default_an_application_answers_as_before_but_for_added_headers(hull, made):
    """Same statuses, bodies and headers of its own; forms of foreign pages come in, too."""
    foreign = {"sec-fetch-site": "cross-site", "origin": "https://evil.example", "cookie": "a=1"}

    def answers(app):
        with TestClient(app) as client:
            return [
                client.get("/page"),
                client.get("/docs"),
                client.get("/nowhere"),
                client.post("/form", headers=foreign),
                client.post("/page"),
            ]

    guarded = answers(hull(made()))
    bare = answers(hull(made(), **OFF))
    for one, other in zip(guarded, bare, strict=True):
        assert (one.status_code, one.content) == (other.status_code, other.content)
        added = {name: value for name, value in one.headers.items() if name not in other.headers}
        assert set(added) <= {
            "x-content-type-options",
            "referrer-policy",
            "content-security-policy-report-only",
        }
        kept = {name: one.headers[name] for name in other.headers if name != "x-request-id"}
        assert kept == {n: v for n, v in other.headers.items() if n != "x-request-id"}
    assert "referrer-policy" in guarded[0].headers


def test_django_answers_as_before_but_for_added_headers(hull, django_urls):
    """What it sets itself stays."""
    from django.core.handlers.asgi import ASGIHandler

    for path in ("/livez", "/clients/7/", "/nowhere"):
        with TestClient(hull(ASGIHandler())) as client:
            one = client.get(path)
        with TestClient(hull(ASGIHandler(), **OFF)) as client:
            other = client.get(path)
        assert (one.status_code, one.content) == (other.status_code, other.content)
        assert set(one.headers) - set(other.headers) <= {
            "x-content-type-options",
            "referrer-policy",
            "content-security-policy-report-only",
        }
