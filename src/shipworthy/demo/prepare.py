"""Make the demo's database ready, or say in one sentence why it cannot be.

It refuses to touch what it did not make: the tables go into an empty database only, so that a
`DATABASE_URL` left over from other work does no harm.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from shipworthy import records
from shipworthy.audit import AuditSettings, LedgerSettings, add_tables, begin_ledger, install
from shipworthy.demo.database import driver_urls, set_pragmas
from shipworthy.demo.migrate import migrate, revisions
from shipworthy.demo.models import Client, Project, Task
from shipworthy.demo.seed import seed
from shipworthy.errors import ShipworthyError, StartFailed

# Under the current directory, where whoever tried the demo finds it and can delete it.
STATE = Path(".shipworthy/demo")
KEY = "audit.key"
CONNECT_SECONDS = 5
LOCK_SECONDS = 5.0
EXTRAS = {"postgresql": "postgres", "mysql": "mariadb", "mariadb": "mariadb"}
OTHER = "or name another one with --database or DATABASE_URL"

LOCKED = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED"})
NO_DATABASE = frozenset({"SQLITE_NOTADB", "SQLITE_CORRUPT"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A database that holds the tracker's tables and some rows."""

    url: str = field(repr=False)  # with the password, for the service
    shown: str  # without, for people
    clients: int
    projects: int
    tasks: int
    key_path: Path  # of the trail's signing key
    untold: str = ""  # why no trail could be installed, if so


def prepare(url: str | None, *, directory: Path) -> Prepared:
    """Migrate and fill the database of `url`, else a SQLite file of our own under `directory`.

    Raises `StartFailed` with what is wrong and what to do. Waits at most `CONNECT_SECONDS` for a
    server's answer to a connection, and `LOCK_SECONDS` for the lock of a file.
    """
    given = _absolute(_parse(url or _own_file(directory)), directory)
    sync, asynchronous = driver_urls(given)
    where = _shown(sync, directory)
    remote = sync.get_backend_name() != "sqlite"
    with _sentences(sync, where):
        engine = create_engine(
            sync,
            connect_args={"connect_timeout": CONNECT_SECONDS}
            if remote
            else {"timeout": LOCK_SECONDS},
        )
        if not remote:
            event.listen(engine, "connect", set_pragmas)
        try:
            _reach(engine, asynchronous, where)
            with engine.connect() as connection:
                _refuse_foreign(connection, where)
            migrate(engine)
            seed(engine)
            # After the sample data, which nobody deletes by mistake.
            key_path = directory / STATE / KEY
            untold = _record(engine, directory)
            with engine.connect() as connection:
                return Prepared(
                    url=given.render_as_string(hide_password=False),
                    shown=where,
                    clients=connection.scalar(select(func.count(Client.id))) or 0,
                    projects=connection.scalar(select(func.count(Project.id))) or 0,
                    tasks=connection.scalar(select(func.count(Task.id))) or 0,
                    key_path=key_path,
                    untold=untold,
                )
        finally:
            engine.dispose()


def _record(engine: Engine, directory: Path) -> str:
    """Have every change from here on recorded; returns why it cannot be, where it cannot."""
    add_tables(records.TABLES)
    try:
        install(engine, AuditSettings())
        begin_ledger(engine, LedgerSettings(key_path=str(_state(directory) / KEY)))
    except ShipworthyError as error:
        return str(error).split("\n", 1)[0]
    return ""


