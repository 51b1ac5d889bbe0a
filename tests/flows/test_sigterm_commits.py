"""SIGTERM while a service commits: no COMMIT is cut in two, and nobody is told what is not so.

A sample of what `evidence/sigterm_commits.py` does with 500 signals.
"""

import asyncio
import os
import socket
import struct
import threading
from contextlib import suppress

import psycopg
import pytest
import sqlalchemy as sa

from flows.sigterm_commits import CommitTap, signalled

pytestmark = pytest.mark.slow

SIGNALS = 25


@pytest.mark.timeout(180)
def test_l07_no_commit_is_interrupted_by_a_sigterm(postgres_url, tmp_path, record_property):
    """L07: each row is one whose client has its answer, or that we have flagged as lost."""
    told = signalled(postgres_url, tmp_path, SIGNALS)

    record_property("told", str(told))
    assert told.exact, told
    assert told.signals == SIGNALS
    # Else the signals came when nobody worked, and the fence was not asked.
    assert told.broken_off > SIGNALS
    assert told.spared, told


@pytest.mark.parametrize("how", ["close", "cancel"])
def test_the_tap_sees_a_commit_that_is_interrupted(postgres_url, how):
    """Its connection is closed, or the server asked to stop, before the answer has passed."""
    url = sa.make_url(postgres_url)
    with CommitTap.in_thread(url.host, url.port) as tap:
        through = postgres_url.replace("+psycopg", "").replace(f":{url.port}/", f":{tap.port}/")
        with psycopg.connect(through, autocommit=True) as one:
            one.execute("CREATE TABLE slow (id int PRIMARY KEY)")
            one.execute(
                "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN PERFORM pg_sleep(30); RETURN NULL; END $$"
            )
            one.execute(
                "CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON slow DEFERRABLE "
                "INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()"
            )
        one = psycopg.connect(through)
        one.execute("INSERT INTO slow VALUES (1)")
        thread = threading.Thread(target=_commit, args=(one,))
        thread.start()
        _until(lambda: tap.commits == 1)
        if how == "cancel":
            # By hand: libpq's own call would wait, with all our threads, for the tap's.
            asked = struct.pack("!iiii", 16, 80_877_102, one.info.backend_pid, 0)
            with socket.create_connection(("127.0.0.1", tap.port)) as other:
                other.sendall(asked)
                _until(lambda: tap.interrupted)
        _hang_up(one)
        _until(lambda: tap.interrupted)
        thread.join(10)
        one.close()

    assert (tap.commits, tap.answered, tap.interrupted, tap.late) == (1, 0, 1, 0)


def _hang_up(connection):
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


def _commit(connection):
    with suppress(psycopg.Error):
        connection.commit()


def _until(true):
    async def wait():
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.005)

    asyncio.run(wait())
