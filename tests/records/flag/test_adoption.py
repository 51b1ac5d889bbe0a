"""A table comes under flag mode while it is in use, and out of it again, on each engine."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from records.conftest import ready_engine, url_of
from records.plain_tables import CLIENTS, FLAGGED, METADATA, ORDERS
from shipworthy.errors import Misuse
from shipworthy.records import (
    AdoptOptions,
    adopt,
    flagged_deletions,
    plan_of_adoption,
    plan_of_release,
    release_flags,
)

FREE = AdoptOptions(free_unique=True)


@pytest.fixture
def plain(engine: sa.Engine) -> sa.Engine:
    """Two clients, of whom bob has an order, on each engine in turn."""
    METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(CLIENTS), [{"id": 1, "email": "a"}, {"id": 2, "email": "b"}])
        connection.execute(sa.insert(ORDERS), [{"id": 1, "client_id": 2}])
    return engine


def _adopt(engine: sa.Engine, options: AdoptOptions | None = None) -> None:
    adopt(engine, "clients", FLAGGED, options, say=lambda _: None)


def _run(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


def _flag(engine: sa.Engine, number: int) -> None:
    _run(
        engine,
        "UPDATE clients SET deleted_at = '2026-01-01 00:00:00', deletion_id = 'x' "
        f"WHERE id = {number}",
    )


@pytest.mark.slow
def test_an_adopted_table_is_guarded_and_frees_what_deleted_rows_had(plain: sa.Engine):
    """No child comes under a flagged row, a unique value of one is free, that of a live one not."""
    _adopt(plain, FREE)
    _flag(plain, 1)

    _run(plain, "INSERT INTO clients (id, email) VALUES (3, 'a')")
    for statement in (
        "INSERT INTO clients (id, email) VALUES (4, 'b')",
        "INSERT INTO orders (id, client_id) VALUES (2, 1)",
        "UPDATE orders SET client_id = 1",
        "INSERT INTO clients (id, email, boss_id) VALUES (4, 'c', 1)",
    ):
        with pytest.raises(sa.exc.IntegrityError):
            _run(plain, statement)


@pytest.mark.slow
def test_a_second_adoption_makes_nothing_new_and_a_release_takes_all_away(plain: sa.Engine):
    """Only guards are put again; afterwards the unique index counts every row, as before."""
    _adopt(plain, FREE)

    again = plan_of_adoption(plain, "clients", FLAGGED, FREE)
    assert all(step.what.startswith("guard") for step in again.steps)

    release_flags(plain, "clients", FLAGGED, say=lambda _: None)

    left = sa.inspect(plain).get_indexes("clients")
    assert [it["name"] for it in left if str(it["name"]).startswith("shipworthy")] == []
    with pytest.raises(sa.exc.IntegrityError):
        _run(plain, "INSERT INTO clients (id, email) VALUES (5, 'b')")
    _run(plain, "INSERT INTO orders (id, client_id) VALUES (2, 1)")


@pytest.mark.slow
def test_rows_that_were_flagged_before_get_an_id_each(plain: sa.Engine):
    """A column of the application that had the time becomes ours, and each row a deletion."""
    kind = {"postgresql": "timestamptz"}.get(plain.dialect.name, "datetime")
    _run(plain, f"ALTER TABLE clients ADD COLUMN deleted_at {kind}")
    _run(plain, "UPDATE clients SET deleted_at = '2026-01-01 00:00:00'")

    _adopt(plain)

    found = flagged_deletions(plain, FLAGGED)
    assert [it.rows for it in found] == [1, 1]
    assert {len(it.id) for it in found} == {32}


def test_a_table_with_flagged_rows_is_not_released(sqlite: sa.Engine):
    """They would be alive again; how many there are is said."""
    METADATA.create_all(sqlite)
    _run(sqlite, "INSERT INTO clients (id, email) VALUES (1, 'a')")
    _adopt(sqlite)
    _flag(sqlite, 1)

    with pytest.raises(Misuse, match="1 rows of clients are flagged, and would be alive again"):
        release_flags(sqlite, "clients", FLAGGED, say=lambda _: None)


def test_a_table_that_settings_do_not_name_is_not_adopted(sqlite: sa.Engine):
    """The workers that serve would not know that it is flagged."""
    METADATA.create_all(sqlite)

    with pytest.raises(Misuse, match=r"orders is not in trash\.flag"):
        plan_of_adoption(sqlite, "orders", FLAGGED)
    with pytest.raises(Misuse, match="there is no table gone"):
        plan_of_release(sqlite, "gone", ["gone.deleted_at"])


def test_a_unique_index_that_an_upsert_names_stays(sqlite: sa.Engine, tmp_path: Path):
    """It is refused with the place of the upsert, and nothing is changed."""
    METADATA.create_all(sqlite)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text("q.on_conflict_do_update(['email'], set_={})")
    options = AdoptOptions(free_unique=True, code=tmp_path / "code")

    with pytest.raises(
        Misuse, match=r"clients_email \(email\) stays: an upsert in .*app.py, line 1"
    ):
        _adopt(sqlite, options)

    assert "deleted_at" not in {it["name"] for it in sa.inspect(sqlite).get_columns("clients")}


def test_a_unique_index_that_a_foreign_key_needs_stays(sqlite: sa.Engine):
    """A foreign key refers to all rows, so no partial index will do for it."""
    METADATA.create_all(sqlite)
    _run(sqlite, "CREATE TABLE letters (id INTEGER PRIMARY KEY, email REFERENCES clients (email))")

    with pytest.raises(Misuse, match=r"clients_email .* stays: foreign key .* of letters refers"):
        _adopt(sqlite, FREE)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_child_that_comes_while_its_parent_is_being_flagged_is_refused(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
):
    """The guard waits for the parent's row, and reads what became of it."""
    from concurrent.futures import ThreadPoolExecutor

    engine = ready_engine(url_of(kind, request, tmp_path))
    METADATA.create_all(engine)
    _run(engine, "INSERT INTO clients (id, email) VALUES (1, 'a')")
    _adopt(engine)

    with ThreadPoolExecutor(1) as pool, engine.connect() as flagging:
        flagging.exec_driver_sql(
            "UPDATE clients SET deleted_at = '2026-01-01 00:00:00', deletion_id = 'x'"
        )
        child = pool.submit(_run, engine, "INSERT INTO orders (id, client_id) VALUES (2, 1)")
        with pytest.raises(TimeoutError):
            child.result(0.3)
        flagging.commit()
        with pytest.raises(sa.exc.IntegrityError, match="that is deleted"):
            child.result(10.0)
    engine.dispose()


