"""COMMIT on the wire, as real drivers say it: cut before and after the server has it."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import closing

import asyncmy
import asyncpg
import psycopg
import pymysql
import pytest
from drivers import Server
from ends import PATIENCE_SECONDS, read

from shipworthy.faults import (
    COMMIT,
    MARIADB_COMMIT,
    POSTGRES_COMMIT,
    POSTGRES_COMMIT_ANSWER,
    REDIS_EXEC,
    Cut,
    Direction,
    Fault,
    FaultProxy,
    Reset,
    Silence,
)

HOST = "127.0.0.1"
INSERT = "INSERT INTO ledger VALUES (1)"


def write_by_psycopg(server: Server, port: int) -> None:
    with closing(psycopg.connect(server.psycopg(port))) as connection:
        connection.execute(INSERT)
        connection.commit()


def write_by_asyncpg(server: Server, port: int) -> None:
    async def write() -> None:
        connection = await asyncpg.connect(**server.asyncpg(port))
        try:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(INSERT)
            await transaction.commit()
        finally:
            connection.terminate()

    asyncio.run(write())


def write_by_pymysql(server: Server, port: int) -> None:
    connection = pymysql.connect(**server.mysql(port), read_timeout=PATIENCE_SECONDS)
    try:
        connection.cursor().execute(INSERT)
        connection.commit()
    finally:
        connection._force_close()


def write_by_asyncmy(server: Server, port: int) -> None:
    async def write() -> None:
        connection = await asyncmy.connect(**server.mysql(port))
        try:
            async with connection.cursor() as cursor:
                await cursor.execute(INSERT)
            await connection.commit()
        finally:
            connection.close()

    asyncio.run(write())


Write = Callable[[Server, int], None]
WRITES = {
    "psycopg": write_by_psycopg,
    "asyncpg": write_by_asyncpg,
    "pymysql": write_by_pymysql,
    "asyncmy": write_by_asyncmy,
}


@pytest.fixture(params=sorted(WRITES))
def write(request: pytest.FixtureRequest) -> Write:
    """How a driver inserts one row and commits."""
    return WRITES[request.param]


@pytest.fixture
def ledger(write: Write, request: pytest.FixtureRequest) -> Server:
    """The driver's server, with an empty table."""
    postgres = write in {write_by_psycopg, write_by_asyncpg}
    server = Server.of(request.getfixturevalue("postgres_url" if postgres else "mariadb_url"))
    told(server, "CREATE TABLE ledger (id INT)")
    return server


def test_the_server_is_found_by_the_commit_of_its_driver(ledger: Server, write: Write) -> None:
    """Without faults the row is there: what follows is the doing of the cut."""
    with FaultProxy.in_thread(HOST, ledger.port) as proxy:
        write(ledger, proxy.port)

    assert rows(ledger) == 1


@pytest.mark.parametrize("end", [Cut, Reset])
def test_a_commit_that_is_cut_before_the_server_has_it_wrote_nothing(
    ledger: Server, write: Write, end: type[Cut | Reset]
) -> None:
    """The driver reports an error, and 0 rows are there."""
    with FaultProxy.in_thread(HOST, ledger.port) as proxy:
        proxy.apply(end(at=COMMIT, direction=Direction.UP))

        with pytest.raises(Exception):
            write(ledger, proxy.port)

        assert harms(proxy) == [end.__name__.lower()]
    assert rows(ledger) == 0


@pytest.mark.parametrize("end", [Cut, Reset])
def test_a_commit_whose_answer_is_cut_wrote_its_row(
    ledger: Server, write: Write, end: type[Cut | Reset]
) -> None:
    """The driver reports an error, and 1 row is there: whoever tries again writes it twice."""
    with FaultProxy.in_thread(HOST, ledger.port) as proxy:
        proxy.apply(end(answer_to=COMMIT, times=1))

        with pytest.raises(Exception):
            write(ledger, proxy.port)
        assert rows(ledger) == 1
        write(ledger, proxy.port)

        assert harms(proxy) == [end.__name__.lower()]
    assert rows(ledger) == 2


def test_the_caller_cannot_tell_the_two_apart(ledger: Server, write: Write) -> None:
    """The exceptions are of one type and say the same; only asking the server helps."""
    seen = []
    for fault in (Cut(at=COMMIT, direction=Direction.UP), Cut(answer_to=COMMIT)):
        with FaultProxy.in_thread(HOST, ledger.port) as proxy:
            proxy.apply(fault)
            with pytest.raises(Exception) as broken:
                write(ledger, proxy.port)
        seen.append((type(broken.value), str(broken.value)))

    assert seen[0] == seen[1]
    assert rows(ledger) == 1


