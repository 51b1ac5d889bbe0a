"""PostgreSQL: constraints wait, sequences follow, renamed columns are known, locks are bounded."""

import pytest
import sqlalchemy as sa

from records.conftest import Prepare, ready_engine
from records.shop import Model, everything, fill, run
from shipworthy.audit import install
from shipworthy.records import deletions, plan_restore, restore


@pytest.mark.slow
def test_what_only_postgresql_has(postgres_url: str, prepare: Prepare) -> None:
    """SD-79 by deferred constraints; SD-87 by a column's number; a sequence that was set back."""
    engine = ready_engine(postgres_url)
    run(
        engine,
        "CREATE TABLE a (id int PRIMARY KEY, other int NOT NULL)",
        "CREATE TABLE b (id int PRIMARY KEY, other int NOT NULL REFERENCES a"
        " DEFERRABLE INITIALLY IMMEDIATE)",
        "ALTER TABLE a ADD FOREIGN KEY (other) REFERENCES b DEFERRABLE INITIALLY DEFERRED",
        "CREATE TABLE n (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, old text)",
    )
    prepare(engine, Model.metadata)
    with engine.begin() as connection:
        fill(connection)
    run(engine, "INSERT INTO a VALUES (1, 2)", "INSERT INTO b VALUES (2, 1)")
    run(engine, "INSERT INTO n (old) VALUES ('x'), ('y')")
    run(engine, "SET CONSTRAINTS ALL DEFERRED", "DELETE FROM a", "DELETE FROM b")
    (circle,) = deletions(engine)
    assert circle.rows == 2
    restore(engine, circle.id)

    run(
        engine, "DELETE FROM n", "ALTER TABLE n ALTER id RESTART", "ALTER TABLE n RENAME old TO new"
    )
    install(engine, say=lambda _: None)
    for one in deletions(engine):
        assert plan_restore(engine, one.id).offers == ("all",)
        restore(engine, one.id)

    with engine.begin() as connection:
        rows = connection.exec_driver_sql("SELECT id, new FROM n ORDER BY id").all()
        assert rows == [(1, "x"), (2, "y")]
        assert connection.scalar(sa.text("INSERT INTO n (new) VALUES ('z') RETURNING id")) == 3
        assert connection.exec_driver_sql("SELECT * FROM a JOIN b ON a.other = b.id").all()
    assert everything(engine)["clients"]
    engine.dispose()
