"""An Alembic project as it is read: which revisions wait, and what each would send."""

import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, cast, final

from alembic import command
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError, rev_id
from sqlalchemy import Connection, Engine, MetaData, Table, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from shipworthy.db.migrate.findings import accepted_in
from shipworthy.db.migrate.statements import SqlStatement, read_statements
from shipworthy.errors import Misuse
from shipworthy.redact import redact

_ASKS = re.compile(r"""attributes(\.get\(|\[)\s*["']connection["']""")
PROJECT_FILES = ("alembic.ini", "pyproject.toml")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionPlan:
    """One revision that waits; `statements` None: it cannot be read without being run."""

    revision: str
    title: str
    statements: tuple[SqlStatement, ...] | None
    sql: str
    unread_because: str
    accepted: frozenset[str]


def project_file(named: Path | None, folder: Path | None = None) -> Path | None:
    """Return the file that tells of an Alembic project: the one named, else one in `folder`.

    Raises `Misuse` where the one that was named is not there.
    """
    if named is not None:
        if not named.is_file():
            raise Misuse(f"there is no file {named}; name an alembic.ini or a pyproject.toml")
        return named
    for path in ((folder or Path.cwd()) / name for name in PROJECT_FILES):
        if path.is_file() and (path.suffix != ".toml" or _tells_of_alembic(path)):
            return path
    return None


