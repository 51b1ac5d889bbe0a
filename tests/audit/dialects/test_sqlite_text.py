"""SQLite: text is read to the last byte, UTF-8 or not."""

import pytest
import sqlalchemy as sa

from shipworthy.audit.dialects.sqlite_text import StoredText


@pytest.mark.parametrize("stored", ["", "plain", "Zoë 🙂", "nul\0inside"])
def test_text_comes_back_as_it_was_stored(stored):
    """What is UTF-8 is the text that it was."""
    table = sa.Table("t", sa.MetaData(), sa.Column("body", StoredText()))
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(sa.insert(table).values(body=stored))
        assert connection.scalar(sa.select(table.c.body)) == stored
    engine.dispose()


def test_bytes_that_are_no_text_are_read_and_null_stays_null():
    """The driver alone would refuse the whole row."""
    table = sa.Table(
        "t", sa.MetaData(), sa.Column("n", sa.Integer), sa.Column("body", StoredText())
    )
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        table.create(connection)
        connection.exec_driver_sql("INSERT INTO t VALUES (1, CAST(x'41FF42' AS TEXT)), (2, NULL)")
        with pytest.raises(sa.exc.OperationalError, match="UTF-8"):
            connection.exec_driver_sql("SELECT body FROM t").all()
        found = connection.scalars(sa.select(table.c.body).order_by(table.c.n)).all()
    assert found == ["A\udcffB", None]
    engine.dispose()
