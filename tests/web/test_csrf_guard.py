"""The guard against requests of foreign pages: over every combination, and in each mode."""

import itertools
import json

import flask
import pytest
from fastapi import FastAPI, WebSocket
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from shipworthy.context import RequestRecord, request_scope
from shipworthy.errors import Misuse
from shipworthy.settings import Secret
from shipworthy.telemetry import Registry
from shipworthy.web import (
    Blocked,
    CrossSiteRefused,
    CsrfGuard,
    CsrfSettings,
    RequestBlocked,
    csrf_token,
)
from shipworthy.web.csrf import token_for
from shipworthy.web.line import Call

pytestmark = pytest.mark.anyio

SECRET = "0123456789abcdef0123456789abcdef"
FRIEND = "https://friend.example"

# The combinations, each part by a word; what is sent for it stands beside.
METHODS = ("POST", "DELETE", "GET", "WEBSOCKET")
SITES = ("absent", "same-origin", "same-site", "cross-site", "none", "unheard-of")
SCHEMES = ("http", "https")
ORIGINS = {
    "absent": lambda scheme: None,
    "own": lambda scheme: f"{scheme}://shop.example",
    "own, port said": lambda scheme: f"{scheme}://shop.example:{443 if scheme == 'https' else 80}",
    "own, other scheme": lambda scheme: (
        f"{'http' if scheme == 'https' else 'https'}://shop.example"
    ),
    "own, other port": lambda scheme: f"{scheme}://shop.example:8443",
    "foreign": lambda scheme: f"{scheme}://evil.example",
    "foreign, own in front": lambda scheme: f"{scheme}://shop.example.evil.example",
    "null": lambda scheme: "null",
    "trusted": lambda scheme: FRIEND,
}
TOKEN = token_for("s1", secret=SECRET.encode(), salt=b"123456789")
CREDENTIALS = {
    "nothing": {},
    "cookie": {"cookie": "sid=s1"},
    "password": {"authorization": "Basic YTpi"},
    "bearer": {"authorization": "Bearer abc"},
    "key": {"x-api-key": "abc"},
    "bearer and cookie": {"authorization": "Bearer abc", "cookie": "sid=s1"},
    "certificate": {},
    "cookie and token": {"cookie": "sid=s1", "x-csrf-token": TOKEN},
    "cookie and a token of others": {"cookie": "sid=s2", "x-csrf-token": TOKEN},
    "token alone": {"x-csrf-token": TOKEN},
}
CELLS = list(itertools.product(METHODS, SITES, ORIGINS, CREDENTIALS, SCHEMES))


def let_in():
    """What passes, by the rules in words: sets of cells, whatever the code does to find them."""

    def where(**said):
        names = ("method", "site", "origin", "credentials", "scheme")
        return {
            cell
            for cell in CELLS
            if all(dict(zip(names, cell, strict=True))[name] in said[name] for name in said)
        }

    changes_nothing = where(method={"GET"})
    sent_by_a_program = where(credentials={"bearer", "key"})
    said_to_be_own = where(site={"same-origin", "none"})
    trusted = where(origin={"trusted"})
    site_unsaid = where(site={"absent", "unheard-of"})
    origin_is_own = where(origin={"own", "own, port said"})
    origin_unsaid = where(origin={"absent"})
    nothing_to_abuse = where(credentials={"nothing", "token alone", "cookie and token"})
    return (
        changes_nothing
        | sent_by_a_program
        | said_to_be_own
        | trusted
        | (site_unsaid & origin_is_own)
        | (site_unsaid & origin_unsaid & nothing_to_abuse)
    )


# Of what is refused, the rule it is refused by: the first that fits.
RULES = (
    ("cross-site", {"site": {"cross-site"}}),
    ("same-site", {"site": {"same-site"}}),
    ("null-origin", {"origin": {"null"}}),
    ("no-origin", {"origin": {"absent"}}),
    ("foreign-origin", {}),
)


def rule_of(cell):
    named = dict(zip(("method", "site", "origin", "credentials", "scheme"), cell, strict=True))
    return next(
        rule
        for rule, where in RULES
        if all(named[name] in values for name, values in where.items())
    )


def wrongly_told(told, expected, mode):
    """The first refusals that were not told by their rule; a difference of thousands says less."""
    refused = [cell for cell in CELLS if cell not in expected]
    assert len(told.rules) == len(refused)
    pairs = zip(refused, told.rules, strict=True)
    return [(cell, rule) for cell, rule in pairs if rule != ("csrf", rule_of(cell), mode)][:3]


