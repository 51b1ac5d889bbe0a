"""Every way to write to a table that we know of, done on each kind of database under the trail."""

import csv
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.mysql import insert as mysql_insert
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from shipworthy.audit import ENTRIES, look_again

KINDS: Final = ("sqlite", "postgresql", "mariadb")


class _Base(DeclarativeBase):
    pass


_OPTIONS = {"mysql_engine": "InnoDB", "mariadb_engine": "InnoDB"}


class Client(_Base):
    __tablename__ = "clients"
    __table_args__ = _OPTIONS
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(sa.String(40))


class Project(_Base):
    __tablename__ = "projects"
    __table_args__ = _OPTIONS
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    client_id: Mapped[int] = mapped_column(
        sa.ForeignKey("clients.id", ondelete="CASCADE", onupdate="CASCADE")
    )
    reviewer_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("reviewers.id", ondelete="SET NULL")
    )


class Reviewer(_Base):
    __tablename__ = "reviewers"
    __table_args__ = _OPTIONS
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Task(_Base):
    __tablename__ = "tasks"
    __table_args__ = _OPTIONS
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent_id: Mapped[int | None] = mapped_column(sa.ForeignKey("tasks.id", ondelete="CASCADE"))


METADATA: Final = _Base.metadata
CLIENTS: Final = METADATA.tables["clients"]
PARTITIONED: Final = (
    "CREATE TABLE events (id int, day int, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (100)",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A database under the trail, with an engine that carries the actor, and one that does not."""

    kind: str
    engine: Engine
    outside: Engine
    folder: Path
    # The last entry before the path began: one number, moved by `put`.
    since: list[int]
    # What `reconcile` has found after earlier paths.
    known: set[tuple[str, str, str]]

    def put(self, table: Any, *rows: dict[str, Any]) -> None:
        """Put rows there before the path begins."""
        with self.outside.begin() as connection:
            for row in rows:
                connection.execute(sa.insert(table).values(row))
        self.begin()

    def seed(self, *numbers: int) -> None:
        """Put clients there before the path begins."""
        self.put(CLIENTS, *({"id": number, "name": f"c{number}"} for number in numbers))

    def begin(self) -> None:
        """Look only at what is recorded from here on."""
        with self.outside.connect() as connection:
            self.since[:] = [connection.scalar(sa.select(sa.func.max(ENTRIES.c.seq))) or 0]

    def run(self, *statements: str) -> None:
        """Run plain statements as the actor, in one transaction."""
        with self.engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def outsider(self, *statements: str) -> None:
        """Run them as another client would: a connection of the driver's own."""
        with closing(self._driver_connection()) as connection:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    def _driver_connection(self) -> Any:
        url = make_url(self.engine.url)
        if self.kind == "sqlite":
            import sqlite3

            connection = sqlite3.connect(url.database or "")
            connection.execute("PRAGMA foreign_keys = ON")
            return connection
        if self.kind == "postgresql":
            import psycopg

            plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
            return psycopg.connect(plain)
        import pymysql

        return pymysql.connect(
            host=url.host or "", port=url.port or 3306, user=url.username, database=url.database
        )


# Does the path and returns which entries it must leave, as letters: "IU" is an insert, an update.
Way = Callable[[Place], str]
PATHS: Final[dict[str, tuple[tuple[str, ...], Way]]] = {}


def path(name: str, *kinds: str) -> Callable[[Way], Way]:
    """Note a path; `kinds` are the databases that have it, all if none is named."""

    def note(function: Way) -> Way:
        PATHS[name] = (kinds or KINDS, function)
        return function

    return note


@path("unit of work of the ORM")
def _unit_of_work(place: Place) -> str:
    with Session(place.engine) as session, session.begin():
        session.add_all([Client(id=1, name="a"), Client(id=2, name="b")])
        session.flush()
        session.get_one(Client, 1).name = "c"
        session.delete(session.get_one(Client, 2))
    return "IIUD"


@path("bulk insert, update and delete of the ORM")
def _orm_bulk(place: Place) -> str:
    with Session(place.engine) as session, session.begin():
        session.execute(sa.insert(Client), [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
        session.execute(sa.update(Client).values(name="c"))
        session.execute(sa.delete(Client).where(Client.id == 2))
    return "IIUUD"


@path("Core: insert, update, delete")
def _core(place: Place) -> str:
    with place.engine.begin() as connection:
        connection.execute(sa.insert(CLIENTS).values(id=1, name="a"))
        connection.execute(sa.update(CLIENTS).values(name="b"))
        connection.execute(sa.delete(CLIENTS))
    return "IUD"


@path("executemany")
def _executemany(place: Place) -> str:
    with place.engine.begin() as connection:
        connection.execute(
            sa.text("INSERT INTO clients (id, name) VALUES (:id, 'a')"), [{"id": 1}, {"id": 2}]
        )
    return "II"


@path("insert of many rows with RETURNING")
def _returning(place: Place) -> str:
    statement = sa.insert(CLIENTS).returning(CLIENTS.c.id)
    with place.engine.begin() as connection:
        connection.execute(statement, [{"id": n, "name": "a"} for n in (1, 2, 3)]).all()
    return "III"


@path("delete with RETURNING")
def _delete_returning(place: Place) -> str:
    place.seed(1, 2)
    with place.engine.begin() as connection:
        connection.execute(sa.delete(CLIENTS).returning(CLIENTS.c.id)).all()
    return "DD"


@path("plain SQL")
def _plain(place: Place) -> str:
    with place.engine.begin() as connection:
        connection.execute(sa.text("INSERT INTO clients (id, name) VALUES (1, 'a')"))
        connection.exec_driver_sql("/* by hand */ UPDATE clients SET name = 'b'")
    return "IU"


@path("INSERT from SELECT")
def _insert_select(place: Place) -> str:
    place.seed(1, 2)
    place.run("INSERT INTO clients (id, name) SELECT id + 10, name FROM clients")
    return "II"


@path("upsert")
def _upsert(place: Place) -> str:
    place.seed(1)
    rows = [{"id": 1, "name": "new"}, {"id": 2, "name": "new"}]
    statement: Any
    if place.kind == "mariadb":
        statement = mysql_insert(CLIENTS).values(rows)
        statement = statement.on_duplicate_key_update(name=statement.inserted.name)
    else:
        insert = sqlite_insert if place.kind == "sqlite" else postgresql_insert
        statement = insert(CLIENTS).values(rows)
        statement = statement.on_conflict_do_update(
            index_elements=["id"], set_={"name": statement.excluded.name}
        )
    with place.engine.begin() as connection:
        connection.execute(statement)
    return "UI"


@path("REPLACE", "sqlite", "mariadb")
def _replace(place: Place) -> str:
    place.seed(1)
    place.run("REPLACE INTO clients (id, name) VALUES (1, 'new')")
    return "DI"


@path("REPLACE, while the application has triggers", "sqlite", "mariadb")
def _replace_beside_triggers(place: Place) -> str:
    place.seed(1)
    with _app_trigger(place):
        place.run("REPLACE INTO clients (id, name) VALUES (1, 'new')")
    return "DII"


@path("REPLACE by another client", "sqlite", "mariadb")
def _replace_outside(place: Place) -> str:
    place.seed(1)
    place.outsider("REPLACE INTO clients (id, name) VALUES (1, 'new')")
    return "DI"


@path("MERGE", "postgresql")
def _merge(place: Place) -> str:
    place.seed(1)
    place.run(
        "MERGE INTO clients c USING (VALUES (1, 'n'), (2, 'n')) AS s (id, name) ON c.id = s.id "
        "WHEN MATCHED THEN UPDATE SET name = s.name "
        "WHEN NOT MATCHED THEN INSERT (id, name) VALUES (s.id, s.name)"
    )
    return "UI"


@path("WITH that writes", "postgresql")
def _with(place: Place) -> str:
    place.seed(1)
    place.run(
        "WITH gone AS (DELETE FROM clients RETURNING id, name) "
        "INSERT INTO clients (id, name) SELECT id + 1, name FROM gone"
    )
    return "DI"


@path("updatable view", "postgresql", "mariadb")
def _view(place: Place) -> str:
    place.outsider("CREATE OR REPLACE VIEW named AS SELECT id, name FROM clients")
    place.run("INSERT INTO named (id, name) VALUES (1, 'a')", "UPDATE named SET name = 'b'")
    return "IU"


@path("DELETE without WHERE")
def _delete_all(place: Place) -> str:
    place.seed(1, 2, 3)
    place.run("DELETE FROM clients")
    return "DDD"


@path("foreign key: ON DELETE CASCADE")
def _cascade(place: Place) -> str:
    place.seed(1)
    place.put(Project, *({"id": number, "client_id": 1} for number in (1, 2)))
    place.run("DELETE FROM clients WHERE id = 1")
    return "DDD"


@path("foreign key: ON DELETE SET NULL")
def _set_null(place: Place) -> str:
    place.seed(1)
    place.put(Reviewer, {"id": 1})
    place.put(Project, {"id": 1, "client_id": 1, "reviewer_id": 1})
    place.run("DELETE FROM reviewers WHERE id = 1")
    return "DU"


@path("foreign key: ON UPDATE CASCADE")
def _update_cascade(place: Place) -> str:
    place.seed(1)
    place.put(Project, {"id": 1, "client_id": 1})
    place.run("UPDATE clients SET id = 9 WHERE id = 1")
    return "UU"


@path("foreign key to the same table")
def _self_reference(place: Place) -> str:
    place.put(Task, *({"id": n, "parent_id": parent} for n, parent in ((1, None), (2, 1), (3, 2))))
    place.run("DELETE FROM tasks WHERE id = 1")
    return "DDD"


@path("trigger of the application")
def _trigger(place: Place) -> str:
    with _app_trigger(place):
        place.run("INSERT INTO clients (id, name) VALUES (1, 'a')")
    return "II"


@path("function in a SELECT, or CALL", "postgresql", "mariadb")
def _routine(place: Place) -> str:
    if place.kind == "postgresql":
        place.outsider(
            "CREATE OR REPLACE FUNCTION write_it() RETURNS void LANGUAGE sql AS "
            "$$ INSERT INTO clients (id, name) VALUES (1, 'a') $$"
        )
        place.run("SELECT write_it()")
    else:
        place.outsider(
            "CREATE OR REPLACE PROCEDURE write_it() INSERT INTO clients (id, name) VALUES (1, 'a')"
        )
        place.run("CALL write_it()")
    return "I"


@path("PREPARE and EXECUTE", "postgresql", "mariadb")
def _prepared(place: Place) -> str:
    insert = "INSERT INTO clients (id, name) VALUES (1, 'a')"
    text = f"AS {insert}" if place.kind == "postgresql" else f'FROM "{insert}"'
    place.run(f"PREPARE p {text}", "EXECUTE p", "DEALLOCATE PREPARE p")
    return "I"


@path("TRUNCATE", "postgresql", "mariadb")
def _truncate(place: Place) -> str:
    place.put(Task, {"id": 1}, {"id": 2})
    place.run("TRUNCATE TABLE tasks")
    return "DDT"


@path("COPY through the driver", "postgresql")
def _copy(place: Place) -> str:
    with place.engine.begin() as connection:
        cursor = connection.connection.cursor()
        with cursor.copy("COPY clients (id, name) FROM STDIN") as copy:  # type: ignore[attr-defined]
            copy.write_row((1, "a"))
            copy.write_row((2, "b"))
        cursor.close()
    return "II"


@path("LOAD DATA LOCAL", "mariadb")
def _load(place: Place) -> str:
    file = place.folder / "clients.csv"
    with file.open("w", newline="") as rows:
        csv.writer(rows, delimiter="\t").writerows([[1, "a"], [2, "b"]])
    place.run(f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE clients (id, name)")
    return "II"


@path("cursor of the driver, alone")
def _cursor(place: Place) -> str:
    raw = place.engine.raw_connection()
    cursor = raw.cursor()
    cursor.execute("INSERT INTO clients (id, name) VALUES (1, 'a')")
    cursor.close()
    raw.commit()
    raw.close()
    return "I"


@path("cursor of the driver, after a write of SQLAlchemy in its transaction")
def _cursor_after(place: Place) -> str:
    with place.engine.begin() as connection:
        connection.execute(sa.insert(CLIENTS).values(id=1, name="a"))
        cursor = connection.connection.cursor()
        cursor.execute("INSERT INTO clients (id, name) VALUES (2, 'a')")
        cursor.close()
    return "II"


@path("autocommit")
def _autocommit(place: Place) -> str:
    with place.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(sa.insert(CLIENTS).values(id=1, name="a"))
    return "I"


@path("two phases", "postgresql", "mariadb")
def _two_phases(place: Place) -> str:
    with place.engine.connect() as connection:
        transaction = connection.begin_twophase()
        connection.execute(sa.insert(CLIENTS).values(id=1, name="a"))
        transaction.commit()
    return "I"


@path("another client (a shell)")
def _shell(place: Place) -> str:
    place.outsider(
        "INSERT INTO clients (id, name) VALUES (1, 'a')",
        "UPDATE clients SET name = 'b'",
        "DELETE FROM clients",
    )
    return "IUD"


@path("another database's connection, attached", "sqlite")
def _attached(place: Place) -> str:
    import sqlite3

    with closing(sqlite3.connect(place.folder / "other.db")) as connection:
        connection.execute("ATTACH ? AS app", (place.engine.url.database,))
        connection.execute("INSERT INTO app.clients (id, name) VALUES (1, 'a')")
        connection.commit()
    return "I"


@path("partition, directly", "postgresql")
def _partition(place: Place) -> str:
    place.run("INSERT INTO events_1 (id, day) VALUES (1, 5)")
    return "I"


@path("replica role", "postgresql")
def _replica(place: Place) -> str:
    place.outsider(
        "SET session_replication_role = replica",
        "INSERT INTO clients (id, name) VALUES (1, 'a')",
    )
    return "I"


@path("foreign keys not checked: children stay", "mariadb")
def _unchecked(place: Place) -> str:
    place.seed(1)
    place.outsider("SET foreign_key_checks = 0", "DELETE FROM clients WHERE id = 1")
    return "D"


@path("triggers taken away and put back")
def _disabled(place: Place) -> str:
    insert = "INSERT INTO clients (id, name) VALUES (1, 'a')"
    if place.kind == "postgresql":
        off, on = "ALTER TABLE clients DISABLE TRIGGER USER", "ALTER TABLE clients ENABLE ALWAYS"
        names = _our_triggers(place)
        place.outsider(off, insert, *(f'{on} TRIGGER "{name}"' for name in names))
        return "I"
    made = {name: _made(place, name) for name in _our_triggers(place)}
    place.outsider(*(f"DROP TRIGGER {name}" for name in made), insert, *made.values())
    look_again()
    return "I"


def _our_triggers(place: Place) -> list[str]:
    query = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'clients'",
        "postgresql": "SELECT tgname FROM pg_trigger WHERE tgrelid = 'clients'::regclass "
        "AND NOT tgisinternal",
        "mariadb": "SELECT trigger_name FROM information_schema.triggers "
        "WHERE trigger_schema = DATABASE() AND event_object_table = 'clients'",
    }[place.kind]
    with place.outside.connect() as connection:
        return list(connection.exec_driver_sql(query).scalars())


def _made(place: Place, name: str) -> str:
    with place.outside.connect() as connection:
        if place.kind == "sqlite":
            query = f"SELECT sql FROM sqlite_master WHERE name = '{name}'"
            return str(connection.exec_driver_sql(query).scalar_one())
        return str(connection.exec_driver_sql(f"SHOW CREATE TRIGGER {name}").one()[2])


class _app_trigger:
    """A trigger of the application that copies a new client's number to the reviewers."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __enter__(self) -> None:
        insert = "INSERT INTO reviewers (id) VALUES (NEW.id)"
        kind = self._place.kind
        if kind == "postgresql":
            self._place.outsider(
                f"CREATE OR REPLACE FUNCTION copy_it() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN {insert}; RETURN NEW; END $$",
                "CREATE TRIGGER app_copies AFTER INSERT ON clients FOR EACH ROW "
                "EXECUTE FUNCTION copy_it()",
            )
        else:
            body = f"BEGIN {insert}; END" if kind == "sqlite" else insert
            self._place.outsider(
                f"CREATE TRIGGER app_copies AFTER INSERT ON clients FOR EACH ROW {body}"
            )
        look_again()

    def __exit__(self, *_: object) -> None:
        on = " ON clients" if self._place.kind == "postgresql" else ""
        self._place.outsider(f"DROP TRIGGER app_copies{on}")
        look_again()


def letters(operations: list[str]) -> str:
    """Return operations in an order of their own, to compare."""
    return "".join(sorted(Counter(operations).elements()))
