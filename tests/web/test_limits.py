"""The rate limits as a guard: who is charged, who is refused, and what both are told."""

import asyncio
import json

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from shipworthy.admission import LimitsSettings
from shipworthy.clock import ManualClock
from shipworthy.settings import load
from shipworthy.store import BucketsUnavailable, MemoryBuckets
from shipworthy.telemetry import Registry
from shipworthy.web import (
    ActorFinder,
    ActorSettings,
    Blocked,
    ClientSettings,
    Correlation,
    Forwarded,
    LimitsGuard,
    Line,
    Problems,
    RequestBlocked,
    limits as guard_module,
)

pytestmark = pytest.mark.anyio


def settings(tmp_path, text):
    (tmp_path / "shipworthy.toml").write_text(text)
    found = load(directory=tmp_path, environ={}).of(LimitsSettings)
    assert found.refusals("production") == []
    return found


class Away:
    """A store that can be told to be away; it counts how often it was asked."""

    def __init__(self, clock):
        self.kept = MemoryBuckets(now_ns=lambda: int(clock.now() * 1e9))
        self.away = False
        self.asked = 0
        self.closed = False

    async def take(self, asks):
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise BucketsUnavailable("no answer in 50 ms")
        return self.kept.take_now(asks)

    async def give_back(self, asks):
        if self.away:
            raise BucketsUnavailable("no answer in 50 ms")
        self.kept.give_back_now(asks)

    async def close(self):
        self.closed = True


class Probing:
    """A guard that says that a call is a probe, as `Probes` does for its own paths."""

    def enter(self, call):
        call.probe = call.scope["path"] == "/livez"


class Service:
    """An application behind the limits of a text; `status` is what it answers."""

    def __init__(self, found, *, store=None, templates=None, actors=None):
        self.status = 200
        self.served = 0
        self.clock = ManualClock()
        self.registry = Registry()
        self.blocked = Blocked(self.registry, now=self.clock.now)
        self.store = store(self.clock) if store else None
        self.guard = LimitsGuard(
            self.registry,
            self.blocked,
            found,
            template_of=templates or (lambda path: "_unmatched"),
            now=self.clock.now,
            asks_always=actors is not None,
            buckets=self.store or MemoryBuckets(now_ns=lambda: int(self.clock.now() * 1e9)),
        )
        named = actors.of(ActorSettings) if actors else ActorSettings()
        forwarded = Forwarded(actors.of(ClientSettings) if actors else ClientSettings())
        facts = ActorFinder(named, lambda scope: "", forwarded=forwarded)
        self.line = Line(
            self._answer,
            (Correlation(facts), Probing(), self.guard),
            answers=Problems(mode="enforce", development=True, leaving=lambda: False),
            route_of=lambda scope: "_unmatched",
            now=self.clock.now,
        )

    async def _answer(self, scope, receive, send):
        self.served += 1
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            return
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})


@pytest.fixture
def service(tmp_path):
    def make(text, **more):
        return Service(settings(tmp_path, text), **more)

    return make


def client(address):
    return {"client": (address, 40_000)}


TWO = """
[limits]
mode = "enforce"
[limits.policies.default]
rate = "2/minute"
burst = 2
"""


async def test_who_asks_too_often_is_told_when_to_come_again_and_is_taken_then(service, ask):
    """429, a problem, and a Retry-After that is neither too early nor later than it must be."""
    found = service(TWO)
    for left in (1, 0):
        told = await ask(found.line)
        assert told.status == 200
        assert told.one(b"ratelimit-policy") == b'"default";q=2;w=60'
        assert told.one(b"ratelimit").startswith(b'"default";r=%d;t=' % left)
        assert told.all(b"retry-after") == []

    refused = await ask(found.line)
    problem = json.loads(refused.body)

    assert (refused.status, found.served) == (429, 2)
    assert refused.one(b"content-type") == b"application/problem+json"
    assert (problem["type"], problem["status"]) == ("urn:shipworthy:problem:limitreached", 429)
    assert problem["detail"] == "too many requests; the next one is taken in 30 s"
    assert refused.one(b"retry-after") == b"30"
    assert refused.one(b"ratelimit") == b'"default";r=0;t=30'
    found.clock.advance(29.99)
    assert (await ask(found.line)).status == 429
    found.clock.advance(0.01)
    assert (await ask(found.line)).status == 200


