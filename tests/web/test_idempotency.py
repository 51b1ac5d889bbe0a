import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from shipworthy.clock import SYSTEM_CLOCK, ManualClock
from shipworthy.db import current_attempt, protect, strays
from shipworthy.db.idempotency import KeyStore
from shipworthy.db.tables import IDEMPOTENCY, install, remove
from shipworthy.telemetry import Registry
from shipworthy.web import (
    CommitUnfenced,
    Correlation,
    ExceptionUnhandled,
    Idempotency,
    IdempotencySettings,
    KeySeenAgain,
    KeysUnkept,
    Line,
    Problems,
    Replay,
)
from shipworthy.web.exchange import KEPT_BYTES
from web.conftest import ask_once

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("guarded")]


@pytest.fixture
def engine(tmp_path):
    """The application's database, with our tables, under guard."""
    made = sa.create_engine(f"sqlite:///{tmp_path}/app.db")
    protection = protect(made)
    with made.begin() as connection:
        install(connection)
        connection.execute(sa.text("CREATE TABLE orders (id INTEGER)"))
    yield made
    protection.undo()
    made.dispose()


@pytest.fixture
async def store(engine):
    made = KeyStore(engine.url.render_as_string(), seconds=5.0)
    yield made
    await made.close()


class Shop:
    """An application that takes orders, behind the guard of the keys."""

    def __init__(self, engine, store, handler=None, **settings):
        self.engine = engine
        self.clock = ManualClock(wall=1000.0)
        self.runs = 0
        self.bodies = []
        self.handler = handler or self.take
        app = Starlette(
            routes=[
                Route(path, self.endpoint, methods=["GET", "POST", "PUT", "PATCH"])
                for path in ("/orders", "/orders/{id}", "/others")
            ]
        )
        self.guard = Idempotency(
            IdempotencySettings(**({"mode": "enforce"} | settings)), store, wall=self.clock.wall
        )
        replay = Replay(
            Registry(),
            mode="enforce",
            methods=("GET",),
            within_seconds=10.0,
            now=SYSTEM_CLOCK.now,
            draw=lambda: 0.0,
        )
        self.line = Line(
            app,
            (Correlation(), self.guard, replay),
            answers=Problems(mode="enforce", development=False, leaving=lambda: False),
            route_of=lambda scope: "/orders",
            now=SYSTEM_CLOCK.now,
        )

    async def endpoint(self, request):
        self.runs += 1
        self.bodies.append(await request.body())
        return await self.handler(self.runs)

    def insert(self):
        with self.engine.begin() as connection:
            connection.execute(sa.text("INSERT INTO orders VALUES (1)"))

    async def take(self, run):
        await run_in_threadpool(self.insert)
        return PlainTextResponse(f"order {run}", 201, headers={"location": f"/orders/{run}"})

    def orders(self):
        with self.engine.connect() as connection:
            return connection.execute(sa.text("SELECT count(*) FROM orders")).scalar()

    def states(self):
        with self.engine.connect() as connection:
            return connection.scalars(sa.select(IDEMPOTENCY.c.state)).all()


@pytest.fixture
def shop(engine, store):
    return partial(Shop, engine, store)


@pytest.fixture
def post(ask):
    """Send a POST with a key."""

    async def send(shop, key=b"k", path="/orders", body=(b"two apples",), headers=(), **scope):
        said = [(b"idempotency-key", key)] if key is not None else []
        return await ask(
            shop.line, path, headers=[*said, *headers], body=body, **({"method": "POST"} | scope)
        )

    return send


def kinds(heard, kind):
    return [fact for fact in heard if isinstance(fact, kind)]


def kind_of(told):
    assert told.one(b"content-type") == b"application/problem+json"
    return json.loads(told.body)["type"].rpartition(":")[2]


async def test_a_request_that_comes_again_gets_its_answer_and_is_not_run(shop, post, heard):
    """Status, headers and body, and a header that says that it is told again."""
    shop = shop()

    first = await post(shop)
    again = await post(shop)

    assert (shop.runs, shop.orders(), shop.bodies) == (1, 1, [b"two apples"])
    assert (again.status, again.body) == (201, b"order 1")
    assert again.one(b"location") == b"/orders/1"
    assert again.one(b"content-length") == b"7"
    assert again.one(b"idempotency-replayed") == b"true"
    assert first.all(b"idempotency-replayed") == []
    assert first.one(b"x-request-id") != again.one(b"x-request-id")
    assert [fact.verdict for fact in kinds(heard, KeySeenAgain)] == ["there is an answer"]