@final
class AlembicProject:
    """The revisions of one project and the `env.py` that runs them. Used by one thread.

    `url`, where it is given, takes the place of `sqlalchemy.url` in the project's file.
    Raises `Misuse` for a project that cannot be read.
    """

    def __init__(self, path: Path, *, url: str | None = None) -> None:
        self.path = path
        is_toml = path.suffix == ".toml"
        ini = path.with_name("alembic.ini") if is_toml else path
        toml = path if is_toml else path.with_name("pyproject.toml")
        try:
            self._config = Config(
                ini if ini.is_file() else None, toml_file=toml if toml.is_file() else None
            )
            if url is not None:
                self._config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
            self._scripts = ScriptDirectory.from_config(self._config)
        except CommandError as error:
            raise Misuse(f"{path} tells of no Alembic project: {error}") from error

    @property
    def url(self) -> str | None:
        """Return the database that the project's file names, if it does."""
        return self._config.get_main_option("sqlalchemy.url") or None

    def applied(
        self, engine: Engine, look: Callable[[Connection], None] | None = None
    ) -> tuple[tuple[str, ...], ...]:
        """Return the revisions each database of `env.py` stands at; most have one database.

        `env.py` makes its own connections, or takes one to where `engine` leads; `look` is called
        with each. Changes nothing. Raises `Misuse` for an `env.py` that fails by itself, and what
        the database raises.
        """
        found: list[tuple[str, ...]] = []

        def note(heads: Any, context: MigrationContext) -> list[Any]:
            found.append(tuple(heads))
            if look is not None:
                look(cast("Connection", context.connection))
            return []

        with (
            self._offered(engine),
            EnvironmentContext(self._config, self._scripts, fn=note, dont_mutate=True),
        ):
            try:
                self._scripts.run_env()
            except DBAPIError:
                raise
            except Exception as error:
                raise Misuse(
                    f"the env.py of {self.path} failed: {type(error).__name__}: "
                    f"{redact(str(error))}"
                ) from error
        return tuple(found)

    def pending(self, applied: Sequence[str], to: str = "heads") -> list[Script]:
        """Return the revisions between `applied` and `to`, in the order in which they run.

        Raises `Misuse` where `to` is none, or the database stands at one the project does not know.
        """
        try:
            wanted = self._scripts.iterate_revisions(to, tuple(applied), implicit_base=True)
            return list(wanted)[::-1]
        except RevisionError as error:
            at = ", ".join(applied) or "no revision"
            raise Misuse(
                f"no way from {at} to {to}: {error}; name a revision of {self.path}, a later one"
            ) from error

    def read(self, script: Script, connection: Connection) -> RevisionPlan:
        """Return what a revision would send, without sending it.

        Its `upgrade()` runs as for `alembic upgrade --sql`, against a text. `connection` tells of
        the tables that are there, where a batch needs that.
        """
        buffer = StringIO()
        because = ""
        context = MigrationContext.configure(
            dialect=connection.dialect,
            opts={"as_sql": True, "output_buffer": buffer, "literal_binds": True},
        )
        with _reading(context, connection):
            try:
                with context.begin_transaction(_per_migration=False):
                    script.module.upgrade()
            except Exception as error:  # noqa: BLE001 - whatever the service's own code raises
                because = f"{type(error).__name__}: {error}".splitlines()[0]
        sql = buffer.getvalue()
        return RevisionPlan(
            revision=script.revision,
            title=script.doc,
            statements=None if because else read_statements(sql, revision=script.revision),
            sql=sql.strip(),
            unread_because=because,
            accepted=accepted_in(Path(script.path).read_text(encoding="utf-8")),
        )

    def apply(self, engine: Engine, script: Script) -> None:
        """Run one revision by way of `env.py`, with what it raises."""
        with self._offered(engine):
            command.upgrade(self._config, script.revision)

    def write_revision(
        self, message: str, *, upgrade: Sequence[str], downgrade: Sequence[str]
    ) -> Path:
        """Write a revision behind the head that runs these statements; return its file.

        Raises `Misuse` where there is no one head, or the project's template takes no statements.
        """
        try:
            script = self._scripts.generate_revision(
                rev_id(),
                message,
                refresh=True,
                upgrades=_operations(upgrade),
                downgrades=_operations(downgrade),
            )
        except (CommandError, OSError) as error:  # its template may be missing
            raise Misuse(f"{self.path}: no revision can be written: {error}") from error
        if script is None:
            raise Misuse(f"the template of {self.path} made a file that is no revision")
        return Path(script.path)

    @contextmanager
    def _offered(self, engine: Engine) -> Iterator[None]:
        """Offer an `env.py` that asks for one a connection, as Alembic's cookbook has it."""
        source = Path(self._scripts.env_py_location)
        if not source.is_file() or not _ASKS.search(source.read_text(encoding="utf-8")):
            yield
            return
        # Not the command's own engine: under its guard no statement may be as long as an index is.
        own = create_engine(engine.url, poolclass=NullPool)
        try:
            with own.connect() as connection:
                self._config.attributes["connection"] = connection
                yield
        finally:
            self._config.attributes.pop("connection", None)
            own.dispose()


@contextmanager
def _reading(context: MigrationContext, connection: Connection) -> Iterator[None]:
    """Have operations written down; a batch is told what its table looks like."""
    with Operations.context(context) as operations:
        plain = operations.batch_alter_table

        def batch_alter_table(table_name: str, *args: Any, **options: Any) -> Any:
            if options.get("copy_from") is None and not args:
                options["copy_from"] = Table(
                    table_name, MetaData(), schema=options.get("schema"), autoload_with=connection
                )
            return plain(table_name, *args, **options)

        operations.batch_alter_table = batch_alter_table  # type: ignore[method-assign]
        yield


def _operations(statements: Sequence[str]) -> str:
    """Return the body of a function of a revision, behind the four spaces of its first line."""
    return "\n    ".join(f"op.execute({_literal(statement)})" for statement in statements)


def _literal(statement: str) -> str:
    # Alembic takes `:name` for a parameter; a backslash before the colon says that it is none.
    text = re.sub(r":(?=[\w$])", r"\\:", statement)
    if text.endswith(("\\", '"')) or '"""' in text:
        return repr(text)
    return f'r"""{text}"""'


def _tells_of_alembic(path: Path) -> bool:
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False
    return "script_location" in found.get("tool", {}).get("alembic", {})
