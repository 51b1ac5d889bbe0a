"""The suite looks after itself: nobody is left behind, no service is missed, no wait is endless."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

import services
from tidy.house import ROOT

pytestmark = pytest.mark.slow


def run_pytest(folder: Path, test: str, *options: str, **environment: str) -> tuple[int, str]:
    """Run one test file under this suite's configuration and fixtures."""
    (folder / "test_sample.py").write_text(test, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", ROOT / "pyproject.toml", "-p", "conftest",
         "-p", "no:cacheprovider", *options, folder / "test_sample.py"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "tests"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("leak", "says"),
    [
        ("import subprocess; p.append(subprocess.Popen(['sleep', '30']))", "sleep 30"),
        (
            (
                "import threading, time; threading.Thread(target=time.sleep, args=(4,), "
                "name='shipworthy-x', daemon=True).start()"
            ),
            "thread shipworthy-x",
        ),
    ],
    ids=["process", "daemon thread of ours"],
)
def test_whoever_is_left_behind_is_named(tmp_path, leak, says):
    """A process or thread that outlives its test is an error of that test."""
    status, output = run_pytest(
        tmp_path,
        "import atexit\np = []\natexit.register(lambda: [x.kill() for x in p])\n"
        f"def test_it():\n    {leak}\n",
    )

    assert status == 1
    assert "the test left these behind" in output
    assert says in output


def test_a_test_that_hangs_is_ended_with_the_stacks_of_all_threads(tmp_path):
    """A hanging test ends its process after a minute, and says where it stood."""
    status, output = run_pytest(
        tmp_path,
        "import threading\ndef test_it():\n    threading.Event().wait()\n",
        "--timeout=0.5",
    )

    assert status == 1
    assert "Timeout" in output
    assert "test_sample.py" in output


MISSING = """
import pytest, services
from contextlib import contextmanager

@contextmanager
def nothing():
    raise services.Unavailable("no PostgreSQL here")
    yield

services.postgres = nothing

def test_it(postgres_url):
    pass
"""


def test_a_missing_service_is_a_skip_with_its_reason(tmp_path):
    """On a developer's machine the summary lists what could not run, and why."""
    status, output = run_pytest(tmp_path, MISSING)

    assert status == 0
    assert "SKIPPED" in output
    assert "no PostgreSQL here" in output


def test_a_missing_service_is_a_failure_in_ci(tmp_path):
    """There it would hide tests that never run."""
    status, output = run_pytest(tmp_path, MISSING, CI="true")

    assert status == 1
    assert "no PostgreSQL here" in output


@pytest.mark.parametrize("service", ["postgres", "mariadb"])
def test_a_server_of_our_own_is_started_where_none_is_found(monkeypatch, service):
    """It gives empty databases of unused names, one that served before too, and none stays."""
    monkeypatch.setattr(services, "_candidates", lambda _variable, _standard: [])

    try:
        with getattr(services, service)() as server:
            with server.database() as url:
                server.execute(url, "CREATE TABLE x (id INTEGER)")
            with server.database() as other:
                server.execute(other, "CREATE TABLE x (id INTEGER)")
                with pytest.raises(Exception, match=url.rpartition("/")[2]):
                    server.execute(url, "CREATE TABLE x (id INTEGER)")
            server.close()
            with pytest.raises(Exception, match=other.rpartition("/")[2]):
                server.execute(other, "CREATE TABLE x (id INTEGER)")
    except services.Unavailable as missing:
        pytest.skip(str(missing))


@pytest.mark.parametrize(
    "more",
    [
        "ALTER DATABASE {name} SET lock_timeout = '1s'",
        "CREATE EXTENSION pgcrypto",
        "GRANT CREATE ON DATABASE {name} TO PUBLIC",
        "SELECT lo_create(0)",
        "REVOKE EXECUTE ON FUNCTION pg_control_checkpoint() FROM PUBLIC",
    ],
)
def test_a_database_with_more_than_schemas_in_it_serves_once(postgres_server, more):
    """What a test did to the database itself is never met by the next one."""
    with postgres_server.database() as url:
        name = url.rpartition("/")[2]
        postgres_server.execute(url, more.format(name=name))

    assert name not in postgres_server._spare


def test_a_database_that_serves_again_is_as_new(postgres_server):
    """Its schemas are gone with all they held, whoever is still connected."""
    with postgres_server.database() as url:
        for statement in (
            "CREATE SCHEMA other CREATE TABLE kept (id int)",
            "CREATE TABLE kept (id int); CREATE TYPE mood AS ENUM ('good')",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        ):
            postgres_server.execute(url, statement)
        new = sa.create_engine(url)
        held = new.connect()
        held.execute(sa.text("LOCK TABLE kept"))
    assert url.rpartition("/")[2] in postgres_server._spare
    held.invalidate()
    with postgres_server.database() as again:
        engine = sa.create_engine(again)
        with engine.connect() as connection:
            left = connection.scalars(
                sa.text(
                    "SELECT oid::regclass::text FROM pg_class WHERE oid >= 16384 UNION ALL"
                    " SELECT oid::regproc::text FROM pg_proc WHERE oid >= 16384 UNION ALL"
                    " SELECT typname FROM pg_type WHERE oid >= 16384 UNION ALL SELECT nspname"
                    " FROM pg_namespace WHERE oid >= 16384 AND nspname <> 'public'"
                )
            ).all()
            public = connection.execute(
                sa.text(
                    "SELECT nspowner::regrole::text, nspacl::text FROM pg_namespace"
                    " WHERE nspname = 'public'"
                )
            ).one()
        engine.dispose()
    new.dispose()

    assert again != url
    assert left == []
    assert public == (
        "pg_database_owner",
        "{pg_database_owner=UC/pg_database_owner,=U/pg_database_owner}",
    )
