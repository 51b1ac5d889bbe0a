"""`shipworthy trash adopt | flagged | unflag`: flag mode from the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from shipworthy.cli import app

Call = Callable[..., Result]


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    """A table with two rows."""
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'app.db'}")
    _run(engine, "CREATE TABLE orders (id INTEGER PRIMARY KEY, code VARCHAR(10))")
    _run(engine, "CREATE UNIQUE INDEX orders_code ON orders (code)")
    _run(engine, "INSERT INTO orders (id, code) VALUES (1, 'a'), (2, 'b')")
    return engine


@pytest.fixture
def call(engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run a verb of `trash` on that database, with settings that flag the table."""
    (tmp_path / "shipworthy.toml").write_text('[trash]\nflag = ["orders.deleted_at"]\n')
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str) -> Result:
        engine.dispose()
        return CliRunner().invoke(app, ["trash", *words, "--database", str(engine.url)])

    return invoke


def _run(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


def _columns(engine: sa.Engine) -> set[str]:
    return {it["name"] for it in sa.inspect(engine).get_columns("orders")}


def test_the_sql_is_shown_and_nothing_is_changed(engine: sa.Engine, call: Call) -> None:
    """With what each statement is for, and what stays as it is."""
    shown = call("adopt", "orders", "--sql")

    assert shown.exit_code == 0
    assert "-- columns deleted_at, deletion_id\nALTER TABLE" in shown.stdout
    assert "-- note: unique index orders_code counts deleted rows too" in shown.stdout
    assert _columns(engine) == {"id", "code"}


def test_a_table_is_adopted_its_flags_are_listed_and_taken_away_and_it_is_released(
    engine: sa.Engine, call: Call
) -> None:
    """The whole way."""
    assert call("adopt", "orders", "--free-unique").exit_code == 0
    assert _columns(engine) == {"id", "code", "deleted_at", "deletion_id"}
    assert "no row is flagged" in call("flagged").output
    _run(engine, "UPDATE orders SET deleted_at = '2026-01-02 03:04:05', deletion_id = 'x1'")

    (listed,) = json.loads(call("flagged", "--json").stdout)
    assert listed == {
        "id": "x1",
        "at": "2026-01-02T03:04:05+00:00",
        "tables": {"orders": 2},
        "rows": 2,
    }
    refused = call("adopt", "orders", "--release")
    assert refused.exit_code == 2
    assert "2 rows of orders are flagged" in refused.output
    assert json.loads(call("unflag", "x1", "--json").stdout) == {"deletion": "x1", "rows": 2}
    assert call("unflag", "x1").exit_code == 1
    released = call("adopt", "orders", "--release")
    assert released.exit_code == 0
    assert "the columns deleted_at and deletion_id stay" in released.output


@pytest.mark.parametrize(
    "words", [("orders", "--role", "app"), ("orders", "--release", "--views"), ("others",)]
)
def test_what_makes_no_sense_is_misuse(call: Call, words: tuple[str, ...]) -> None:
    """Nothing is tried."""
    assert call("adopt", *words).exit_code == 2
