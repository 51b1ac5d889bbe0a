"""Connections of our own: bounded like the application's, in none of its pools, shown nowhere.

For who works on the application's database beside it, with a connection or two: an engine that
comes and goes would leave a health check and rows of metrics that nobody has an engine for, or take
the name `main` from the application's. One that has a pool of its own, with connections that are
to be counted, is protected under a name instead.

Not here: the connection by which an engine that is shown is asked how it is (`prober`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from shipworthy.db.guard import Protection, unadopted
from shipworthy.db.settings import DbSettings
from shipworthy.resilience import ResilienceSettings


def own_engine(url: URL | str, *, name: str, settings: DbSettings, **options: Any) -> Engine:
    """Make an engine whose calls are cut in time; `dispose()` lets it go for good.

    `name` stands in events and messages alone; `options` are those of `create_engine`. Where `url`
    names an asynchronous driver it is for an `AsyncEngine`.
    """
    with unadopted():
        engine = create_engine(url, **options)
    protection = Protection(
        engine.pool, engine.dialect, name, settings, ResilienceSettings(), listed=False
    )
    event.listen(engine, "engine_disposed", lambda _: protection.undo())
    return engine


@contextmanager
def connection_beside(connection: Connection) -> Iterator[Connection]:
    """Yield one more connection to the database of `connection`, made as its engine makes them.

    For who holds one and needs another: of a pool, as many of those as it has connections would
    wait for each other. Raises what connecting raises.
    """
    engine, pool = connection.engine, connection.engine.pool

    def connect(rec: Any) -> Any:
        # In time, where the engine is under guard.
        return pool._invoke_creator(rec)  # noqa: SLF001

    # What listens to new connections of the engine readies this one too.
    beside = NullPool(connect, dialect=engine.dialect, _dispatch=pool.dispatch)
    with unadopted():
        other = Engine(beside, engine.dialect, engine.url).connect()
    with other:
        yield other