async def test_another_key_is_another_request(shop, post):
    """And so is one without."""
    shop = shop()

    for key in (b"a", b"b", None, None):
        await post(shop, key)

    assert shop.orders() == 4


async def test_a_key_with_and_without_quotes_is_the_same(shop, post):
    """The draft wants the quotes, most clients do not send them."""
    shop = shop()
    await post(shop, b'"k"')

    assert (await post(shop, b"k")).one(b"idempotency-replayed") == b"true"


@pytest.mark.parametrize(
    "other",
    [
        {"body": [b"three apples"]},
        {"path": "/others"},
        {"method": "PATCH"},
        {"query_string": b"gift=1"},
    ],
)
async def test_a_key_of_another_request_is_refused(shop, post, other):
    """Body, path, method or query differ: 422, and nothing is run."""
    shop = shop()
    await post(shop)

    told = await post(shop, **other)

    assert (told.status, kind_of(told), shop.runs) == (422, "keyreused", 1)
    assert told.error is None, "a refusal is no error of the server's"


@pytest.mark.parametrize("header", [b"authorization", b"x-customer"])
async def test_a_client_never_gets_the_answer_of_another(shop, post, header):
    """The same key is another one for whoever has other credentials."""
    shop = shop(identity=("authorization", "x-customer"))
    await post(shop, headers=[(header, b"alice")])

    told = await post(shop, headers=[(header, b"bob")])

    assert (told.body, shop.orders()) == (b"order 2", 2)


@pytest.mark.parametrize("key", [b"", b"a,b", b"x" * 256])
async def test_a_key_that_cannot_be_one_is_refused(shop, post, key):
    """400, before anything is run."""
    shop = shop()

    told = await post(shop, key)

    assert (told.status, kind_of(told), shop.runs) == (400, "keyinvalid", 0)


async def test_two_keys_in_one_request_are_refused(shop, post):
    """Nobody can say which is meant."""
    shop = shop()

    told = await post(shop, headers=[(b"idempotency-key", b"other")])

    assert (told.status, shop.runs) == (400, 0)


async def test_a_route_may_need_a_key(shop, post, ask):
    """Exactly the paths that are set, and only for the methods that count."""
    shop = shop(required=("/orders", "/orders/*"))

    for path, status in (("/orders", 400), ("/orders/7", 400), ("/others", 201)):
        assert (await post(shop, None, path)).status == status
    assert kind_of(await post(shop, None)) == "keymissing"
    assert (await ask(shop.line, "/orders", method="PUT")).status == 201
    assert (await post(shop)).status == 201


async def test_methods_that_can_be_repeated_are_left_alone(shop, post):
    """Their key, if they have one, means nothing."""
    shop = shop()

    for method in ("PUT", "GET"):
        await post(shop, method=method)
        await post(shop, method=method)

    assert shop.runs == 4


async def test_a_request_in_flight_is_not_run_twice(shop, post):
    """409 and when to come again; afterwards the answer."""
    told = []

    async def slow(run):
        told.append(await post(shop))
        return await shop.take(run)

    shop = shop(slow)

    await post(shop)

    assert (told[0].status, kind_of(told[0])) == (409, "keyinflight")
    assert told[0].one(b"retry-after") == b"2"
    assert (shop.runs, shop.orders()) == (1, 1)
    assert (await post(shop)).body == b"order 1"


async def test_a_request_is_in_flight_until_its_background_work_is_done(shop, post):
    """The answer is kept when the application is over with it."""
    told = []

    async def with_more_to_do(run):
        response = await shop.take(run)

        async def later():
            told.append(await post(shop))

        response.background = later
        return response

    shop = shop(with_more_to_do)

    assert (await post(shop)).status == 201
    assert told[0].status == 409
    assert (await post(shop)).body == b"order 1"


async def test_a_request_whose_worker_is_gone_is_run_by_the_next(shop, post):
    """Its lease is over and nothing took effect; of the two only one commits."""
    second = []

    async def loses_its_lease(run):
        if run == 1:
            shop.clock.advance(61.0)
            second.append(await post(shop))
        return await shop.take(run)

    shop = shop(loses_its_lease)

    first = await post(shop)

    assert (second[0].status, second[0].body) == (201, b"order 2")
    assert (first.status, shop.orders()) == (500, 1)
    assert (await post(shop)).body == b"order 2"


