"""`shipworthy run` of services nobody changed, while their database is harmed: from the front door.

Each service is written as people write them (`apps/orders_fastapi.py`, `apps/orders_flask.py`), and
the fault proxy stands between it and a real server.
"""

import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from flows.callers import SLACK_SECONDS, harmed, milliseconds
from lateness import Lateness
from serve.launch import BRISK, During, started
from shipworthy.faults import Refuse, Silence

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

APPS = Path(__file__).parent / "apps"
FASTAPI, FLASK = "orders_fastapi.py:app", "orders_flask.py:app"
CONNECT_SECONDS, STATEMENT_SECONDS = 0.8, 1.0
# Short, so that to meet them costs the suite little.
LIMITS = f"""
[db]
connect = "{CONNECT_SECONDS}s"
checkout = "1s"
statement = "{STATEMENT_SECONDS}s"
statement_warn = "500ms"
"""
SLEEP = "SELECT pg_sleep(:seconds)"
apps = pytest.mark.parametrize("app", [FASTAPI, FLASK], ids=["FastAPI", "Flask"])


@contextmanager
def served(app, url, tmp_path, *, settings=LIMITS, **environ):
    """The service under `run`, ready to be asked."""
    environ = {"DATABASE": url, "SLEEP": SLEEP, **environ}
    with started(
        f"{APPS / app}", directory=tmp_path, settings=BRISK + settings, environ=environ
    ) as service:
        yield service.until_ready()


@contextmanager
def behind_proxy(app, url, tmp_path, **options):
    """The same, with a proxy in front of its database."""
    with harmed(url) as (proxy, through):
        address = through.render_as_string(hide_password=False)
        with served(app, address, tmp_path, **options) as service:
            yield service, proxy


def timed(ask):
    """What came, and after how long."""
    began = time.monotonic()
    answer = ask()
    return answer, time.monotonic() - began


def until_status(service, path, status, seconds=15.0):
    """Ask until the answer has a status; return how long that took."""
    began = time.monotonic()
    while (answer := service.get(path)).status_code != status:
        assert time.monotonic() - began < seconds, (answer.status_code, service.out[-2000:])
        time.sleep(0.05)
    return time.monotonic() - began


def is_problem(answer, *statuses):
    """An RFC 9457 problem that says nothing of the inside."""
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    if answer.status_code == 503:
        assert int(answer.headers["retry-after"]) >= 1
    for secret in ("postgres", "mariadb", "127.0.0.1", "psycopg", "pymysql", "SELECT", ".py"):
        assert secret not in answer.text


def metric(service, line):
    """The value of one line of /metrics, 0 where there is none."""
    text = httpx.get(f"{service.operations}/metrics").text
    found = [float(one.rsplit(" ", 1)[1]) for one in text.splitlines() if one.startswith(line)]
    return sum(found)


@pytest.mark.parametrize(
    ("app", "server"),
    [(FASTAPI, "postgres_url"), (FLASK, "mariadb_url")],
    ids=["FastAPI, PostgreSQL", "Flask, MariaDB"],
)
def test_a_silent_database_is_answered_for_within_the_deadline(
    app, server, request, tmp_path, record_property
):
    """A problem in time, and in between everything else is served as ever."""
    with behind_proxy(app, request.getfixturevalue(server), tmp_path) as (service, proxy):
        assert service.get("/orders/1").status_code == 200
        with Lateness() as late:
            proxy.apply(Silence())
            during = During(service, "/orders/2")
            still, still_took = timed(lambda: service.get("/still"))
            first, took = timed(during.result)
            new, new_took = timed(lambda: service.get("/orders/3"))
            write, write_took = timed(lambda: httpx.post(service.url + "/orders/4", timeout=20))
            live = service.get("/livez")
        proxy.clear()
        back = until_status(service, "/orders/5", 200)
        service.signal()
        code = service.ended()

    record_property("the first is answered after, s", round(took, 2))
    record_property("the next, a read, after, s", round(new_took, 2))
    record_property("the next, a write, after, s", round(write_took, 2))
    record_property("served again after, s", round(back, 2))
    for answer in (first, new, write):
        is_problem(answer, 503, 504)
    lateness = late.allowed_seconds + SLACK_SECONDS
    # A connect that has used up its time is not tried again, not even for a read.
    for seconds in (new_took, write_took):
        assert seconds < CONNECT_SECONDS + lateness
    assert still.status_code == live.status_code == 200
    assert still_took < STATEMENT_SECONDS + late.allowed_seconds
    assert code == 0