@pytest.mark.slow
def test_the_role_of_the_views_reads_no_deleted_row_until_the_release(postgres_url: str):
    """Raw SQL of a role that is not ours finds the view first, and may write through it."""
    owner = sa.create_engine(postgres_url)
    METADATA.create_all(owner)
    role = f"reader_{owner.url.database}"
    _run(owner, "INSERT INTO clients (id, email) VALUES (1, 'a'), (2, 'b')")
    _run(owner, f"CREATE ROLE {role} LOGIN")
    theirs = sa.create_engine(owner.url.set(username=role, password=None))
    try:
        _adopt(owner, AdoptOptions(shadow=True, role=role))
        _flag(owner, 1)

        assert _emails(theirs) == ["b"]
        with owner.connect() as connection:
            set_for = "SELECT count(*) FROM pg_db_role_setting WHERE setdatabase = 0"
            assert connection.exec_driver_sql(set_for).scalar_one() == 0
        _run(theirs, "UPDATE clients SET email = 'c' WHERE id = 2")
        _run(theirs, "DELETE FROM clients WHERE id = 2")
        assert _emails(theirs) == []
        assert sorted(_emails(owner)) == ["a", "c"]

        _run(owner, "UPDATE clients SET deleted_at = NULL, deletion_id = NULL")
        theirs.dispose()
        release_flags(owner, "clients", FLAGGED, say=lambda _: None)
        _run(owner, f"GRANT SELECT ON clients TO {role}")
        assert sorted(_emails(theirs)) == ["a", "c"]
    finally:
        theirs.dispose()
        _run(owner, f"DROP OWNED BY {role}")
        _run(owner, f"DROP ROLE {role}")
        owner.dispose()


def _emails(engine: sa.Engine) -> list[str]:
    with engine.connect() as connection:
        return list(connection.exec_driver_sql("SELECT email FROM clients").scalars())
