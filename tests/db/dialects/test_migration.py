"""What differs between databases when they are migrated."""

from types import SimpleNamespace

import pytest
from sqlalchemy import make_url

from shipworthy.db.dialects.migration import file_of, migration_dialect, server_version, sync_url


@pytest.mark.parametrize(
    ("given", "sync"),
    [
        ("postgresql+asyncpg://u@h/d?ssl=require", "postgresql+psycopg://u@h/d?sslmode=require"),
        ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgres://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgresql+psycopg2://u@h/d", "postgresql+psycopg2://u@h/d"),
        ("mariadb+asyncmy://u@h/d", "mariadb+pymysql://u@h/d"),
        ("mysql+aiomysql://u@h/d", "mysql+pymysql://u@h/d"),
        ("sqlite+aiosqlite:///a.db", "sqlite+pysqlite:///a.db"),
        ("oracle://u@h/d", "oracle://u@h/d"),
    ],
)
def test_a_url_is_for_a_driver_that_needs_no_loop(given, sync):
    """A driver that somebody chose stands."""
    assert sync_url(given).render_as_string() == sync


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("sqlite:///a/b.db", "a/b.db"),
        ("sqlite:///file:b.db?mode=ro&uri=true", "b.db"),
        ("sqlite://", None),
        ("sqlite:///:memory:", None),
        ("postgresql://h/d", None),
    ],
)
def test_only_sqlite_is_a_file(url, name):
    """And not where it lives in memory."""
    found = file_of(make_url(url))

    assert (None if found is None else str(found)) == name


def test_rules_go_by_the_version_of_a_server_that_is_known():
    """MySQL's numbers say nothing about MariaDB."""
    mysql = SimpleNamespace(name="mysql", is_mariadb=False, server_version_info=(8, 0, 36))
    mariadb = SimpleNamespace(name="mariadb", is_mariadb=True, server_version_info=(10, 11, "x"))
    unknown = SimpleNamespace(name="postgresql", server_version_info=None)

    assert server_version(mysql) == ()
    assert server_version(mariadb) == (10, 11)
    assert server_version(unknown) == ()


def test_locks_are_waited_for_in_whole_units():
    """At least a second on MariaDB, which knows no less."""
    mariadb = migration_dialect("mariadb")

    assert "= 1," in mariadb.wait_for_locks("ALTER TABLE T", 0.2)
    assert "= 3," in mariadb.wait_for_locks("ALTER TABLE T", 2.5)
    assert migration_dialect("oracle") is None


def test_what_blocks_nobody_waits_without_a_limit():
    """0 is none on PostgreSQL."""
    statement = "ALTER TABLE T VALIDATE CONSTRAINT C"

    assert migration_dialect("postgresql").wait_for_locks(statement, 2.0) == "SET lock_timeout = 0"