@apps
def test_a_database_that_refuses_opens_the_breaker_and_is_taken_back_by_itself(
    app, postgres_url, tmp_path, record_property
):
    """After a handful of refusals the answer comes at once, and /metrics says why."""
    with behind_proxy(app, postgres_url, tmp_path) as (service, proxy):
        assert service.get("/orders/1").status_code == 200
        proxy.apply(Refuse())
        proxy.cut_all()
        refused = [service.get(f"/orders/{number}") for number in range(8)]
        with Lateness() as late:
            # Writes: a read may be held back until the database is there again (`web.replay`).
            quick = [timed(lambda: httpx.post(service.url + "/orders/9")) for _ in range(20)]
        _, read_took = timed(lambda: service.get("/orders/9"))
        opened = metric(service, 'shipworthy_breaker_state{breaker="db:main",state="closed"}') == 0
        not_made = metric(
            service, 'shipworthy_breaker_calls_total{breaker="db:main",outcome="refused"}'
        )
        proxy.clear()
        back = until_status(service, "/orders/5", 200)
        began = time.monotonic()
        while not metric(service, 'shipworthy_breaker_state{breaker="db:main",state="closed"}'):
            assert time.monotonic() - began < 10
            service.get("/orders/6")
        closed_after = time.monotonic() - began
        service.signal()
        service.ended()

    seconds = sorted(took for _, took in quick)
    record_property("a write is refused after, median, ms", milliseconds(seconds[10]))
    record_property("a read after, ms", milliseconds(read_took))
    record_property("served again after, s", round(back, 2))
    for answer in (*refused, *(answer for answer, _ in quick)):
        is_problem(answer, 503)
    assert opened
    assert not_made >= 20
    assert seconds[10] < 0.1 + late.seconds
    assert back < 3.0 + late.seconds
    assert closed_after < 10
    assert "resilience.breaker_changed" in service.out


@apps
def test_a_nested_checkout_is_refused_at_once(app, postgres_url, tmp_path, record_property):
    """All connections are held by requests that want one more: one is told, the others served."""
    with served(app, postgres_url, tmp_path, POOL="1") as service:
        assert service.get("/orders/1").status_code == 200
        with Lateness() as late:
            answer, took = timed(lambda: service.get("/nested"))
        after = service.get("/orders/2")
        deadlocks = metric(service, "shipworthy_pool_deadlocks_total")
        service.signal()
        service.ended()

    record_property("answered after, ms", milliseconds(took))
    is_problem(answer, 503)
    assert took < 0.5 + late.seconds
    assert after.status_code == 200
    assert deadlocks == 1
    name = app.partition(":")[0]
    [found] = [line for line in service.lines() if line.get("event") == "db.deadlock_found"]
    assert name in found["asked_at"]
    assert name in found["held_at"]


def test_a_required_database_turns_readiness_within_five_seconds_and_back(
    postgres_url, tmp_path, record_property
):
    """Liveness never asks: a restart would not bring the database back."""
    settings = LIMITS + 'required = ["main"]\n'
    with behind_proxy(FASTAPI, postgres_url, tmp_path, settings=settings) as (service, proxy):
        until_status(service, "/readyz", 200)
        proxy.apply(Silence())
        gone = until_status(service, "/readyz", 503)
        live = service.get("/livez").status_code
        # The supervisor asks the worker from time to time.
        service.until(lambda: httpx.get(f"{service.operations}/readyz").status_code == 503, 5.0)
        live_there = httpx.get(f"{service.operations}/livez").status_code
        proxy.clear()
        back = until_status(service, "/readyz", 200)
        proxy.apply(Refuse())
        proxy.cut_all()
        refused = until_status(service, "/readyz", 503)
        service.signal()
        service.ended()

    record_property("silent: not ready after, s", round(gone, 2))
    record_property("refused: not ready after, s", round(refused, 2))
    record_property("ready again after, s", round(back, 2))
    assert gone < 5.0
    assert refused < 5.0
    assert back < 5.0
    assert (live, live_there) == (200, 200)