def scope_of(cell):
    method, site, origin, credentials, scheme = cell
    headers = {"host": "shop.example", **CREDENTIALS[credentials]}
    if site != "absent":
        headers["sec-fetch-site"] = site
    said = ORIGINS[origin](scheme)
    if said is not None:
        headers["origin"] = said
    is_socket = method == "WEBSOCKET"
    scope = {
        "type": "websocket" if is_socket else "http",
        "scheme": {"http": "ws", "https": "wss"}[scheme] if is_socket else scheme,
        "path": "/orders",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    if not is_socket:
        scope["method"] = method
    if credentials == "certificate":
        scope["extensions"] = {"tls": {"client_cert_chain": ["-----BEGIN CERTIFICATE-----"]}}
    return scope


class Told:
    """What the guard says of each request, in place of the count and the log."""

    def __init__(self):
        self.rules = []

    def expect(self, guard, rule, mode):
        pass

    def tell(self, guard, rule, mode, because, *, client, route):
        self.rules.append((guard, rule, mode))


class Bare:
    """As much of a line as a call needs."""

    app = None
    received = starting = ()

    @staticmethod
    def now():
        return 0.0


def settings(**more):
    return CsrfSettings(
        **{
            "trusted_origins": (FRIEND,),
            "session_cookie": "sid",
            "secret": Secret(SECRET),
            **more,
        }
    )


def verdict(guard, cell):
    """Whether the guard lets a cell in."""
    call = Call(Bare, scope_of(cell), None, None)
    call.record = RequestRecord("r", "r", "t", "s")
    try:
        guard.enter(call)
    except CrossSiteRefused:
        return False
    return True


@pytest.mark.slow
def test_every_combination_is_judged_as_the_rules_say():
    """4,320 of method, fetch metadata, origin, credentials and scheme; each refusal by its rule."""
    told = Told()
    guard = CsrfGuard(settings(), told, mode="enforce", route_of=lambda path: path)
    expected = let_in()

    wrong = [cell for cell in CELLS if verdict(guard, cell) is not (cell in expected)]

    assert len(CELLS) == 4320
    assert wrong[:3] == []
    assert 1000 < len(expected) < len(CELLS) - 1000
    assert wrongly_told(told, expected, "enforce") == []


@pytest.mark.slow
def test_in_report_everything_comes_in_and_the_same_is_said():
    """What enforcing would do, without doing it."""
    told = Told()
    guard = CsrfGuard(settings(), told, mode="report", route_of=lambda path: path)
    expected = let_in()

    assert all(verdict(guard, cell) for cell in CELLS)
    assert wrongly_told(told, expected, "report") == []


def test_without_a_secret_no_token_helps():
    """Who names no origin and has a cookie is refused, whatever it brings."""
    guard = CsrfGuard(
        settings(secret=Secret(), session_cookie=""), Told(), mode="enforce", route_of=str
    )
    assert not verdict(guard, ("POST", "absent", "absent", "cookie and token", "https"))


@pytest.mark.parametrize(
    ("path", "comes_in"),
    [
        ("/webhooks/bank", True),
        ("/hook", True),
        ("/orders", False),
        ("/webhooks/../orders", False),
        ("/webhooks//orders", False),
        ("/webhooksx", False),
    ],
)
async def test_what_is_exempt_is_a_path_that_everybody_reads_alike(hull, ask, path, comes_in):
    """Webhooks come from anywhere; a bent path is none of them."""
    app = hull(
        fine_asgi,
        SHIPWORTHY_CSRF__MODE="enforce",
        SHIPWORTHY_CSRF__EXEMPT="/webhooks/*,/hook",
    )
    told = await ask(app, path, method="POST", headers=[(b"sec-fetch-site", b"cross-site")])
    assert (told.status == 200) is comes_in


async def fine_asgi(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


def service():
    app = FastAPI()

    @app.post("/orders/{id}")
    def order(id: int):  # noqa: A002 - as people write it
        return {"order": id}

    @app.get("/token")
    def token():
        return csrf_token("s1")

    @app.websocket("/talk")
    async def talk(socket: WebSocket):
        await socket.accept()
        await socket.send_text("hello")
        await socket.close()

    return app


def test_enforced_a_foreign_page_gets_a_problem_and_no_websocket(hull, heard):
    """403 in words that say what would work; the log names guard, rule and route."""
    with TestClient(hull(service(), SHIPWORTHY_CSRF__MODE="enforce")) as client:
        refused = client.post("/orders/7", headers={"sec-fetch-site": "cross-site"})
        with pytest.raises(WebSocketDisconnect):
            client.websocket_connect(
                "/talk", headers={"origin": "https://evil.example"}
            ).__enter__()
        with client.websocket_connect("/talk", headers={"origin": "http://testserver"}) as socket:
            assert socket.receive_text() == "hello"
        own = client.post("/orders/7", headers={"origin": "http://testserver"})

    assert (refused.status_code, refused.json()["type"]) == (
        403,
        "urn:shipworthy:problem:crosssiterefused",
    )
    assert refused.headers["x-content-type-options"] == "nosniff"
    assert own.json() == {"order": 7}
    blocked = [fact for fact in heard if isinstance(fact, RequestBlocked)]
    assert [(fact.guard, fact.rule, fact.mode, fact.route) for fact in blocked] == [
        ("csrf", "cross-site", "enforce", "/orders/{id}"),
        ("csrf", "foreign-origin", "enforce", "/talk"),
    ]
    assert "origin: https://evil.example" in blocked[1].because


def test_by_default_nothing_is_refused_and_all_of_it_is_said(hull, heard):
    """Mode report: websockets, forms and fetches come in as before."""
    with TestClient(hull(service())) as client:
        answer = client.post("/orders/7", headers={"sec-fetch-site": "cross-site"})
        with client.websocket_connect(
            "/talk", headers={"origin": "https://evil.example"}
        ) as socket:
            assert socket.receive_text() == "hello"

    assert answer.json() == {"order": 7}
    assert [fact.mode for fact in heard if isinstance(fact, RequestBlocked)] == ["report"] * 2


def test_off_is_off(hull, heard):
    """The guard is not in the line."""
    with TestClient(hull(service(), SHIPWORTHY_CSRF__MODE="off")) as client:
        assert client.post("/orders/7", headers={"sec-fetch-site": "cross-site"}).json()
    assert not [fact for fact in heard if isinstance(fact, RequestBlocked)]


def test_a_token_of_its_session_lets_a_client_in_that_names_no_origin(hull):
    """It is made while a request is served, and sent back in a header."""
    app = hull(
        service(),
        SHIPWORTHY_CSRF__MODE="enforce",
        SHIPWORTHY_CSRF__SECRET=SECRET,
        SHIPWORTHY_CSRF__SESSION_COOKIE="sid",
    )
    with TestClient(app) as client:
        one, two = client.get("/token").json(), client.get("/token").json()
        sent = {"cookie": "sid=s1", "x-csrf-token": one}
        with_token = client.post("/orders/7", headers=sent)
        without = client.post("/orders/7", headers={"cookie": "sid=s1"})
        other = client.post("/orders/7", headers={**sent, "cookie": "sid=s2"})
        foreign = client.post("/orders/7", headers={**sent, "sec-fetch-site": "cross-site"})

    assert one != two
    assert [answer.status_code for answer in (with_token, without, other, foreign)] == [
        200,
        403,
        403,
        403,
    ]


def test_no_token_is_made_where_none_could_be_checked():
    """Outside of a request, without a secret, and for nobody's session."""
    with pytest.raises(Misuse, match=r"csrf\.secret"):
        csrf_token("s1")
    record = RequestRecord("r", "r", "t", "s")
    with request_scope(record):
        with pytest.raises(Misuse, match=r"csrf\.secret"):
            csrf_token("s1")
        record.seal = str
        with pytest.raises(Misuse, match="empty"):
            csrf_token("")


def test_a_wsgi_application_is_guarded_and_makes_tokens_too(hull):
    """Its handlers run in threads, where the request is known as well."""
    app = flask.Flask("shop")

    @app.post("/orders")
    def order():
        return "fine"

    @app.get("/token")
    def token():
        return json.dumps(csrf_token("s1"))

    hardened = hull(
        app,
        SHIPWORTHY_CSRF__MODE="enforce",
        SHIPWORTHY_CSRF__SECRET=SECRET,
        SHIPWORTHY_CSRF__SESSION_COOKIE="sid",
    )
    with TestClient(hardened) as client:
        token = client.get("/token").json()
        refused = client.post("/orders", headers={"origin": "https://evil.example"})
        sent = {"cookie": "sid=s1", "x-csrf-token": token}
        assert client.post("/orders", headers=sent).text == "fine"

    assert refused.status_code == 403


async def test_probes_are_nobody_s_business(hull, ask):
    """The endpoint of reports is one: browsers send there by themselves."""
    app = hull(fine_asgi, SHIPWORTHY_CSRF__MODE="enforce")
    told = await ask(
        app,
        "/.well-known/shipworthy/csp",
        method="POST",
        headers=[(b"sec-fetch-site", b"cross-site"), (b"content-type", b"application/csp-report")],
        body=[b"{}"],
    )
    assert told.status == 204


async def test_its_rules_are_counted_from_the_start():
    """A count that begins with its first hit would hide that hit from every rate."""
    registry = Registry()
    CsrfGuard(CsrfSettings(), Blocked(registry, now=float), mode="report", route_of=str)
    sets = registry.snapshot()["shipworthy_blocked_total"]["sets"]
    assert {labels[1] for labels, _ in sets} == {
        "cross-site",
        "same-site",
        "foreign-origin",
        "null-origin",
        "foreign-referer",
        "no-origin",
    }