async def test_every_way_to_write_an_address_of_one_network_is_charged_to_one(service, ask):
    """Of IPv6 the first 64 bits count; IPv4 written as IPv6 is IPv4. Others are others."""
    found = service(TWO)
    for address in ("2001:db8::1", "2001:db8::2:0:0:1"):
        assert (await ask(found.line, **client(address))).status == 200
    assert (await ask(found.line, **client("2001:db8::ffff"))).status == 429
    for address in ("192.0.2.1", "::ffff:192.0.2.1"):
        assert (await ask(found.line, **client(address))).status == 200
    assert (await ask(found.line, **client("::FFFF:c000:201"))).status == 429
    assert (await ask(found.line, **client("192.0.2.2"))).status == 200


async def test_another_path_is_no_way_around_a_limit(service, ask):
    """Nothing of a URL is part of the key: /items/1 and /items/2, found or not, are one bucket."""
    found = service(TWO)
    for path in ("/items/1", "/nowhere"):
        assert (await ask(found.line, path)).status == 200
    for path in ("/items/2", "/elsewhere", "//items/1/"):
        assert (await ask(found.line, path)).status == 429


async def test_a_limit_for_each_route_has_one_for_all_that_match_none(service, ask):
    """The template counts, so ids are one; and paths that nobody serves are one too."""
    routes = Starlette(routes=[Route("/items/{id}", lambda request: None), Route("/about", id)])
    from shipworthy.web import routes_of

    found = service(TWO + "per_route = true\n", templates=routes_of(routes).match)
    for path in ("/items/1", "/items/2", "/about", "/about", "/x", "/y"):
        assert (await ask(found.line, path)).status == 200
    for path in ("/items/3", "/about", "/z"):
        assert (await ask(found.line, path)).status == 429


async def test_a_policy_is_meant_below_where_the_application_is_mounted(service, ask):
    """A path that only begins alike is none below it."""
    found = service(
        "[limits]\nmode = 'enforce'\n[limits.policies.a]\nmatch = ['/a']\nrate = '1/30d'\n"
    )
    for path, status in (("/api/a", 200), ("/api/a", 429), ("/apia", 200), ("/a", 429)):
        told = await ask(found.line, path, root_path="/api")
        assert told.status == status
    assert json.loads(told.body)["detail"].endswith("is taken in 2592000 s")


async def test_probes_are_not_limited(service, ask):
    """Whoever asks whether the service lives is answered."""
    found = service(TWO)
    for _ in range(9):
        assert (await ask(found.line, "/livez")).status == 200


async def test_in_report_nobody_is_refused_and_it_is_told(service, ask, heard):
    """No header says anything of a limit that does not hold."""
    found = service(TWO.replace("enforce", "report"))
    for _ in range(5):
        told = await ask(found.line)
        assert told.status == 200
        assert told.all(b"ratelimit") + told.all(b"ratelimit-policy") == []
    blocked = found.blocked.last()
    assert [(one.guard, one.rule, one.mode) for one in blocked] == [
        ("limits", "default", "report")
    ] * 3
    assert "policy 'default' allows 2/minute, 2 at once" in blocked[0].because
    assert [type(fact) for fact in heard] == [RequestBlocked]


async def test_all_limits_of_a_request_are_charged_or_none_is(service, ask):
    """What the narrow one refuses costs nothing in the wide one; both are told of."""
    found = service(
        TWO.replace("2/minute", "10/minute").replace("burst = 2", "burst = 10")
        + "[limits.policies.search]\nmatch = ['GET /search*']\nrate = '1/minute'\n"
    )
    assert (await ask(found.line, "/search")).status == 200
    for _ in range(3):
        refused = await ask(found.line, "/search/more")
        assert refused.status == 429
        assert refused.one(b"ratelimit-policy") == b'"default";q=10;w=60, "search";q=1;w=60'
        assert b'"default";r=9' in refused.one(b"ratelimit")
    assert b'"default";r=8' in (await ask(found.line, "/other")).one(b"ratelimit")
    assert (await ask(found.line, "/search", method="POST")).status == 200


async def test_a_policy_may_stand_in_the_place_of_the_default(service, ask):
    """So that one route may be asked for more often than the others."""
    found = service(
        TWO + "[limits.policies.feed]\nmatch = ['/feed']\nrate = '50/minute'\nburst = 50\n"
        "with_default = false\n"
    )
    for _ in range(20):
        assert (await ask(found.line, "/feed")).status == 200
    assert (await ask(found.line, "/other")).one(b"ratelimit").startswith(b'"default";r=1')