@pytest.mark.parametrize("mode", ["report", "off"])
def test_where_nothing_is_enforced_the_service_waits_as_it_does_bare(mode, postgres_url, tmp_path):
    """A statement over the limit is let finish, and the pool waits for its own timeout."""
    settings = LIMITS.replace("[db]", f'[db]\nmode = "{mode}"')
    with behind_proxy(
        FASTAPI, postgres_url, tmp_path, settings=settings, POOL="1", POOL_TIMEOUT="1.5"
    ) as (service, proxy):
        slow, slow_took = timed(lambda: service.get("/slow?seconds=1.6"))
        nested, nested_took = timed(lambda: service.get("/nested"))
        proxy.apply(Silence())
        during = During(service, "/orders/2")
        time.sleep(2 * STATEMENT_SECONDS)
        waits = during.answer is None
        proxy.clear()
        after = during.result()
        proxy.apply(Refuse())
        proxy.cut_all()
        refused = [service.get(f"/orders/{number}") for number in range(12)]
        metrics = httpx.get(f"{service.operations}/metrics").text
        service.signal()
        service.ended()

    assert (slow.status_code, waits, after.status_code) == (200, True, 200)
    assert slow_took >= 1.6
    assert nested.status_code == 503
    assert nested_took >= 1.5
    # Off, nobody notes in which phase an error came, so a lost connection may have been a COMMIT.
    lost = {500, 503} if mode == "off" else {503}
    assert {answer.status_code for answer in refused} <= lost
    assert "psycopg" in service.out  # each met the driver's own error: none was refused by us
    assert "DatabaseRefused" not in service.out
    assert ("db.statement_slow" in service.out) == (mode == "report")
    assert ("resilience.breaker_would_open" in service.out) == (mode == "report")
    assert ('shipworthy_pool_capacity{engine="main"}' in metrics) == (mode == "report")


def wrong_addresses(postgres_url, mariadb_url):
    """An address for each part that may be wrong; what its sentence must say."""
    postgres = make_url(postgres_url).set(drivername="postgresql+psycopg", password="s3cret-word")
    mariadb = make_url(mariadb_url).set(password="s3cret-word")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        closed = nobody.getsockname()[1]
    found = {
        "dialect": (postgres.set(drivername="postgrs+psycopg"), "postgrs"),
        "driver": (postgres.set(drivername="postgresql+psycopg9"), "psycopg9"),
        "user": (postgres.set(username="nobody-here"), "nobody-here"),
        "password": (mariadb, "Access denied"),
        "host": (postgres.set(host="db.invalid"), "db.invalid"),
        "port": (postgres.set(port=closed), str(closed)),
        "database": (postgres.set(database="not_there"), "not_there"),
        "option": (postgres.update_query_dict({"sslmood": "require"}), "sslmood"),
    }
    return {
        part: (url.render_as_string(hide_password=False), says)
        for part, (url, says) in found.items()
    }


def test_an_address_that_is_wrong_in_any_part_is_one_sentence_and_no_secret(
    postgres_url, mariadb_url, tmp_path, record_property
):
    """The log says which part; the client learns that it failed, and nothing else."""
    wrong = wrong_addresses(postgres_url, mariadb_url)
    addresses = json.dumps({part: url for part, (url, _) in wrong.items()})
    with started(
        f"{APPS / 'addresses.py:app'}",
        directory=tmp_path,
        settings=BRISK + LIMITS,
        environ={"ADDRESSES": addresses},
    ) as service:
        service.until_ready()
        answers = {part: timed(lambda part=part: service.get(f"/with/{part}")) for part in wrong}
        service.signal()
        service.ended()

    errors = {
        line["request_id"]: line
        for line in service.lines()
        if line.get("event") == "web.exception_unhandled"
    }
    for part, (answer, took) in answers.items():
        is_problem(answer, 500, 503)
        record_property(f"{part}: answered", answer.status_code)
        assert took < 5.0
        said = errors[answer.headers["x-request-id"]]["error"]
        assert wrong[part][1] in said, (part, said)
    assert "s3cret-word" not in service.out + service.err
    # What others can cure is worth another try; what only its owner can is not.
    assert {part: answer.status_code for part, (answer, _) in answers.items()} == {
        "dialect": 500,
        "driver": 500,
        "user": 500,
        "password": 500,
        "host": 503,
        "port": 503,
        "database": 500,
        "option": 500,
    }


