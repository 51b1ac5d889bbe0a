"""Cells and the values that Python has for them."""

import pytest
import sqlalchemy as sa

from shipworthy.audit.dialects.postgresql import POSTGRESQL_AUDIT


def test_cells_as_people_and_json_have_them() -> None:
    """What JSON has no word for stays text."""
    value = POSTGRESQL_AUDIT.value
    assert value("9007199254740993", "bigint") == 9007199254740993
    assert value("true", "boolean") is True
    assert value("0.1", "double precision") == 0.1
    assert value("NaN", "real") == "NaN"
    assert value("1.50", "numeric(10,2)") == "1.50"
    assert value('{"a":1}', "jsonb") == {"a": 1}
    assert (value(None, "text"), value(True, "text")) == (None, True)


@pytest.mark.slow
def test_a_float_is_written_as_the_server_writes_it(connection: sa.Connection) -> None:
    """A key that Python has is found by its text, at each border of the forms it may take."""
    values = [
        0.0, -0.0, 0.1, 1e14, 123456789012345.0, 1e15, 1234567890123456.0, 1e16, 1.5e300, 5e-324,
        0.0001, 0.00001234, -2.5, 1e-5, float("inf"), float("-inf"), float("nan"),
    ]  # fmt: skip
    written = [
        connection.scalar(sa.text("SELECT CAST(CAST(:v AS float8) AS text)"), {"v": value})
        for value in values
    ]
    assert [POSTGRESQL_AUDIT.cell(value, "double precision") for value in values] == written
