"""The tables of the store are made and dropped by commands, and never by `run`."""

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from shipworthy.cli import app
from shipworthy.store import BUCKETS, STORE_TABLES


def tables_in(url):
    engine = sa.create_engine(url)
    found = set(sa.inspect(engine).get_table_names())
    engine.dispose()
    return found


def command(*arguments):
    done = CliRunner().invoke(app, ["db", "migrate", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_db_migrate_makes_the_table_of_the_buckets_and_takes_it_away(postgres_url):
    """A second time is nothing, and a database that was migrated before the table was ours too."""
    assert f"made the table {BUCKETS.name}" in command("--database", postgres_url)
    assert "made the table" not in command("--database", postgres_url)
    engine = sa.create_engine(postgres_url)
    BUCKETS.drop(engine)
    engine.dispose()
    assert f"made the table {BUCKETS.name}" in command("--database", postgres_url)
    command("--database", postgres_url, "--remove-ours")
    assert not {name for name in tables_in(postgres_url) if name.startswith("shipworthy")}


def test_who_installs_the_trail_makes_the_others():
    """The buckets need no trail, and the trail needs no buckets."""
    assert BUCKETS not in STORE_TABLES
