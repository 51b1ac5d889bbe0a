"""What `shipworthy demo` does to a database, and what it says about one it cannot use."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, inspect, text

from shipworthy.demo.prepare import STATE, prepare
from shipworthy.errors import StartFailed


@contextmanager
def refused(*parts: str) -> Iterator[None]:
    """Expect one sentence of one line that holds all `parts`."""
    with pytest.raises(StartFailed) as caught:
        yield
    said = str(caught.value)
    assert [part for part in parts if part not in said] == [], said
    assert "\n" not in said


def test_each_kind_of_database_is_made_ready(engine: Engine, tmp_path: Path):
    """An empty database is migrated and filled; the answer says what it holds and hides secrets."""
    url = engine.url.render_as_string(hide_password=False)

    first = prepare(url, directory=tmp_path)
    second = prepare(url, directory=tmp_path)

    assert first == second
    assert (first.clients, first.projects, first.tasks) == (6, 24, 391)
    assert first.url == url
    assert "+" not in first.shown


def test_every_table_is_recorded_from_then_on(engine: Engine, tmp_path: Path):
    """The sample data is not part of it; the key lies where the database does not."""
    url = engine.url.render_as_string(hide_password=False)

    prepared = prepare(url, directory=tmp_path)
    with engine.begin() as connection:
        before = connection.scalar(text("SELECT count(*) FROM shipworthy_audit_entries"))
        connection.execute(text("UPDATE labels SET colour = '#000000'"))
        after = connection.scalar(text("SELECT count(*) FROM shipworthy_audit_entries"))

    assert prepared.untold == ""
    assert before == 0
    assert after is not None
    assert after > 0
    assert prepared.key_path.stat().st_mode & 0o077 == 0


def test_what_cannot_be_recorded_is_served_all_the_same(engine: Engine, tmp_path: Path):
    """Where the key has no place, the sentence says so, and the demo starts without the trail."""
    (tmp_path / ".shipworthy").write_text("a file in the way")

    prepared = prepare(engine.url.render_as_string(hide_password=False), directory=tmp_path)

    assert "cannot be made" in prepared.untold
    assert "\n" not in prepared.untold
    assert prepared.clients == 6


def test_without_a_url_there_is_a_file_of_our_own(tmp_path: Path):
    """The file lies in the state folder, which keeps itself out of anybody's repository."""
    prepared = prepare(None, directory=tmp_path)

    assert prepared.shown == ".shipworthy/demo/demo.sqlite3"
    assert (tmp_path / prepared.shown).exists()
    assert (tmp_path / STATE / ".gitignore").read_text() == "*\n"
    with closing(sqlite3.connect(tmp_path / prepared.shown)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_file_is_named_relative_to_the_directory(tmp_path: Path):
    """The service's process gets an absolute path, wherever it stands."""
    prepared = prepare("sqlite:///mine.sqlite3", directory=tmp_path)

    assert prepared.url == f"sqlite:///{tmp_path}/mine.sqlite3"
    assert prepared.shown == "mine.sqlite3"


def test_a_folder_that_cannot_be_made(tmp_path: Path):
    """Where no state folder can be made, the sentence names it and the way out."""
    (tmp_path / ".shipworthy").write_text("a file in the way")

    with refused(f"{tmp_path}/.shipworthy/demo", "cannot be made", "--database"):
        prepare(None, directory=tmp_path)


@pytest.mark.parametrize(
    "content", [b"certainly no database" * 100, b"SQLite format 3\0" + b"?" * 2000]
)
def test_a_file_that_is_no_database(tmp_path: Path, content: bytes):
    """Somebody's file is named, and stays as it is."""
    file = tmp_path / "notes.txt"
    file.write_bytes(content)

    with refused("notes.txt is no SQLite database", "--database"):
        prepare("sqlite:///notes.txt", directory=tmp_path)

    assert file.read_bytes() == content


@pytest.mark.parametrize("file", ["folder", "nowhere/at/all.sqlite3"])
def test_a_file_that_cannot_be_opened(tmp_path: Path, file: str):
    """A path that SQLite cannot open is named with SQLite's reason."""
    (tmp_path / "folder").mkdir()

    with refused(f"{file} cannot be used: unable to open database file"):
        prepare(f"sqlite:///{file}", directory=tmp_path)


def test_a_locked_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A file that another process holds is said to be locked."""
    monkeypatch.setattr("shipworthy.demo.prepare.LOCK_SECONDS", 0.05)
    with closing(sqlite3.connect(tmp_path / "held.sqlite3")) as holder:
        holder.execute("BEGIN EXCLUSIVE")

        with refused("held.sqlite3 is locked by another process (waited 0.05 s)"):
            prepare("sqlite:///held.sqlite3", directory=tmp_path)


def test_tables_of_somebody_else(engine: Engine, tmp_path: Path):
    """A database that holds other tables is not touched; the sentence names one of them."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE orders (id INTEGER)"))

    with refused("tables the demo did not make (1, such as 'orders')", "--database"):
        prepare(engine.url.render_as_string(hide_password=False), directory=tmp_path)

    assert inspect(engine).get_table_names() == ["orders"]