def test_an_address_that_no_engine_can_be_made_of_stops_the_start(tmp_path):
    """Where the service makes its engine when it is imported, `run` says why, and ends with 3."""
    with started(
        f"{APPS / FASTAPI}",
        directory=tmp_path,
        settings=BRISK,
        environ={"DATABASE": "postgrs+psycopg://service:s3cret-word@127.0.0.1/orders"},
    ) as service:
        code = service.ended()

    assert code == 3
    assert "postgrs" in service.err + service.out
    assert "s3cret-word" not in service.err + service.out


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ('[db]\nstatement = "2s"\nstatement_warn = "3s"\n', "db.statement_warn = 3 s"),
        ('[db]\ncheckout = "-1s"\n', "db.checkout"),
        ('[db]\nstatement = "5 parsecs"\n', "db.statement"),
        ('[resilience]\nopen = "1m"\n', "resilience.open_cap (30 s) is shorter"),
        ("[resilience]\nfailure_ratio = 0\n", "resilience.failure_ratio"),
        ('[db]\nurl = "nonsense"\n', "db.url: it cannot be read; its form is postgresql+psycopg"),
    ],
)
def test_numbers_that_contradict_each_other_stop_the_start(settings, says, tmp_path):
    """Every one is refused with its name, before anything of the service is imported."""
    with started(
        f"{APPS / FASTAPI}",
        directory=tmp_path,
        settings=settings,
        environ={"DATABASE": "sqlite://"},
    ) as service:
        code = service.ended()

    assert code == 78
    assert says in service.err


def test_a_deadline_below_the_time_to_connect_is_not_refused_but_holds(
    postgres_url, tmp_path, record_property
):
    """`db.checkout` bounds the wait for a permit; a connect has its own limit beside it."""
    settings = '\n[db]\ncheckout = "200ms"\nconnect = "1500ms"\n'
    with behind_proxy(FASTAPI, postgres_url, tmp_path, settings=settings) as (service, proxy):
        proxy.apply(Silence())
        with Lateness() as late:
            answer, took = timed(lambda: service.get("/orders/1"))
        service.signal()
        service.ended()

    record_property("answered after, s", round(took, 2))
    is_problem(answer, 503, 504)
    assert 1.4 < took < 1.5 + late.allowed_seconds + SLACK_SECONDS


def test_a_pool_that_is_larger_than_the_server_allows_is_not_refused_but_told(
    postgres_url, tmp_path
):
    """The server says that it has no slot left, and that is answered as an overload."""
    url = make_url(postgres_url)
    role, name = f"role_{url.database}", url.database
    with psycopg.connect(_plain(url), autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 2")
        owner.execute(f"GRANT ALL ON DATABASE {name} TO {role}")
    try:
        address = url.set(username=role).render_as_string(hide_password=False)
        with served(FASTAPI, address, tmp_path, POOL="20", settings="") as service:
            with ThreadPoolExecutor(8) as threads:
                answers = list(threads.map(lambda _: service.get("/slow?seconds=0.5"), range(8)))
            service.signal()
            service.ended()
    finally:
        with psycopg.connect(_plain(url), autocommit=True) as owner:
            owner.execute(f"REVOKE ALL ON DATABASE {name} FROM {role}")
            owner.execute(f"DROP ROLE {role}")

    statuses = [answer.status_code for answer in answers]
    assert statuses.count(200) >= 1
    assert set(statuses) <= {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            is_problem(answer, 503)


def _plain(url):
    return url.set(drivername="postgresql").render_as_string(hide_password=False)