async def test_a_user_is_charged_wherever_he_asks_from(service, ask, tmp_path):
    """And ten users behind one address do not starve each other; a made-up name is nobody's."""
    actors = load(
        environ={
            "SHIPWORTHY_ACTOR__FROM": "header:x-user",
            "SHIPWORTHY_CLIENT__TRUSTED_PROXIES": "10.0.0.7",
        },
        directory=tmp_path,
    )
    found = service(TWO, actors=actors)
    for number in range(10):
        user = {"headers": [(b"x-user", b"u%d" % number)]}
        for _ in range(2):
            assert (await ask(found.line, **user)).status == 200
        assert (await ask(found.line, **user)).status == 429
    for number in range(10):
        told = await ask(found.line, headers=[(b"x-user", b"v%d" % number)], **client("10.9.9.9"))
        assert told.status == (200 if number < 2 else 429)


async def test_keys_that_are_made_up_are_charged_to_the_network(service, ask):
    """Otherwise each new key would be a new limit; one that was accepted has one of its own."""
    found = service(TWO)
    found.status = 401
    for number in range(6):
        told = await ask(found.line, headers=[(b"x-api-key", b"guess %d" % number)])
        assert told.status == (401 if number < 2 else 429)
    found.status = 200
    home = client("10.0.0.8")
    good = {"headers": [(b"x-api-key", b"a good key")], **home}
    for status in (200, 200, 200, 429):
        # The first is charged to the network, because nobody knows the key yet.
        assert (await ask(found.line, **good)).status == status
    assert (await ask(found.line, **home)).status == 200
    assert (await ask(found.line, **home)).status == 429


async def test_keys_of_a_route_that_asks_for_none_have_a_roof(service, ask):
    """Where every key is accepted, all of a network are together ten times one, and not more."""
    found = service(TWO)
    passed = 0
    for number in range(200):
        for _ in range(3):
            key = {"headers": [(b"x-api-key", b"key %d" % (number % 40))]}
            passed += (await ask(found.line, **key)).status == 200
    assert passed <= 2 + 20


async def test_a_key_of_a_megabyte_costs_no_memory(service, ask):
    """It is hashed: neither what is charged nor what is at hand holds it."""
    found = service(TWO)
    for number in range(4):
        key = b"%d" % number + b"k" * 1_000_000
        await ask(found.line, headers=[(b"x-api-key", key)], **client(f"10.1.0.{number}"))
    assert all(len(key) == 30 for key in found.guard._local._known)
    assert all(len(key) == 30 for key in found.guard._accepted)
    assert all(len(place[2]) <= 128 for place in found.guard._force.kept)


async def test_what_is_at_hand_is_bounded(service, ask, monkeypatch):
    """Addresses and keys that are made up push others out, and are never more than so many."""
    monkeypatch.setattr(guard_module, "_KEPT_MOST", 10)
    monkeypatch.setattr(guard_module, "_ACCEPTED_MOST", 10)
    found = service(TWO)
    for number in range(60):
        key = [(b"x-api-key", b"%d" % number)]
        assert (await ask(found.line, headers=key, **client(f"10.1.0.{number}"))).status == 200
    assert len(found.guard._force.kept) <= 10
    assert len(found.guard._accepted) == 10
    assert found.guard._calls == {}


async def test_a_client_without_an_address_is_told_of_and_not_thrown_together(service, ask, heard):
    """Behind a Unix socket all would be one client; that is said once."""
    found = service(TWO)
    for _ in range(5):
        assert (await ask(found.line, client=None)).status == 200
    assert [type(fact).__name__ for fact in heard] == ["ClientUnknown"]


FAILURES = """
[limits]
mode = "enforce"
[limits.policies.login]
match = ["POST /login"]
algorithm = "exact"
rate = "3/15m"
count = "failures"
"""


@pytest.mark.parametrize("store", [None, Away])
async def test_only_failures_count_where_that_is_asked_for(service, ask, store):
    """Whoever gets in is charged nothing; one who guesses has so many guesses, exactly."""
    found = service(FAILURES, store=store)

    async def login(status):
        found.status = status
        told = await ask(found.line, "/login", method="POST")
        await asyncio.gather(*found.guard._later)
        return told.status

    for _ in range(20):
        assert await login(200) == 200
    assert [await login(status) for status in (401, 200, 422, 500, 400)] == [
        401, 200, 422, 500, 400,
    ]  # fmt: skip
    assert await login(200) == 429
    found.clock.advance(15 * 60)
    assert await login(401) == 401