@pytest.mark.parametrize("before", [True, False])
def test_the_answer_to_commit_of_postgresql_has_a_pattern_of_its_own(
    postgres_url: str, *, before: bool
) -> None:
    """Cut before it the client has an error; behind it the client knows, and the row is there."""
    server = Server.of(postgres_url)
    told(server, "CREATE TABLE ledger (id INT)")
    with FaultProxy.in_thread(HOST, server.port) as proxy:
        proxy.apply(Cut(at=POSTGRES_COMMIT_ANSWER, direction=Direction.DOWN, before=before))

        # The answer is CommandComplete and ReadyForQuery; libpq waits for both.
        with pytest.raises(psycopg.OperationalError):
            write_by_psycopg(server, proxy.port)

        assert harms(proxy) == ["cut"]
    assert rows(server) == 1


def test_an_answer_to_commit_may_also_never_come(ledger: Server, write: Write) -> None:
    """Silence instead of a cut: the row is there while its writer still waits."""
    with FaultProxy.in_thread(HOST, ledger.port) as proxy:
        proxy.apply(Silence(answer_to=COMMIT))
        waiting = asyncio.run(_waiting(write, ledger, proxy))

    assert waiting
    assert rows(ledger) == 1


@pytest.mark.parametrize(
    ("fault", "written"), [(Cut(at=COMMIT), b"$-1\r\n"), (Cut(answer_to=COMMIT), b"$1\r\n1\r\n")]
)
def test_exec_of_redis_is_cut_in_the_same_two_places(
    redis_port: int, fault: Fault, written: bytes
) -> None:
    """Before: nothing was set. After: it was, and the client heard nothing of it."""
    key = f"ship:faults:{id(fault)}"
    try:
        with FaultProxy.in_thread(HOST, redis_port) as proxy:
            proxy.apply(fault)
            with socket.create_connection((HOST, proxy.port), timeout=PATIENCE_SECONDS) as client:
                client.sendall(resp("MULTI") + resp("SET", key, "1"))
                assert read(client, 14) == b"+OK\r\n+QUEUED\r\n"
                client.sendall(resp("EXEC"))
                assert read(client, 1) == b""

        assert asked(redis_port, resp("GET", key), len(written)) == written
    finally:
        asked(redis_port, resp("DEL", key), 4)


def test_the_constants_are_what_goes_over_the_wire() -> None:
    """Written out once, so that a change of the builders is seen."""
    assert POSTGRES_COMMIT[0] == b"Q\x00\x00\x00\x0bCOMMIT\x00"
    assert POSTGRES_COMMIT[1] == b"Q\x00\x00\x00\x0cCOMMIT;\x00"
    assert MARIADB_COMMIT[0] == b"\x07\x00\x00\x00\x03COMMIT"
    assert REDIS_EXEC[0] == resp("EXEC")
    assert {*POSTGRES_COMMIT, *MARIADB_COMMIT, *REDIS_EXEC} == {*COMMIT}


def resp(*words: str) -> bytes:
    return "".join(
        [f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words)]
    ).encode()


def asked(port: int, command: bytes, count: int) -> bytes:
    with socket.create_connection((HOST, port), timeout=PATIENCE_SECONDS) as client:
        client.sendall(command)
        return read(client, count)


def harms(proxy: FaultProxy) -> list[str]:
    return [happening.what for happening in proxy.log if happening.what not in {"opened", "closed"}]


def rows(server: Server) -> int:
    return told(server, "SELECT COUNT(*) FROM ledger")


def told(server: Server, statement: str) -> int:
    """Run a statement on a connection of its own, past the proxy."""
    if server.user == "postgres":
        with psycopg.connect(server.psycopg(server.port), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchone()[0] if cursor.description else 0
    with (
        pymysql.connect(**server.mysql(server.port), autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
        return cursor.fetchone()[0] if cursor.description else 0


async def _waiting(write: Write, server: Server, proxy: FaultProxy) -> bool:
    """Whether the writer still waits once the answer has been withheld; ended afterwards."""
    writer = asyncio.ensure_future(asyncio.to_thread(write, server, proxy.port))
    give_up = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while not harms(proxy) and asyncio.get_running_loop().time() < give_up:
        await asyncio.sleep(0.005)
    waits = not writer.done()
    proxy.cut_all()
    await asyncio.gather(writer, return_exceptions=True)
    return waits
