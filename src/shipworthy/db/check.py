"""What a database is like, seen from where the service will run: `shipworthy db check`.

Each part of a URL that is wrong has one sentence, and none of them holds a password.

Not here: what a failure means (`classify`), and what a migration would do (`migrate`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from sqlalchemy import URL, Engine, create_engine, inspect, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from shipworthy.db import tables
from shipworthy.db.classify import DEPTH, classify
from shipworthy.db.dialects.migration import file_of, sync_url
from shipworthy.db.dialects.slots import server_slots
from shipworthy.db.dialects.wrong_part import wrong_part
from shipworthy.db.guard import Protection, protect
from shipworthy.db.migrate import (
    AlembicProject,
    MigrateOptions,
    MigrationSurvey,
    project_file,
    survey_migrations,
)
from shipworthy.db.outcome import DbPhase
from shipworthy.db.settings import URL_FORM, DbSettings, url_problem
from shipworthy.db.slots import SUCCESSORS, workers_in_words
from shipworthy.errors import Misuse, ShipworthyError
from shipworthy.redact import redact

# What an engine opens at most where the service says nothing: SQLAlchemy's own default.
POOL_CAPACITY: Final = 15


@final
class DatabaseUnusable(ShipworthyError):
    """The database cannot be worked with; `part` is what is wrong of its URL, if that is known."""

    def __init__(self, message: str, *, part: str = "unknown") -> None:
        self.part = part
        super().__init__(message)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseCheck:
    """What was found. `problems` has a sentence for each thing that must not stay as it is.

    `slots` is how many connections the server has, None for one without a limit; `capacity` how
    many the service may open at most.
    """

    url: str
    server: str
    version: str
    slots: int | None
    capacity: int
    survey: MigrationSurvey
    problems: tuple[str, ...]


@contextmanager
def opened_database(
    database: str | None,
    settings: DbSettings,
    *,
    alembic: Path | None = None,
    must_exist: bool = False,
) -> Iterator[tuple[Engine, AlembicProject | None]]:
    """Yield the database a command is about, and the Alembic project, if there is one.

    The database is the one named, else that of the settings, else the project's own. Raises
    `Misuse` for what cannot be used as it is written, `DatabaseUnusable` for a database that cannot
    be reached or refuses what is asked of it.
    """
    path = project_file(alembic)
    url = database or settings.url.reveal() or None
    project = None if path is None else AlembicProject(path, url=url)
    url = url or (project.url if project else None)
    if url is None:
        raise Misuse(
            f"no database is named; use --database URL, db.url in the settings, or sqlalchemy.url "
            f"in alembic.ini; the form is {URL_FORM}"
        )
    engine, protection = _connected(url, must_exist=must_exist)
    try:
        yield engine, project
    except DBAPIError as error:
        because = classify(error).because
        said = redact(str(error.orig)).strip().splitlines()
        raise DatabaseUnusable(
            f"the database refused: {because}: {said[0] if said else 'it did not say more'}"
        ) from error
    finally:
        protection.undo()
        engine.dispose()


def check_database(
    engine: Engine,
    project: AlembicProject | None,
    *,
    options: MigrateOptions | None = None,
    workers: int = 1,
    pool_capacity: int = POOL_CAPACITY,
) -> DatabaseCheck:
    """Look at a database as a service of `workers` processes would use it; changes nothing.

    `run` has one more while it replaces one, which is counted.

    Raises `Misuse` for a kind of database that is not known here, and what the database raises.
    """
    survey = survey_migrations(engine, project, options)
    counted = server_slots(engine.dialect.name)
    slots = None
    if counted is not None:
        with engine.connect() as connection:
            slots = int(connection.scalar(text(counted.slots)) or 0)
    capacity = (workers + SUCCESSORS) * pool_capacity
    return DatabaseCheck(
        url=engine.url.render_as_string(hide_password=True),
        server=engine.dialect.name,
        version=".".join(map(str, engine.dialect.server_version_info or ())),
        slots=slots,
        capacity=capacity,
        survey=survey,
        problems=tuple(_problems(survey, slots, workers, pool_capacity)),
    )


def _connected(url: str, *, must_exist: bool) -> tuple[Engine, Protection]:
    """Return an engine under guard that has connected once, by a sync driver."""
    found = _url_of(url)
    if server_slots(found.get_backend_name()) is not None and not found.database:
        raise Misuse(f"the database URL names no database on its server; its form is {URL_FORM}")
    path = file_of(found)
    if must_exist and path is not None and not path.exists():
        raise DatabaseUnusable(
            f"there is no file '{path}'; change the database in the URL", part="database"
        )
    try:
        engine = create_engine(found, poolclass=NullPool)
    except (NoSuchModuleError, ImportError) as error:
        raise _no_driver(found, error) from error
    except (ArgumentError, TypeError, ValueError) as error:
        raise _bad_option(found) from error
    # Nothing of a command is a leak: a migrator's lock is held for as long as that takes.
    protection = protect(engine, name="command", settings=DbSettings(leak_after_seconds=0.0))
    try:
        with engine.connect() as connection:
            # SQLite opens its file no earlier.
            inspect(connection).has_table(tables.SCHEMA.name)
    except Exception as error:
        protection.undo()
        engine.dispose()
        raise _no_connection(found, error) from error
    return engine, protection


def _problems(
    survey: MigrationSurvey, slots: int | None, workers: int, pool_capacity: int
) -> list[str]:
    found = []
    capacity = (workers + SUCCESSORS) * pool_capacity
    if slots is not None and capacity > slots:
        found.append(
            f"{workers_in_words(workers, SUCCESSORS)} with pools of {pool_capacity} may open "
            f"{capacity} connections, and the server has {slots}; make the pools smaller "
            f"(pool_size, max_overflow), or raise max_connections"
        )
    if survey.pending:
        names = ", ".join(plan.revision for plan in survey.pending)
        found.append(f"these revisions wait: {names}; run `shipworthy db migrate`")
    if survey.ours is not None and survey.ours < tables.VERSION:
        found.append(
            f"our own tables are of version {survey.ours}, this is {tables.VERSION}; run "
            f"`shipworthy db migrate`"
        )
    found += [
        f"the index {index} is invalid: it costs writes and serves no read; drop it, or run the "
        f"revision that builds it again"
        for index in survey.broken
    ]
    return [*found, *survey.refused]


def _url_of(url: str) -> URL:
    problem = url_problem(url)
    if problem:
        raise Misuse(f"the database URL cannot be used: {problem}; its form is {URL_FORM}")
    return sync_url(url)


def _no_driver(url: URL, error: Exception) -> Misuse:
    if isinstance(error, NoSuchModuleError):
        return Misuse(
            f"'{url.drivername}' names no kind of database or no driver of it; the form of a URL "
            f"is {URL_FORM}"
        )
    return Misuse(
        f"the driver of '{url.drivername}' is not installed ({error}); install it, or name "
        f"another: postgresql+psycopg and mariadb+pymysql come with shipworthy[postgres] and "
        f"shipworthy[mariadb]"
    )


def _bad_option(url: URL) -> Misuse:
    return Misuse(f"an option of the database URL cannot be used: {_options(url)}")


def _no_connection(url: URL, error: Exception) -> ShipworthyError:
    if isinstance(error, (TypeError, ValueError)):
        return _bad_option(url)
    found = classify(error, phase=DbPhase.CONNECT)
    known = wrong_part(found.code, tuple(_texts(error)))
    if known is None:
        where = f"{url.host or 'this machine'}:{url.port or 'its port'}"
        return DatabaseUnusable(f"no connection to {where}: {found.because}")
    part, sentence = known
    said = sentence.format(
        user=url.username or "",
        host=url.host or "this machine",
        port=url.port or "its port",
        database=url.database or "",
        options=_options(url),
    )
    message = f"no connection: {said}; change the {part} in the URL"
    return Misuse(message) if part == "option" else DatabaseUnusable(message, part=part)


def _texts(error: BaseException) -> list[str]:
    found: list[str] = []
    link: Any = error
    for _ in range(DEPTH):
        if not isinstance(link, BaseException):
            break
        found.append(str(link))
        link = getattr(link, "orig", None) or link.__cause__
    return found


def _options(url: URL) -> str:
    return ", ".join(sorted(url.query)) or "none is given"