def test_the_revision_of_somebody_else(sqlite_engine: Engine, tmp_path: Path):
    """A database that another application migrates is not touched."""
    with sqlite_engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('a1b2c3')"))

    with refused("another application or a newer version (a1b2c3)"):
        prepare(str(sqlite_engine.url), directory=tmp_path)


def test_tables_that_shipworthy_made_do_not_disturb(sqlite_engine: Engine, tmp_path: Path):
    """Our own tables may be there before the demo's."""
    with sqlite_engine.begin() as connection:
        connection.execute(text("CREATE TABLE shipworthy_audit (id INTEGER)"))

    assert prepare(str(sqlite_engine.url), directory=tmp_path).clients == 6


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        pytest.param("demo.sqlite3", ["not named by a URL"], id="a path"),
        pytest.param("sqlite://", ["in memory"], id="memory"),
        pytest.param("sqlite:///:memory:", ["in memory"], id="memory by name"),
        pytest.param("oracle://a:secret@b/c", ["no drivers", "'oracle'"], id="another kind"),
        pytest.param("postgresql://a:secret@b:port/c", ["not named by a URL"], id="a bad port"),
        pytest.param(
            "postgresql://a:secret@127.0.0.1:1/c",
            ["postgresql://a:***@127.0.0.1:1/c", "refused", "start the server"],
            id="nobody at the port (PostgreSQL)",
        ),
        pytest.param(
            "mariadb://a:secret@127.0.0.1:1/c?charset=utf8mb4",
            ["mariadb://a:***@127.0.0.1:1/c", "refused", "start the server"],
            id="nobody at the port (MariaDB)",
        ),
        pytest.param(
            "postgresql://a@127.0.0.1:1/c?password=secret&zzz=1",
            ["postgresql://a@127.0.0.1:1/c", "zzz"],
            id="an option no driver knows",
        ),
    ],
)
def test_a_url_that_leads_nowhere(tmp_path: Path, url: str, parts: list[str]):
    """Each part of a wrong URL gets a sentence that shows no password."""
    with refused("DATABASE_URL" if "memory" not in parts[0] else "name a file", *parts):
        prepare(url, directory=tmp_path)

    with pytest.raises(StartFailed) as caught:
        prepare(url, directory=tmp_path)
    assert "secret" not in str(caught.value)


def test_an_option_that_only_the_async_driver_refuses(postgres_url: str, tmp_path: Path):
    """Both drivers are tried: an option that only one of them knows is found at the start."""
    plain = postgres_url.replace("+psycopg", "")

    with refused("sslmode"):
        prepare(f"{plain}?sslmode=prefer", directory=tmp_path)

    assert prepare(f"{postgres_url}?sslmode=prefer", directory=tmp_path).clients == 6


def test_a_driver_that_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The sentence names the driver and the extra that brings it."""
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)

    with refused("the driver 'psycopg'", "pip install 'shipworthy[demo,postgres]'"):
        prepare("postgresql://a@127.0.0.1:1/c", directory=tmp_path)


def test_a_half_made_schema_is_refused(tmp_path: Path):
    """What a failed start left behind where DDL cannot be undone is not built upon."""
    engine = create_engine(f"sqlite:///{tmp_path}/half.sqlite3")
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("CREATE TABLE clients (id INTEGER)"))
    engine.dispose()

    with refused("tables the demo did not make (1, such as 'clients')"):
        prepare("sqlite:///half.sqlite3", directory=tmp_path)
