"""Values that are longer than what the server lets a text be."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from audit.dialects.mariadb_trail import install, run
from shipworthy.audit import TOO_LONG, LogFilter, as_of, history, recent_entries, reconcile
from shipworthy.audit.cells import read_image
from shipworthy.audit.dialects.mariadb_long import limits_of, long_silent, too_long
from shipworthy.audit.model import CatalogColumn, CatalogTable, TableName
from shipworthy.audit.tables import ENTRIES, PERSONAL

_MIB = 1024 * 1024


def _table(**types: str) -> CatalogTable:
    columns = (CatalogColumn(name=name, type=kind, number=1) for name, kind in types.items())
    return CatalogTable(name=TableName(schema="", name="t"), columns=tuple(columns), primary_key=())


@contextmanager
def _engine(url: str, *ddl: str) -> Iterator[sa.Engine]:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        run(connection, ddl)
    yield engine
    engine.dispose()


def _images(engine: sa.Engine, side: str = "new") -> list[dict[str, object]]:
    with engine.connect() as connection:
        found = connection.scalars(sa.select(ENTRIES.c[side]).order_by(ENTRIES.c.seq))
        return [{**read_image(text)} for text in found]


def test_columns_share_what_an_image_may_take() -> None:
    """Together seven eighths, those of unbounded types eight times what the others get."""
    limits = limits_of(_table(id="int(11)", a="text", b="longblob", c="varchar(50)"))
    assert limits == {
        "a": "@@max_allowed_packet DIV 72*7",
        "b": "@@max_allowed_packet DIV 72*56",
    }
    assert limits_of(_table(id="int(11)", c="varchar(50)")) == {}


def test_bytes_take_two_letters_each_and_of_text_the_worst_is_looked_at_first() -> None:
    """So that most texts cost the look at their length and no more."""
    assert too_long("x", "longblob", "7") == "OCTET_LENGTH(x)*2>7"
    assert too_long("x", "text character set utf8mb4", "7").startswith("(OCTET_LENGTH(x)*6>7 AND ")
    # Written as its bytes.
    assert too_long("x", "text character set sjis", "7") == "OCTET_LENGTH(x)*2>7"


def test_what_is_not_kept_is_said_with_its_octets() -> None:
    """Nothing of a text that cannot come near it."""
    (said,) = long_silent(_table(a="text", b="longblob"))
    assert "'b' 13048896 octets" in said
    assert "'a'" not in said
    assert [*long_silent(_table(a="text"))] == []


@pytest.mark.slow
def test_a_write_of_a_long_value_goes_on_without_it(mariadb_url: str) -> None:
    """The image says that there was one; shorter ones are kept as they are."""
    with _engine(
        mariadb_url,
        "CREATE TABLE f (id INT PRIMARY KEY, b LONGBLOB, c LONGTEXT CHARACTER SET utf8mb4)",
    ) as engine:
        install(engine)
        half = 6 * _MIB
        with engine.begin() as connection:
            for number, kind, size in (
                (1, "b", 9_000_000),
                (2, "b", 3 * _MIB),
                (3, "c", half),
                (4, "c", 9_000_000),
            ):
                connection.exec_driver_sql(
                    f"INSERT INTO f (id, {kind}) VALUES ({number}, REPEAT('x', {size}))"
                )
            # Each would do, and both together would be more than a text may be.
            connection.exec_driver_sql(
                "INSERT INTO f VALUES (5, REPEAT('x', 7000000), REPEAT(CHAR(1), 2000000))"
            )
            connection.exec_driver_sql("UPDATE f SET b = REPEAT('y', 8000000)")
            connection.exec_driver_sql("DELETE FROM f WHERE id = 1")
        images = _images(engine)
        assert images[0]["b"] is False
        assert images[1]["b"] == "78" * 3 * _MIB
        assert images[2]["c"] == "x" * half
        assert images[3]["c"] is False
        assert (images[4]["b"], images[4]["c"]) == (False, False)
        assert images[5:10] == [{"b": False}] * 5
        assert _images(engine, "old")[-1] == {"id": "1", "b": False, "c": None}
        with engine.connect() as connection:
            first, *_, inserted = history(connection, "f", key=1)
            then = as_of(connection, inserted.seq).get("f", 1)
            (newest, *_) = recent_entries(connection, LogFilter(limit=1))
        assert TOO_LONG in (*first.old.values(), *first.new.values())
        assert then is not None
        assert then["b"] is TOO_LONG
        assert reconcile(engine).findings == []
        assert newest.old is not None
        assert newest.old["b"] == "(too long to be kept)"


@pytest.mark.slow
def test_a_long_personal_value_lies_nowhere(mariadb_url: str) -> None:
    """Also of a row that goes along with its parent."""
    with _engine(
        mariadb_url,
        "CREATE TABLE p (id INT PRIMARY KEY)",
        "CREATE TABLE f (id INT PRIMARY KEY, p INT, b LONGBLOB, c LONGBLOB,"
        " FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)",
    ) as engine:
        install(engine, personal={"f": {"b": "id"}})
        with engine.begin() as connection:
            connection.exec_driver_sql("INSERT INTO p VALUES (1)")
            connection.exec_driver_sql(
                "INSERT INTO f VALUES (1, 1, REPEAT('x', 9000000), REPEAT('y', 9000000))"
            )
            connection.exec_driver_sql("INSERT INTO f VALUES (2, 1, 'x', 'y')")
            connection.exec_driver_sql("DELETE FROM p")
            beside = connection.execute(sa.select(PERSONAL.c.side, PERSONAL.c.value)).all()
        whole = {"id": "1", "p": "1", "b": False, "c": False}
        short = {"id": "2", "p": "1", "b": True, "c": "79"}
        assert _images(engine)[1:3] == [whole, short]
        gone = [image for image in _images(engine, "old") if "p" in image]
        assert sorted(gone, key=lambda it: str(it["id"])) == [whole, short]
        assert sorted(map(tuple, beside)) == [("n", "78"), ("o", "78")]
