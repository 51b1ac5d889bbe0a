"""The Host header as a guard: one, well-formed, and of a host of ours."""

import json

import pytest

from shipworthy.telemetry import Registry
from shipworthy.web import BLOCKED, HostSettings, RequestBlocked
from shipworthy.web.blocked import Blocked
from shipworthy.web.host import HostGuard, HostMalformed
from shipworthy.web.line import Call, Line
from web.conftest import http_scope

pytestmark = pytest.mark.anyio


async def fine(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


@pytest.fixture
def asked(hull, ask):
    """Ask a service whose hosts are named, with the Host headers of the test's own."""

    async def asked(*hosts, mode="enforce", allowed="shop.example,*.shop.example", **scope):
        app = hull(fine, SHIPWORTHY_HOSTS__MODE=mode, SHIPWORTHY_HOSTS__ALLOWED=allowed)

        async def with_hosts(seen, receive, send):
            headers = [header for header in seen["headers"] if header[0] != b"host"]
            seen["headers"] = [*[(b"host", host) for host in hosts], *headers]
            await app(seen, receive, send)

        return await ask(with_hosts, scope.pop("path", "/"), **scope)

    return asked


@pytest.mark.parametrize(
    ("hosts", "status", "rule"),
    [
        ([b"shop.example"], 200, ""),
        ([b"SHOP.example.:8000"], 200, ""),
        ([b"a.b.shop.example"], 200, ""),
        ([b"evilshop.example"], 421, "unlisted"),
        ([b"shop.example.evil.example"], 421, "unlisted"),
        ([b"192.0.2.1"], 421, "unlisted"),
        ([b"shop.example/x"], 400, "malformed"),
        ([b"user@shop.example"], 400, "malformed"),
        ([b"shop.example, evil.example"], 400, "malformed"),
        ([b"sh\xc3\xb6p.example"], 400, "malformed"),
        ([b""], 400, "malformed"),
        ([b"shop.example", b"shop.example"], 400, "repeated"),
        ([b"evil.example", b"shop.example"], 400, "repeated"),
        ([], 400, "missing"),
    ],
)
async def test_a_request_for_another_host_is_misdirected_and_for_none_is_bad(
    asked, heard, hosts, status, rule
):
    """421 for a name that is somebody else's, 400 for what names nobody; told with its reason."""
    told = await asked(*hosts)

    assert told.status == status
    blocked = [fact for fact in heard if isinstance(fact, RequestBlocked)]
    assert [fact.rule for fact in blocked] == [rule][: status != 200]
    if status != 200:
        assert (blocked[0].guard, blocked[0].mode) == ("host", "enforce")
        assert b"evil" not in told.body
        kind = "hostunlisted" if status == 421 else "hostmalformed"
        assert json.loads(told.body)["type"] == f"urn:shipworthy:problem:{kind}"


async def test_by_default_it_only_tells_and_without_a_list_only_of_what_is_no_host(asked, heard):
    """A service that nobody configured is never refused anything."""
    anything = {"mode": "report", "allowed": ""}
    statuses = [
        (await asked(b"any.example", **anything)).status,
        (await asked(b"any.example", mode="report", allowed="*")).status,
        (await asked(b"a b", **anything)).status,
        (await asked(b"other.example", mode="report")).status,
        (await asked(b"a b", mode="off")).status,
    ]

    assert HostSettings().mode == "report"
    assert statuses == [200] * 5
    told = [(fact.rule, fact.mode) for fact in heard if isinstance(fact, RequestBlocked)]
    assert told == [("malformed", "report"), ("unlisted", "report")]


async def test_a_websocket_is_judged_as_well(asked):
    """Before its handshake ends."""
    extensions = {"websocket.http.response": {}}
    scope = {"type": "websocket", "scheme": "ws", "extensions": extensions}

    assert (await asked(b"evil.example", **scope)).status == 421
    assert (await asked(b"shop.example", **scope)).sent[0]["type"] == "websocket.accept"


async def test_a_probe_passes_under_any_name(asked, heard):
    """A balancer asks by the address of the machine."""
    assert (await asked(b"10.0.0.1:8000", path="/livez")).status == 200
    assert (await asked(path="/livez")).status == 200
    assert not [fact for fact in heard if isinstance(fact, RequestBlocked)]


async def test_http_1_0_needs_no_host_where_none_is_asked_for(asked):
    """As its standard has it; where hosts are named, who names none is not one of them."""
    assert (await asked(http_version="1.0", allowed="")).status == 200
    assert (await asked(http_version="1.0")).status == 400


def test_each_rule_is_shown_before_it_is_met():
    """A count that begins at its first hit hides that hit."""
    registry = Registry()
    HostGuard(HostSettings(allowed=("x.example",)), Blocked(registry, now=lambda: 0.0))
    shown = {tuple(labels) for labels, _ in registry.snapshot()[BLOCKED.name]["sets"]}

    assert shown == {
        ("host", rule, "report") for rule in ("missing", "repeated", "malformed", "unlisted")
    }


def test_what_is_told_of_a_megabyte_is_short():
    """However long the Host is."""
    blocked = Blocked(Registry(), now=lambda: 0.0)
    guard = HostGuard(HostSettings(mode="enforce"), blocked)
    scope = {**http_scope(), "headers": [(b"host", b"x" * 1_000_000)]}
    call = Call(Line(fine, (), answers=None, route_of=str, now=lambda: 0.0), scope, None, None)

    with pytest.raises(HostMalformed):
        guard.enter(call)
    assert len(blocked.last()[0].because) < 200


def test_production_is_asked_to_name_its_hosts(hull):
    """It is a remark, and nothing is refused for it."""

    def asked(**said):
        remarks = hull(fine, **{"SHIPWORTHY_ENV": "production", **said}).remarks
        return [remark for remark in remarks if "hosts.allowed" in remark]

    assert len(asked()) == 1
    assert not asked(SHIPWORTHY_HOSTS__ALLOWED="*")
    assert not asked(SHIPWORTHY_HOSTS__MODE="off")
    assert not asked(SHIPWORTHY_ENV="development")
