"""The watchdog: a call whose peer has fallen silent ends at its deadline, on every driver."""

import asyncio
import gc
import threading
import time
import weakref
from contextlib import ExitStack, contextmanager, suppress
from math import inf
from urllib.parse import urlsplit, urlunsplit

import pytest
from sqlalchemy import create_engine, event as sa_event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from lateness import Lateness
from shipworthy.context import deadline_scope
from shipworthy.db import DbSettings, protect
from shipworthy.db.watchdog import WATCHDOG, Alarm, CallWatch, LoopWatch
from shipworthy.faults import FaultProxy, Silence

GUARD_SECONDS = 20.0
LENGTH_SECONDS = 0.4


class Relay:
    """The fault proxy in front of the server of a URL."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._ends = ExitStack()

    def __enter__(self):
        parts = self._parts
        self._proxy = self._ends.enter_context(FaultProxy.in_thread(parts.hostname, parts.port))
        user = parts.netloc.rpartition("@")[0]
        address = f"{user}@127.0.0.1:{self._proxy.port}"
        self.url = urlunsplit(parts._replace(netloc=address))
        return self

    def __exit__(self, *error):
        self._ends.__exit__(*error)

    def fall_silent(self):
        self._proxy.apply(Silence())


@contextmanager
def kept():
    """The watchdog's thread, as long as somebody needs it."""
    WATCHDOG.keep()
    try:
        yield
    finally:
        WATCHDOG.leave(join=True)


def test_a_call_is_cut_at_its_deadline_and_says_what_it_was():
    """The cut happens in the watchdog's thread; the span's end tells what was cut."""
    cut = threading.Event()
    watch = CallWatch(cut.set)
    with kept():
        before = watch.begin(time.monotonic() + 0.02, "statement")
        assert cut.wait(5)
        fired = watch.end(before)

    assert fired == "statement"
    assert watch.at == inf


def test_a_call_that_ended_is_not_cut():
    """Once its span has ended, nothing happens at the deadline."""
    cut = threading.Event()
    watch = CallWatch(cut.set)
    with kept():
        fired = watch.end(watch.begin(time.monotonic() + 0.02, "statement"))
        assert not cut.wait(0.06)

    assert fired == ""


def test_a_cut_that_found_nothing_is_made_again_until_the_span_ends():
    """In the middle of a connect there may be nothing to cut yet; its deadline is not lost."""
    cuts, third = [], threading.Event()

    def cut():
        cuts.append(time.monotonic())
        if len(cuts) == 3:
            third.set()

    watch = CallWatch(cut)
    with kept():
        before = watch.begin(time.monotonic() + 0.02, "connect")
        assert third.wait(5)
        inner = watch.begin(time.monotonic() + 50, "statement")
        bounded = watch.at < time.monotonic() + 1
        fired = watch.end(inner)
        watch.end(before)
        ended = len(cuts)
        assert not threading.Event().wait(0.2)

    assert bounded
    assert fired == "connect"
    assert len(cuts) == ended


def test_a_cut_that_fails_is_said_and_made_again_and_ends_no_other(caplog):
    """One thread looks after all; what fails for one connection must not end it for the rest."""
    cuts, again, other = [], threading.Event(), threading.Event()

    def cut():
        cuts.append(1)
        if len(cuts) == 2:
            again.set()
        raise LookupError("torn")

    first, second = CallWatch(cut), CallWatch(other.set)
    with kept():
        before = first.begin(time.monotonic() + 0.01, "statement")
        then = second.begin(time.monotonic() + 0.02, "statement")
        assert again.wait(5)
        assert other.wait(5)
        ends = (first.end(before), second.end(then))

    assert ends == ("statement", "statement")
    assert "a deadline could not be kept" in caplog.text
    assert "torn" in caplog.text


def test_a_span_that_nobody_ends_is_not_cut_for_ever():
    """A connection that was given up takes its watch with it: the cuts come to an end."""

    class ByHand(CallWatch):
        def queue(self):
            """Nobody looks but the test."""

    cuts = []
    watch = ByHand(lambda: cuts.append(1))
    watch.begin(10.0, "connect")
    now = 10.0
    while watch.at != inf:
        now = watch.at
        watch.fire(now)

    assert len(cuts) == 11
    assert 20 < now - 10.0 < 21