async def test_whoever_leaves_before_the_answer_has_not_taken_his_failure_back(service, ask):
    """Else a guess would cost nothing to one who hangs up in time."""
    found = service(FAILURES)

    async def hears(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass

    found.line.app, answer = hears, found.line.app
    for _ in range(3):
        assert (await ask(found.line, "/login", method="POST", leaves=True)).sent == []
    found.line.app = answer
    assert (await ask(found.line, "/login", method="POST")).status == 429
    assert found.guard._calls == {}


async def test_a_cost_counts_for_so_many_and_is_told_in_requests(service, ask):
    """A client reckons with requests, so what is left is said in them."""
    found = service(
        TWO.replace("2/minute", "10/minute").replace("burst = 2", "burst = 10\ncost = 5")
    )
    assert (await ask(found.line)).one(b"ratelimit") == b'"default";r=1;t=30'
    assert (await ask(found.line)).one(b"ratelimit-policy") == b'"default";q=2;w=60'
    assert (await ask(found.line)).status == 429


async def test_a_tier_is_allowed_more(service, ask):
    """By the user or by the network, in the policies that name it."""
    found = service(
        TWO + "tiers = ['gold']\n[limits.tiers.gold]\nnetworks = ['10.0.0.9']\nmultiply = 3\n"
    )
    gold = [(await ask(found.line, **client("10.0.0.9"))) for _ in range(7)]
    assert [told.status for told in gold] == [200] * 6 + [429]
    assert gold[0].one(b"ratelimit-policy") == b'"default";q=6;w=60'
    other = [(await ask(found.line, **client("10.0.0.8"))).status for _ in range(3)]
    assert other == [200, 200, 429]


async def test_handshakes_of_websockets_are_limited_too(service, ask):
    """By a policy of their own, and by those for every request."""
    found = service(TWO + "[limits.policies.chat]\nmatch = ['WS /chat']\nrate = '1/minute'\n")
    handshake = {
        "type": "websocket",
        "extensions": {"websocket.http.response": {}},
        "subprotocols": [],
    }
    taken = await ask(found.line, "/chat", **handshake)
    assert taken.sent[0]["type"] == "websocket.accept"
    assert taken.one(b"ratelimit-policy") == b'"default";q=2;w=60, "chat";q=1;w=60'
    refused = await ask(found.line, "/chat", **handshake)
    assert (refused.status, refused.one(b"retry-after")) == (429, b"60")
    assert (await ask(found.line, "/chat", method="GET")).status == 200


async def test_a_client_has_no_more_open_at_once_than_a_policy_allows(service, ask):
    """Websockets as requests; what has ended makes room, and what was refused took none."""
    found = service(
        "[limits]\nmode = 'enforce'\n[limits.policies.chat]\nmatch = ['/chat']\n"
        "rate = '500/minute'\nconcurrent = 2\n"
    )
    go = asyncio.Event()
    answer = found.line.app

    async def long(scope, receive, send):
        await go.wait()
        await answer(scope, receive, send)

    found.line.app = long
    tasks = [asyncio.create_task(ask(found.line, "/chat")) for _ in range(2)]
    tasks.append(asyncio.create_task(ask(found.line, "/chat", **client("10.0.0.8"))))
    await asyncio.sleep(0)
    handshake = {"type": "websocket", "extensions": {"websocket.http.response": {}}}
    for _ in range(3):
        refused = await ask(found.line, "/chat", **handshake)
        assert (refused.status, refused.one(b"retry-after")) == (429, b"1")
    go.set()
    assert [(await task).status for task in tasks] == [200] * 3
    assert (await ask(found.line, "/chat", **handshake)).sent[0]["type"] == "websocket.accept"
    assert found.guard._open == found.guard._opened == {}
    assert "allows 2 to be open at once" in found.blocked.last()[0].because


async def test_in_report_more_may_be_open_and_it_is_told(service, ask):
    """And they are counted out as they were counted in."""
    found = service("[limits.policies.all]\nrate = '500/minute'\nconcurrent = 1\n")
    go = asyncio.Event()
    answer = found.line.app

    async def long(scope, receive, send):
        await go.wait()
        await answer(scope, receive, send)

    found.line.app = long
    tasks = [asyncio.create_task(ask(found.line)) for _ in range(3)]
    await asyncio.sleep(0)
    go.set()
    assert [(await task).status for task in tasks] == [200] * 3
    assert len(found.blocked.last()) == 2
    assert found.guard._open == {}


@pytest.mark.parametrize(
    ("policy", "statuses"),
    [
        ("on_store_down = 'open'", [200, 200, 200, 200]),
        ("on_store_down = 'closed'", [503, 503, 503, 503]),
        ("on_store_down = 'local'", [200, 429, 429, 429]),
    ],
)
async def test_a_store_that_is_away_leaves_it_to_each_policy(service, ask, heard, policy, statuses):
    """Pass, 503, or each process its share; one event when it goes, and one when it is back."""
    found = service(
        TWO.replace('mode = "enforce"', 'mode = "enforce"\nshare_of = 2') + policy, store=Away
    )
    check = found.guard.check()
    assert (await ask(found.line)).status == 200
    assert await check.ask() is None
    found.store.away = True
    assert [(await ask(found.line)).status for _ in statuses] == statuses
    # One asked it, the others knew.
    assert found.store.asked == 2
    assert "no answer in 50 ms" in await check.ask()
    found.clock.advance(guard_module.PAUSE_SECONDS)
    await ask(found.line)
    found.store.away = False
    found.clock.advance(guard_module.PAUSE_SECONDS)
    assert (await ask(found.line)).status == 200
    assert (await ask(found.line)).status == 429
    names = [type(fact).__name__ for fact in heard]
    assert names.count("LimitsStoreLost") == names.count("LimitsStoreBack") == 1
    assert await check.ask() is None
    await found.guard.stop()
    assert found.store.closed


async def test_with_a_shared_store_reports_are_asked_by_themselves(service, ask):
    """A policy that only watches must not keep another from being charged."""
    found = service(
        TWO + "[limits.policies.watch]\nrate = '1/minute'\nmode = 'report'\n", store=Away
    )
    assert [(await ask(found.line)).status for _ in range(3)] == [200, 200, 429]
    assert [one.rule for one in found.blocked.last()] == ["watch", "watch", "default"]


async def test_limits_change_while_requests_come(service, ask, tmp_path):
    """A policy that allows something else counts anew, the others count on; one may be gone."""
    day = "[limits.policies.day]\nrate = '4/day'\nburst = 4\nmatch = ['/a', '/b']\n"
    found = service(TWO + day)
    for _ in range(2):
        assert (await ask(found.line, "/a")).status == 200
    assert (await ask(found.line, "/a")).status == 429
    more = TWO.replace("2/minute", "2000/second").replace("burst = 2", "burst = 50")
    found.guard.change(settings(tmp_path, more + day))
    told = [(await ask(found.line, "/a")).status for _ in range(3)]
    assert told == [200, 200, 429]
    found.guard.change(settings(tmp_path, TWO + "mode = 'off'\n"))
    assert (await ask(found.line, "/a")).all(b"ratelimit") == []


async def test_a_route_that_looks_like_a_login_is_named_until_it_is_limited(service):
    """With what to write; one that no route serves is not named."""
    routes = Starlette(
        routes=[Route("/auth/login", id, methods=["POST"]), Route("/items/{id}", id)]
    )
    from shipworthy.web import routes_of

    match = routes_of(routes).match
    (told,) = service(TWO, templates=match).guard.advice()
    assert told.startswith("POST /auth/login looks like a login and is held to no exact limit")
    text = FAILURES.replace("POST /login", "POST /auth/login")
    assert service(text, templates=match).guard.advice() == []


async def test_under_the_hull_the_limits_report_unless_they_are_told_to_enforce(
    hull, ask, tmp_path
):
    """An application nobody changed refuses nobody by itself; two settings make it so."""
    app = FastAPI()

    @app.get("/items/{number}")
    async def item(number: int):
        return PlainTextResponse(str(number))

    reporting = hull(app, SHIPWORTHY_LIMITS__POLICIES__DEFAULT__RATE="1/hour")
    assert [(await ask(reporting, "/items/1")).status for _ in range(3)] == [200] * 3
    assert [one.route for one in reporting._hull.blocked.last()] == ["/items/{number}"] * 2

    enforcing = hull(
        app, SHIPWORTHY_LIMITS__MODE="enforce", SHIPWORTHY_LIMITS__POLICIES__DEFAULT__RATE="1/hour"
    )
    assert [(await ask(enforcing, "/items/1")).status for _ in range(3)] == [200, 429, 429]
    off = hull(app, SHIPWORTHY_LIMITS__MODE="off")
    assert off._hull._limits == ()
