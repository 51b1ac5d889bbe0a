"""One migrator at a time."""

import pytest
from sqlalchemy import create_engine

from shipworthy.clock import ManualClock
from shipworthy.db.dialects.migration import migration_dialect
from shipworthy.db.migrate import MigratorBusy
from shipworthy.db.migrate.lock import POLL_SECONDS, Patience, _locked, only_migrator


def hold(engine, patience):
    return only_migrator(engine, migration_dialect(engine.dialect.name), patience)


@pytest.fixture
def patience(said):
    clock = ManualClock()
    return Patience(seconds=1.0, say=said.append, wait=clock.advance, clock=clock)


def test_the_second_waits_and_says_once_for_whom(url, connect, patience, said):
    """Then it gives up, with the same facts."""
    with (
        hold(connect(url), patience),
        pytest.raises(MigratorBusy, match="waited 1 s for it"),
        hold(connect(url), patience),
    ):
        pass

    (sentence,) = said
    assert sentence.startswith("waiting up to 1 s for another migrator: process ")
    assert patience.clock.now() == pytest.approx(1001.0, abs=POLL_SECONDS)


def test_the_second_goes_on_when_the_first_has_ended(url, connect, said):
    """Within a poll."""
    first = hold(connect(url), Patience(seconds=0.0, say=said.append, wait=lambda seconds: None))
    first.__enter__()
    patience = Patience(
        seconds=1.0, say=said.append, wait=lambda seconds: first.__exit__(None, None, None)
    )

    with hold(connect(url), patience) as lock:
        assert lock.held()


def test_it_can_be_taken_again(url, connect, patience, tmp_path):
    """And leaves no file behind."""
    for _ in range(2):
        with hold(connect(url), patience) as lock:
            assert lock.held()

    assert not list(tmp_path.glob("*-migrate"))


def test_a_database_in_memory_needs_no_lock(patience):
    """Nobody else can see it."""
    engine = create_engine("sqlite://")
    with hold(engine, patience) as one, hold(engine, patience) as other, engine.connect() as any_:
        assert one.held()
        assert other.seen_from(any_)
    engine.dispose()


def test_a_folder_that_is_not_there_is_for_the_database_to_say(patience, tmp_path):
    """Not for the lock."""
    engine = create_engine(f"sqlite:///{tmp_path / 'no' / 'app.db'}")

    with hold(engine, patience):
        assert list(tmp_path.iterdir()) == []


def test_other_databases_of_a_server_are_other_locks(postgres_server, connect, patience, said):
    """A server may serve many."""
    with (
        postgres_server.database() as one,
        postgres_server.database() as other,
        hold(connect(one), patience) as lock,
        connect(other).connect() as elsewhere,
        connect(one).connect() as here,
    ):
        assert lock.seen_from(here)
        assert not lock.seen_from(elsewhere)
        with hold(connect(other), patience):
            assert said == []


def test_nobody_gets_the_migrators_connection_from_the_pool(postgres_url, patience):
    """It has the name of a migrator, and goes with the lock, also where there was none to have."""
    engine = create_engine(postgres_url, pool_size=2, max_overflow=0)
    named = "SELECT current_setting('application_name')"
    with engine.connect() as connection:
        before = connection.exec_driver_sql(named).scalar()

    with hold(engine, patience), pytest.raises(MigratorBusy), hold(engine, patience):
        pass

    with engine.connect() as one, engine.connect() as other:
        assert [it.exec_driver_sql(named).scalar() for it in (one, other)] == [before, before]
    engine.dispose()


def test_a_lock_on_a_file_that_was_taken_away_is_none(tmp_path):
    """Somebody may have made a new one of that name, and hold that."""
    path = tmp_path / "app.db-migrate"
    path.touch()
    with path.open("r+") as before, path.open("r+") as same:
        assert _locked(before.fileno(), path)
        assert not _locked(same.fileno(), path)
    with path.open("r+") as before:
        path.unlink()
        assert not _locked(before.fileno(), path)
        path.touch()
        assert not _locked(before.fileno(), path)
