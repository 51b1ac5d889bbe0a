"""What a database is like, and what is wrong with a URL, part by part."""

import secrets
import socket
import threading

import pytest
from sqlalchemy import create_engine, text

from db.migrate.projects import make_project
from shipworthy.db import DbSettings, tables
from shipworthy.db.check import DatabaseUnusable, check_database, opened_database
from shipworthy.db.migrate import MigrateOptions
from shipworthy.errors import Misuse
from shipworthy.settings import Secret

TABLE = 'op.create_table("t", sa.Column("id", sa.BigInteger, primary_key=True))'
SECRET = "hunter2"


def opened(url, **options):
    return opened_database(url, DbSettings(), **options)


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A directory without an Alembic project."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nonsense", "the database URL cannot be used: it cannot be read"),
        (f"postgresql://u:{SECRET}@h:port/d", "its port is no number"),
        (f"foo://u:{SECRET}@h/d", "'foo' names no kind of database"),
        (f"postgresql+nodriver://u:{SECRET}@h/d", "'postgresql+nodriver' names no kind"),
        (f"postgresql+psycopg2cffi://u:{SECRET}@h/d", "is not installed"),
        (f"postgresql://u:{SECRET}@h", "the database URL names no database on its server"),
    ],
)
def test_a_url_that_cannot_be_used_is_misuse(url, sentence):
    """Each part has its sentence, and the password is in none of them."""
    with pytest.raises(Misuse, match=sentence.replace("+", r"\+")) as misuse, opened(url):
        pass

    assert SECRET not in str(misuse.value)


@pytest.mark.parametrize(
    ("kind", "change", "part", "sentence"),
    [
        ("postgres", {"host": "no.such.host.invalid"}, "host", "has no address"),
        ("postgres", {"port": 1}, "port", "nobody listens on 127.0.0.1:1"),
        ("postgres", {"username": "nobody9"}, "user", "there is no user 'nobody9'"),
        ("postgres", {"database": "no_such"}, "database", "there is no database 'no_such'"),
        ("mariadb", {"host": "no.such.host.invalid"}, "host", "has no address"),
        ("mariadb", {"port": 1}, "port", "nobody listens on 127.0.0.1:1"),
        ("mariadb", {"password": SECRET}, "password", "did not accept user 'root'"),
        ("mariadb", {"username": "nobody9"}, "user", "did not accept user 'nobody9'"),
        ("mariadb", {"database": "no_such"}, "database", "there is no database 'no_such'"),
    ],
)
def test_each_wrong_part_of_a_url_has_a_sentence(*, kind, change, part, sentence, request):
    """Found out from a real server."""
    url = create_engine(request.getfixturevalue(f"{kind}_url")).url.set(**change)

    with (
        pytest.raises(DatabaseUnusable, match=sentence) as unusable,
        opened(url.render_as_string(hide_password=False)),
    ):
        pass

    assert unusable.value.part == part
    assert SECRET not in str(unusable.value)


def test_a_role_that_may_not_log_in_is_said(postgres_url):
    """PostgreSQL says so without a code."""
    engine = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    role = f"ship_{secrets.token_hex(6)}"
    with engine.connect() as connection:
        connection.execute(text(f"CREATE ROLE {role} NOLOGIN"))
    try:
        url = engine.url.set(username=role, password=SECRET)
        with (
            pytest.raises(DatabaseUnusable, match="may not log in") as unusable,
            opened(url.render_as_string(hide_password=False)),
        ):
            pass
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP ROLE {role}"))
        engine.dispose()
    assert SECRET not in str(unusable.value)


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_an_option_that_the_driver_does_not_know_is_misuse(kind, request):
    """It is named."""
    url = f"{request.getfixturevalue(f'{kind}_url')}?colour=blue"

    with pytest.raises(Misuse, match=r"an option .*: colour"), opened(url):
        pass


def test_an_option_of_the_wrong_type_is_misuse():
    """It is named, and its value is not."""
    with (
        pytest.raises(Misuse, match="an option of the database URL cannot be used: timeout"),
        opened("sqlite://?timeout=soon"),
    ):
        pass