async def test_a_request_that_took_effect_without_an_answer_is_never_run_again(shop, post):
    """Its worker died between COMMIT and answer: 409 that says so, once its lease is over."""
    shop = shop()

    async def dies(run):
        await run_in_threadpool(shop.insert)
        raise KeyboardInterrupt

    shop.handler = dies
    with pytest.raises(KeyboardInterrupt):
        await post(shop)

    assert shop.states() == ["applied"]
    assert (await post(shop)).status == 409
    shop.clock.advance(61.0)
    told = await post(shop)
    assert (told.status, kind_of(told), told.all(b"retry-after")) == (409, "keyanswerlost", [])
    assert (shop.runs, shop.orders()) == (1, 1)


async def test_a_failure_without_effect_releases_the_key(shop, post):
    """The client may send it again at once, and it is run."""

    async def fails_first(run):
        if run == 1:
            raise ZeroDivisionError
        if run == 2:
            return PlainTextResponse("not now", 503)
        return await shop.take(run)

    shop = shop(fails_first)

    assert [(await post(shop)).status for _ in range(4)] == [500, 503, 201, 201]
    assert (shop.runs, shop.orders()) == (3, 1)


async def test_a_failure_after_a_commit_is_kept(shop, post):
    """To run it again would do it again."""

    async def fails_later(run):
        await run_in_threadpool(shop.insert)
        return PlainTextResponse("half done", 500)

    shop = shop(fails_later)

    await post(shop)
    again = await post(shop)

    assert (again.status, again.body, shop.orders()) == (500, b"half done", 1)


async def test_what_the_client_did_wrong_is_kept(shop, post):
    """The same request would be wrong again; not so one that came too early."""

    async def refuses(run):
        return PlainTextResponse("no", 404 if shop.bodies[-1] == b"wrong" else 429)

    shop = shop(refuses)

    assert [(await post(shop, b"a", body=[b"wrong"])).status for _ in range(2)] == [404, 404]
    assert shop.runs == 1
    assert [(await post(shop, b"b")).status for _ in range(2)] == [429, 429]
    assert shop.runs == 3


async def test_headers_of_one_exchange_are_not_told_again(shop, post):
    """No second session for whoever sends it again."""

    async def sets_cookie(run):
        return Response(b"", 204, headers={"set-cookie": "s=1", "etag": '"1"'})

    shop = shop(sets_cookie)
    await post(shop)

    again = await post(shop)

    assert (again.all(b"set-cookie"), again.all(b"etag")) == ([], [b'"1"'])


