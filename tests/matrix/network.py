"""Faults of the network, the same for every server: provoked by a proxy on the way."""

from collections.abc import Callable
from typing import Any

from matrix.stage import Fault, Stage, run
from shipworthy.db import Outcome
from shipworthy.faults import COMMIT, Cut, Direction, FaultProxy, HalfClose, Refuse, Reset, Silence

FAULTS: list[Fault] = []
LOOPS = ("asyncpg", "asyncmy")


def fault(name: str, expected: Outcome, *, only: tuple[str, ...] = ()) -> Callable[[Any], Any]:
    """Add a fault."""

    def add(provoke: Callable[[Stage, Any, Any], object]) -> Callable[[Stage, Any, Any], object]:
        def through_proxy(stage: Stage) -> object:
            proxy = stage.enter(FaultProxy.in_thread(stage.url.host, stage.url.port))
            url = stage.url.set(host="127.0.0.1", port=proxy.port)
            return provoke(stage, proxy, url)

        FAULTS.append(Fault(name, expected, through_proxy, frozenset(only)))
        return provoke

    return add


def asleep(stage: Stage, seconds: int) -> str:
    """A statement that takes its time."""
    postgres = stage.url.get_backend_name() == "postgresql"
    return f"SELECT pg_sleep({seconds})" if postgres else f"SELECT SLEEP({seconds})"


UPDATE = "UPDATE account SET amount = 7"


@fault("the network resets in the middle of a statement", Outcome.LOST)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    with stage.engine(url).begin() as connection:
        run(connection, UPDATE)
        stage.meanwhile(lambda: proxy.apply(Reset()), after_seconds=0.2)
        run(connection, asleep(stage, 3))


@fault("the connection ends in the middle of a statement", Outcome.LOST)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    with stage.engine(url).begin() as connection:
        stage.meanwhile(lambda: proxy.apply(Cut()), after_seconds=0.2)
        run(connection, asleep(stage, 3))


@fault("only the way back ends in the middle of a statement", Outcome.LOST)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    with stage.engine(url).begin() as connection:
        stage.meanwhile(lambda: proxy.apply(HalfClose(direction=Direction.DOWN)), after_seconds=0.2)
        run(connection, asleep(stage, 3))


@fault("the connection ends in the middle of a result", Outcome.LOST)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    with stage.engine(url).begin() as connection:
        run(connection, "SELECT 1")
        proxy.apply(Cut(direction=Direction.DOWN, after_bytes=20_000))
        run(connection, "SELECT repeat('x', 500000)").all()


@fault("the connection ends in the pool, then is used", Outcome.LOST)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    engine = stage.engine(url)
    with engine.connect() as connection:
        run(connection, "SELECT 1")
    proxy.cut_all()
    stage.pause(0.1)
    with engine.connect() as connection:
        run(connection, "SELECT 1")


@fault("COMMIT does not arrive", Outcome.AMBIGUOUS)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    with stage.engine(url).begin() as connection:
        run(connection, UPDATE)
        proxy.apply(Cut(direction=Direction.UP, at=COMMIT))


@fault("COMMIT arrives, its answer does not", Outcome.AMBIGUOUS)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    with stage.engine(url).begin() as connection:
        run(connection, UPDATE)
        proxy.apply(Cut(direction=Direction.DOWN, answer_to=COMMIT))


@fault("COMMIT arrives, its answer meets a reset", Outcome.AMBIGUOUS)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    with stage.engine(url).begin() as connection:
        run(connection, UPDATE)
        proxy.apply(Reset(answer_to=COMMIT))


@fault("silence after COMMIT, and a caller who does not wait", Outcome.AMBIGUOUS, only=LOOPS)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    engine = stage.engine(url)

    def work() -> None:
        with engine.begin() as connection:
            run(connection, UPDATE)
            proxy.apply(Silence(answer_to=COMMIT))
            # asyncpg waits for the server when it is cancelled.
            stage.meanwhile(proxy.cut_all, after_seconds=0.8)

    stage.within(0.3, work)


@fault("the answer to a write in autocommit does not arrive", Outcome.AMBIGUOUS)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    engine = stage.engine(url).execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        run(connection, "SELECT 1")
        proxy.apply(Cut(direction=Direction.DOWN, answer_to=b"UPDATE account"))
        run(connection, UPDATE)


@fault("silence in a statement, then the connection ends", Outcome.LOST)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    with stage.engine(url).begin() as connection:
        run(connection, "SELECT 1")
        proxy.apply(Silence())
        stage.meanwhile(proxy.cut_all, after_seconds=0.4)
        run(connection, "SELECT 1")


@fault("connect: refused on the way", Outcome.NOT_SENT)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    proxy.apply(Refuse())
    stage.engine(url).connect()


@fault("connect: reset in the handshake", Outcome.NOT_SENT)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    proxy.apply(Reset(direction=Direction.DOWN, after_bytes=20))
    stage.engine(url).connect()


@fault("connect: ended in the handshake", Outcome.NOT_SENT)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    proxy.apply(Cut(direction=Direction.DOWN, after_bytes=5))
    stage.engine(url).connect()


@fault("pre-ping meets a dead connection and a refused one", Outcome.NOT_SENT)
def _(stage: Stage, proxy: Any, url: Any) -> None:
    engine = stage.engine(url, pool_pre_ping=True)
    with engine.connect() as connection:
        run(connection, "SELECT 1")
    proxy.apply(Refuse())
    proxy.cut_all()
    stage.pause(0.1)
    engine.connect()