def test_a_server_that_is_none_is_said():
    """Somebody listens there, and speaks otherwise."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        port = listener.getsockname()[1]
        with (
            pytest.raises(DatabaseUnusable, match=f"no connection to 127.0.0.1:{port}: "),
            opened(f"postgresql://u:{SECRET}@127.0.0.1:{port}/d?sslmode=disable"),
        ):
            pass
        thread.join(20)


def test_a_sqlite_file_is_not_made_by_a_check(tmp_path):
    """Whoever only looks leaves nothing behind."""
    with (
        pytest.raises(DatabaseUnusable, match="there is no file"),
        opened(f"sqlite:///{tmp_path / 'none.db'}", must_exist=True),
    ):
        pass

    assert not (tmp_path / "none.db").exists()


def test_a_file_that_is_no_database_is_said(tmp_path):
    """And so is a folder that is not there."""
    (tmp_path / "text.db").write_text("this is no database, and long enough to be read as one")

    for name in ("text.db", "no/such/folder.db"):
        with pytest.raises(DatabaseUnusable, match="the file '"), opened(f"sqlite:///{name}"):
            pass


@pytest.mark.parametrize(
    ("kind", "sync", "asynchronous"),
    [("postgres", "+psycopg", "+asyncpg"), ("mariadb", "+pymysql", "+asyncmy")],
)
def test_an_asyncio_driver_is_exchanged_for_its_sync_sibling(*, kind, sync, asynchronous, request):
    """Commands have no event loop."""
    url = request.getfixturevalue(f"{kind}_url").replace(sync, asynchronous)

    with opened(url) as (engine, project):
        assert engine.url.drivername.endswith(sync)
        assert project is None


def test_the_database_comes_from_the_settings_or_the_project(sqlite_url, tmp_path):
    """The one that is named wins, then db.url, then alembic.ini."""
    other = f"sqlite:///{tmp_path / 'other.db'}"
    make_project(tmp_path, sqlite_url, TABLE)
    settings = DbSettings(url=Secret(other))

    with opened_database(None, DbSettings()) as (engine, _):
        assert engine.url.render_as_string() == sqlite_url
    with opened_database(None, settings) as (engine, project):
        assert engine.url.render_as_string() == other
        assert project.url == other
    with opened_database("sqlite://", settings) as (engine, _):
        assert engine.url.render_as_string() == "sqlite://"


def test_no_database_at_all_is_misuse():
    """With the three ways to name one."""
    with pytest.raises(Misuse, match=r"--database URL, db\.url in the settings, or"):
        opened_database(None, DbSettings()).__enter__()


def test_a_refusal_on_the_way_is_one_sentence(sqlite_url):
    """No traceback for what the database says to a command."""
    with (
        pytest.raises(DatabaseUnusable, match="no such table: nowhere"),
        opened(sqlite_url) as (engine, _),
        engine.connect() as connection,
    ):
        connection.execute(text("SELECT * FROM nowhere"))


@pytest.fixture
def sqlite_url(tmp_path):
    return f"sqlite:///{tmp_path / 'app.db'}"


def test_a_check_tells_what_is_there(postgres_url, tmp_path):
    """And that revisions wait."""
    make_project(tmp_path, postgres_url, TABLE)

    with opened(postgres_url) as (engine, project):
        found = check_database(engine, project)

    assert found.server == "postgresql"
    assert int(found.version.partition(".")[0]) >= 12
    assert found.slots > 30
    assert found.capacity == 30  # of one worker, and of its successor while it is replaced
    assert found.problems == ("these revisions wait: r1; run `shipworthy db migrate`",)


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_pools_that_are_larger_than_the_server_are_a_problem(kind, request):
    """Said with all three numbers."""
    with opened(request.getfixturevalue(f"{kind}_url")) as (engine, project):
        found = check_database(engine, project, workers=1000, pool_capacity=20)

    (problem,) = found.problems
    assert problem.startswith(
        f"1000 workers, and 1 more while one is replaced, with pools of 20 may open 20020 "
        f"connections, and the server has {found.slots}; make the pools smaller"
    )


def test_sqlite_has_no_limit_of_connections(sqlite_url):
    """A file has no slots."""
    with opened(sqlite_url) as (engine, project):
        found = check_database(engine, project, workers=1000)

    assert (found.slots, found.problems) == (None, ())


def test_old_tables_and_refusals_are_problems(sqlite_url, tmp_path):
    """What a run would stop for is known before it."""
    make_project(tmp_path, sqlite_url, TABLE, 'op.execute("UPDATE t SET id = 1")')
    with opened(sqlite_url) as (engine, project):
        with engine.begin() as connection:
            tables.install(connection)
            connection.execute(tables.SCHEMA.update().values(version=tables.VERSION - 1))
        found = check_database(engine, project, options=MigrateOptions(large_rows=1))

    assert found.survey.ours == tables.VERSION - 1
    assert f"our own tables are of version {tables.VERSION - 1}" in found.problems[1]