def _state(directory: Path) -> Path:
    state = directory / STATE
    try:
        state.mkdir(parents=True, exist_ok=True)
        # Nobody wants the demo's database in their own repository.
        (state / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise StartFailed(
            f"the folder {state} for the demo's database cannot be made: {error.strerror}; start "
            f"the demo in a folder you may write to, {OTHER}"
        ) from error
    return state


def _own_file(directory: Path) -> str:
    return URL.create("sqlite", database=str(_state(directory) / "demo.sqlite3")).render_as_string()


def _parse(url: str) -> URL:
    try:
        given = make_url(url)
        driver_urls(given)
    except LookupError as error:
        raise StartFailed(
            f"the demo has no drivers for the database: {error.args[0]}; correct --database or "
            f"DATABASE_URL"
        ) from error
    except (ArgumentError, ValueError) as error:
        # Not quoted: it may hold a password.
        raise StartFailed(
            "the database is not named by a URL such as sqlite:///file.sqlite3 or "
            "postgresql://user:password@host/name; correct --database or DATABASE_URL"
        ) from error
    return given


def _absolute(url: URL, directory: Path) -> URL:
    """Make a SQLite file's path absolute, for processes that may stand in another directory."""
    if url.get_backend_name() != "sqlite":
        return url
    if url.database in {None, "", ":memory:"}:
        raise StartFailed(
            "a SQLite database in memory is seen by one process only, and the demo has several; "
            "name a file, such as sqlite:///demo.sqlite3"
        )
    return url.set(database=str(directory / str(url.database)))


def _shown(url: URL, directory: Path) -> str:
    if url.get_backend_name() == "sqlite":
        file = Path(url.database or "")
        return str(file.relative_to(directory) if file.is_relative_to(directory) else file)
    # Without the options after the question mark: they too may hold a secret.
    return url.set(drivername=url.get_backend_name(), query={}).render_as_string()


def _refuse_foreign(connection: Connection, where: str) -> None:
    """Raise `StartFailed` for a database that holds what the demo did not make."""
    tables = set(inspect(connection).get_table_names())
    seen: set[str] = set()
    if "alembic_version" in tables:
        seen = set(connection.scalars(text("SELECT version_num FROM alembic_version")))
        if seen and seen <= revisions():
            return
    others = sorted(
        name for name in tables if name != "alembic_version" and not name.startswith("shipworthy_")
    )
    if seen:
        stranger = (
            f"the schema of another application or a newer version ({', '.join(sorted(seen))})"
        )
    elif others:
        stranger = f"tables the demo did not make ({len(others)}, such as '{others[0]}')"
    else:
        return
    raise StartFailed(
        f"the database {where} holds {stranger}; name an empty one with --database or DATABASE_URL"
    )


def _reach(engine: Engine, asynchronous: URL, where: str) -> None:
    """Connect with both drivers."""
    try:
        with engine.connect():
            pass
        asyncio.run(_reach_async(asynchronous))
    except (OSError, TypeError, ValueError) as error:
        # Some drivers leave a refused connection as it is; an option in the URL that a driver does
        # not know is a TypeError or a ValueError.
        raise StartFailed(_because(error, engine.url, where)) from error


async def _reach_async(url: URL) -> None:
    engine = create_async_engine(url)
    try:
        async with asyncio.timeout(CONNECT_SECONDS), engine.connect():
            pass
    finally:
        await engine.dispose()


@contextmanager
def _sentences(url: URL, where: str) -> Iterator[None]:
    """Turn what drivers raise into one sentence that says what to do."""
    try:
        yield
    except ModuleNotFoundError as error:
        extra = EXTRAS.get(url.get_backend_name(), "demo")
        raise StartFailed(
            f"the driver '{error.name}' for {where} is not installed: "
            f"pip install 'shipworthy[demo,{extra}]'"
        ) from error
    except DBAPIError as error:
        raise StartFailed(_because(error.orig, url, where)) from error


def _because(error: Any, url: URL, where: str) -> str:
    if url.get_backend_name() != "sqlite":
        return (
            f"the database {where} cannot be used: {_first_line(error)}; correct --database or "
            f"DATABASE_URL, or start the server"
        )
    code = getattr(error, "sqlite_errorname", "")
    family = "_".join(code.split("_")[:2])
    if family in LOCKED:
        return (
            f"the database file {where} is locked by another process (waited {LOCK_SECONDS:g} s); "
            f"end that one, {OTHER}"
        )
    if family in NO_DATABASE:
        return f"the file {where} is no SQLite database ({error}); move it away, {OTHER}"
    return (
        f"the database file {where} cannot be used: {_first_line(error)}; make it writable, {OTHER}"
    )


def _first_line(error: Any) -> str:
    said = str(error.args[-1] if getattr(error, "args", ()) else "") or type(error).__name__
    return said.strip().split("\n", 1)[0]