def test_an_inner_span_can_only_be_shorter_and_the_outer_comes_back():
    """A statement within the time of a connect ends by the connect's deadline."""
    watch = CallWatch(lambda: None)
    now = time.monotonic()
    with kept():
        outer = watch.begin(now + 50, "connect")
        inner = watch.begin(now + 90, "statement")
        assert (watch.at, watch.what) == (now + 50, "connect")
        watch.end(inner)
        inner = watch.begin(now + 20, "statement")
        assert (watch.at, watch.what) == (now + 20, "statement")
        watch.end(inner)
        assert (watch.at, watch.what) == (now + 50, "connect")
        watch.end(outer)


def test_an_outer_span_is_kept_even_after_the_heap_looked_past_it():
    """A deadline that comes back when a span ends is looked at in time."""
    cut = threading.Event()
    watch = CallWatch(cut.set)
    watch.at, watch.what = time.monotonic() + 0.03, "connect"
    outer = (watch.at, watch.what)
    with kept():
        watch.at = inf
        watch.end(outer)
        assert cut.wait(5)


def test_an_alarm_rings_once_at_the_last_instant_it_was_set_to():
    """Set later, it rings later; set earlier, earlier; and once."""
    rung = []

    class Owner:
        def ring(self, now):
            rung.append(now)
            done.set()

    done, owner = threading.Event(), Owner()
    alarm = Alarm(owner.ring)
    began = time.monotonic()
    with kept():
        alarm.set(began + 50)
        alarm.set(began + 0.02)
        assert done.wait(5)

    assert len(rung) == 1
    assert rung[0] >= began + 0.02


def test_an_alarm_does_not_keep_its_owner():
    """Whoever is gone before it rings is not called."""

    class Owner:
        def ring(self, now):
            raise AssertionError

    owner = Owner()
    alarm, watched = Alarm(owner.ring), weakref.ref(owner)
    del owner
    gc.collect()

    alarm.fire(0.0)

    assert watched() is None


def test_the_thread_ends_with_the_last_who_needs_it():
    """Two keep it, one leaves: it stays; the other leaves: it is gone."""
    WATCHDOG.keep()
    with kept():
        CallWatch(lambda: None).begin(time.monotonic() + 50, "statement")
        alive = [t.name for t in threading.enumerate() if t.name == "shipworthy-db-watchdog"]
    still = [t.name for t in threading.enumerate() if t.name == "shipworthy-db-watchdog"]
    WATCHDOG.leave(join=True)

    assert (len(alive), len(still)) == (1, 1)
    assert "shipworthy-db-watchdog" not in {t.name for t in threading.enumerate()}


def test_a_watch_of_a_loop_cuts_in_the_loop():
    """In an event loop no thread is needed: the loop's own timer cuts."""

    async def work():
        cut = asyncio.Event()
        watch = LoopWatch(cut.set, asyncio.get_running_loop())
        before = watch.begin(time.monotonic() + 50, "connect")
        inner = watch.begin(time.monotonic() + 0.02, "statement")
        async with asyncio.timeout(5):
            await cut.wait()
        fired = watch.end(inner)
        lifted = watch.end(before)
        return fired, lifted

    assert asyncio.run(work()) == ("statement", "")


def test_a_watch_of_a_loop_that_moved_later_waits_for_the_later():
    """The timer rings at the first instant, sees the later one, and is set again."""

    async def work():
        cut = asyncio.Event()
        watch = LoopWatch(cut.set, asyncio.get_running_loop())
        began = time.monotonic()
        watch.end(watch.begin(began + 0.01, "statement"))
        before = watch.begin(began + 0.05, "statement")
        async with asyncio.timeout(5):
            await cut.wait()
        watch.end(before)
        return time.monotonic() - began

    assert asyncio.run(work()) >= 0.05


# -- real drivers --


def silenced(driver, url):
    """Ask a peer that has just fallen silent, and return how long it took, and the error."""
    settings = DbSettings(statement_seconds=0.0, reset_seconds=LENGTH_SECONDS)
    with Relay(url) as relay:
        through = relay.url.replace("+psycopg", f"+{driver}").replace("+pymysql", f"+{driver}")
        if driver in {"psycopg", "pymysql"}:
            engine = create_engine(through)
            protection = protect(engine, settings=settings)
            try:
                with engine.connect() as connection:
                    connection.execute(text("SELECT 1"))
                    relay.fall_silent()
                    began = time.monotonic()
                    try:
                        with deadline_scope(began + LENGTH_SECONDS):
                            connection.execute(text("SELECT 2"))
                    except Exception as error:
                        return time.monotonic() - began, error
            finally:
                protection.undo()
                engine.dispose()
            return inf, None

        async def work():
            engine = create_async_engine(through)
            protection = protect(engine, settings=settings)
            try:
                async with asyncio.timeout(GUARD_SECONDS), engine.connect() as connection:
                    await connection.execute(text("SELECT 1"))
                    relay.fall_silent()
                    began = time.monotonic()
                    try:
                        with deadline_scope(began + LENGTH_SECONDS):
                            await connection.execute(text("SELECT 2"))
                    except Exception as error:
                        return time.monotonic() - began, error
            finally:
                protection.undo()
                await engine.dispose()
            return inf, None

        return asyncio.run(work())