async def test_an_answer_too_long_to_keep_is_not_made_twice(shop, post):
    """The client that lost it is told so."""

    async def long(run):
        async def parts():
            for _ in range(3):
                yield b"x" * (KEPT_BYTES // 2)

        return StreamingResponse(parts())

    shop = shop(long)

    assert len((await post(shop)).body) > KEPT_BYTES
    again = await post(shop)
    assert (again.status, kind_of(again), shop.runs) == (409, "keyanswerlost", 1)


async def test_a_long_body_passes_and_is_told_from_another(shop, post):
    """By its beginning and its length."""
    shop = shop()
    body = [b"x" * KEPT_BYTES, b"y" * 10]
    length = (b"content-length", b"%d" % sum(map(len, body)))

    await post(shop, body=body, headers=[length])
    assert (await post(shop, body=body, headers=[length])).body == b"order 1"
    other = await post(shop, body=[*body, b"z"], headers=[(b"content-length", b"1")])

    assert shop.bodies == [b"".join(body)]
    assert other.status == 422


async def test_a_request_that_holds_a_key_is_replayed_after_a_failure(shop, post):
    """A deadlock rolled it back: it is run again, and one client sees one answer."""

    async def conflicts_once(run):
        if run == 1:
            error = sa.exc.OperationalError("", None, ConnectionResetError())
            error.__shipworthy_phase__ = "statement"
            current_attempt().failed(error)
            raise error
        return await shop.take(run)

    shop = shop(conflicts_once)

    told = await post(shop)

    assert (told.status, told.body, shop.runs, shop.orders()) == (201, b"order 2", 2, 1)
    assert (await post(shop)).body == b"order 2"


async def test_a_commit_that_was_lost_elsewhere_may_have_taken_effect(shop, post):
    """No mark tells, so it is not run again; where our mark would tell, it is asked."""

    async def loses(run):
        error = ConnectionResetError()
        error.__shipworthy_phase__ = "commit"
        current_attempt().failed(error)
        raise error

    shop = shop(loses)
    await post(shop)

    assert (await post(shop)).status == 409
    assert shop.states() == ["applied"]


async def test_a_commit_that_went_to_another_database_is_told(shop, post, heard, tmp_path):
    """Its answer is kept as well as can be: after it, not with it."""
    other = sa.create_engine(f"sqlite:///{tmp_path}/other.db")

    def elsewhere():
        with other.begin() as connection:
            connection.execute(sa.text("CREATE TABLE things (id INTEGER)"))

    async def writes_elsewhere(run):
        await run_in_threadpool(elsewhere)
        return PlainTextResponse("there")

    shop = shop(writes_elsewhere)
    await post(shop)
    other.dispose()

    assert [fact.route for fact in kinds(heard, CommitUnfenced)] == ["/orders"]
    assert (await post(shop)).body == b"there"


async def test_an_answer_is_forgotten_when_its_time_is_over(shop, post):
    """Then the key is new."""
    shop = shop(keep_seconds=3600.0)
    await post(shop)
    shop.clock.advance(3600.0)

    assert (await post(shop)).body == b"order 2"


async def test_report_runs_everything_and_tells(shop, post, heard):
    """What would have been said is in the log; nobody is refused, not even a COMMIT."""
    shop = shop(mode="report", required=("/orders",))

    statuses = [(await post(shop)).status for _ in range(2)]
    statuses += [(await post(shop, body=[b"other"])).status, (await post(shop, None)).status]

    assert statuses == [201] * 4
    assert shop.runs == 4
    assert [(fact.verdict, fact.mode) for fact in kinds(heard, KeySeenAgain)] == [
        ("there is an answer", "report"),
        ("the key stands for another request", "report"),
    ]


@pytest.mark.parametrize(("policy", "status"), [("refuse", 503), ("pass", 201)])
async def test_without_its_table_a_key_is_refused_or_ignored(shop, post, heard, policy, status):
    """As is set; a request without a key is served."""
    shop = shop(without_table=policy)
    with shop.engine.begin() as connection:
        remove(connection)

    await shop.guard.start()
    assert "shipworthy db migrate" in kinds(heard, KeysUnkept)[-1].because
    told = await post(shop)

    assert told.status == status
    assert (await post(shop, None)).status == 201
    if policy == "refuse":
        assert kind_of(told) == "keysunavailable"
        assert told.one(b"retry-after") == b"1"
        assert b"migrate" not in told.body
    else:
        assert kinds(heard, KeysUnkept)[-1].what == "a key"


async def test_an_answer_that_cannot_be_kept_is_given_all_the_same(shop, post, heard):
    """And whoever sends the request again is told that it took effect."""

    async def answers_in_vain(run):
        response = await shop.take(run)
        with shop.engine.begin() as connection:
            connection.execute(sa.text("ALTER TABLE shipworthy_idempotency RENAME TO away"))
            # What the COMMIT of this is to mark.
            connection.execute(sa.text("CREATE TABLE shipworthy_idempotency AS SELECT * FROM away"))
            connection.execute(sa.text("ALTER TABLE shipworthy_idempotency DROP COLUMN body"))
        return response

    shop = shop(answers_in_vain)

    told = await post(shop)

    assert (told.status, told.body) == (201, b"order 1")
    assert [fact.what for fact in kinds(heard, KeysUnkept)] == ["an answer"]
    assert shop.states() == ["applied"]


async def test_a_start_with_everything_there_says_nothing(shop, heard):
    """And a server that is away is told, not raised: requests are taken all the same."""
    await shop().guard.start()
    assert not kinds(heard, KeysUnkept)

    away = KeyStore("postgresql+psycopg://nobody@127.0.0.1:1/none", seconds=5.0)
    guard = Idempotency(IdempotencySettings(mode="enforce"), away)
    await guard.start()
    await guard.stop()
    assert kinds(heard, KeysUnkept)[-1].what == "at start"


async def test_a_client_that_leaves_before_its_body_is_whole_runs_nothing(shop, post):
    """There is no request yet."""
    shop = shop()
    told = await post(shop, leaves=True, body=[])

    assert (told.status, shop.runs, shop.states()) == (0, 0, [])


async def test_a_cancelled_run_with_a_known_effect_is_not_run_again(shop, engine, tmp_path):
    """Its COMMIT went to another database, where there is no mark; the lease ends all the same."""
    begun = asyncio.Event()
    other = sa.create_engine(f"sqlite:///{tmp_path}/other.db")

    async def commits_elsewhere_and_waits(run):
        with other.begin() as connection:
            connection.execute(sa.text(f"CREATE TABLE run_{run} (id INTEGER)"))
        begun.set()
        await asyncio.Event().wait()

    shop = shop(commits_elsewhere_and_waits)
    headers = [(b"idempotency-key", b"k")]
    task = asyncio.create_task(ask_once(shop.line, "/orders", headers=headers, method="POST"))
    await begun.wait()
    task.cancel()
    await asyncio.wait({task})
    shop.clock.advance(3600.0)
    again = await ask_once(shop.line, "/orders", headers=headers, method="POST")
    other.dispose()

    assert (again.status, kind_of(again), shop.runs) == (409, "keyanswerlost", 1)


async def test_a_failure_after_a_commit_that_nobody_answers_for_is_not_run_again(shop, post):
    """An executor of the application's own carries nothing of the request."""
    with ThreadPoolExecutor(1) as executor:

        async def commits_and_fails(run):
            await asyncio.get_running_loop().run_in_executor(executor, shop.insert)
            raise ZeroDivisionError

        shop = shop(commits_and_fails)
        first, again = await post(shop), await post(shop)

    assert (first.status, again.status, shop.runs, shop.orders()) == (500, 409, 1, 1)


async def test_the_store_s_own_commits_are_nobody_s(shop, post):
    """Else keyed requests that run at once would keep each other's keys."""
    before = strays()

    await post(shop := shop())

    assert (strays() - before, shop.orders()) == (0, 1)


@pytest.mark.parametrize(
    ("one", "other", "runs"),
    [
        ([(b"cookie", b"session=a")], [(b"cookie", b"session=b")], 2),
        ([(b"cookie", b"session=a")], [(b"cookie", b"session=a")], 1),
        (
            [(b"authorization", b"a"), (b"cookie", b"seen=1")],
            [(b"authorization", b"a"), (b"cookie", b"seen=2")],
            1,
        ),
        ([(b"host", b"a.test")], [(b"host", b"b.test")], 2),
    ],
)
async def test_clients_are_told_apart_by_what_they_send(shop, post, one, other, runs):
    """By cookies where there is nothing better, and always by the host they ask."""
    shop = shop()

    await post(shop, headers=one)
    await post(shop, headers=other)

    assert shop.runs == runs


@pytest.mark.parametrize("path", ["/api/orders", "/orders"])
async def test_a_key_is_required_under_whatever_root(shop, post, path):
    """A proxy may strip the root, or not."""
    shop = shop(required=("/orders",))

    told = await post(shop, None, path=path, root_path="/api")

    assert (told.status, kind_of(told), shop.runs) == (400, "keymissing", 0)


@pytest.mark.parametrize("status", [401, 403, 407])
async def test_who_was_not_let_in_may_come_again(shop, post, status):
    """With a token that is good, and the same key."""

    async def lets_in_later(run):
        return PlainTextResponse("", status) if run == 1 else await shop.take(run)

    shop = shop(lets_in_later)

    assert [(await post(shop)).status for _ in range(2)] == [status, 201]


async def test_a_refusal_of_ours_is_none_of_the_application_s(shop, post, heard):
    """It was not asked: nothing is logged as its failure, and a POST may come again."""
    release, begun = asyncio.Event(), asyncio.Event()

    async def waits(run):
        begun.set()
        await release.wait()
        return await shop.take(run)

    shop = shop(waits)
    first = asyncio.create_task(post(shop))
    await begun.wait()
    told = await post(shop)
    release.set()
    await first

    assert (told.status, told.error, len(told.all(b"retry-after"))) == (409, None, 1)
    assert not kinds(heard, ExceptionUnhandled)