def holds_its_deadline(driver, url):
    with Lateness() as late:
        seconds, error = silenced(driver, url)

    assert isinstance(error, DBAPIError)
    assert error.connection_invalidated
    assert error.__shipworthy_cut__ > 0
    assert LENGTH_SECONDS <= seconds < LENGTH_SECONDS + late.allowed_seconds


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "asyncpg"])
def test_postgresql_drivers_leave_a_silent_peer_at_the_deadline(driver, postgres_url):
    """The driver is back in time, with its own error of a lost connection, and says it was cut."""
    holds_its_deadline(driver, postgres_url)


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["pymysql", "asyncmy"])
def test_mariadb_drivers_leave_a_silent_peer_at_the_deadline(driver, mariadb_url):
    """The driver is back in time, with its own error of a lost connection, and says it was cut."""
    holds_its_deadline(driver, mariadb_url)


@pytest.mark.slow
def test_a_check_before_use_does_not_hang_on_a_silent_peer(postgres_url):
    """pool_pre_ping asks a connection whose peer fell silent: bounded as a connect is."""
    with Relay(postgres_url) as relay, Lateness() as late:
        engine = create_engine(relay.url, pool_pre_ping=True)
        protection = protect(engine, settings=DbSettings(connect_seconds=0.3))
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
        relay.fall_silent()
        began = time.monotonic()
        with pytest.raises(DBAPIError):
            engine.connect()
        seconds = time.monotonic() - began
        protection.undo()
        engine.dispose()

    # The check, then the connect that takes the place of what did not answer.
    assert seconds < 2 * (0.3 + late.allowed_seconds)


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["psycopg", "psycopg_async", "asyncpg", "pymysql", "asyncmy"])
def test_a_connect_whose_deadline_passes_before_the_driver_begins_is_over_soon(
    driver, postgres_url, mariadb_url
):
    """An application may take its time in `do_connect`, for a token: the deadline still holds."""
    with Relay(mariadb_url if "my" in driver else postgres_url) as relay, Lateness() as late:
        through = relay.url.replace("+psycopg", f"+{driver}").replace("+pymysql", f"+{driver}")
        asynchronous = driver not in {"psycopg", "pymysql"}
        engine = (create_async_engine if asynchronous else create_engine)(through)
        sync = engine.sync_engine if asynchronous else engine
        protection = protect(engine)

        @sa_event.listens_for(sync, "do_connect")
        def fetch(*_):
            threading.Event().wait(0.2)

        relay.fall_silent()

        async def work():
            async with asyncio.timeout(GUARD_SECONDS):
                try:
                    with suppress(Exception), deadline_scope(time.monotonic() + 0.1):
                        await engine.connect()
                finally:
                    await engine.dispose()

        began = time.monotonic()
        if asynchronous:
            asyncio.run(work())
        else:
            with suppress(Exception), deadline_scope(time.monotonic() + 0.1):
                engine.connect()
            engine.dispose()
        seconds = time.monotonic() - began
        protection.undo()

    assert seconds < 1.0 + late.allowed_seconds


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["psycopg", "pymysql"])
def test_returning_a_connection_of_a_silent_peer_is_bounded(driver, postgres_url, mariadb_url):
    """The rollback on return ends at its own deadline, and the connection is thrown away."""
    with Relay(postgres_url if driver == "psycopg" else mariadb_url) as relay, Lateness() as late:
        engine = create_engine(relay.url, pool_size=1, max_overflow=0)
        protection = protect(engine, settings=DbSettings(reset_seconds=0.2))
        connection = engine.connect()
        connection.execute(text("SELECT 1"))
        relay.fall_silent()
        began = time.monotonic()
        with suppress(DBAPIError):
            connection.close()
        seconds = time.monotonic() - began
        in_use = protection.statistics().in_use
        protection.undo()
        engine.dispose()

    assert seconds < 0.2 + late.allowed_seconds
    assert in_use == 0
