"""Values of MariaDB as Python has them, and the cells that the triggers write for them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from shipworthy.audit.dialects.mariadb_values import encode


def test_a_value_of_the_driver_becomes_the_cell_of_its_type() -> None:
    """So that a key which somebody gives is found in the log."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=UTC)
    assert encode(Decimal("1.5"), "decimal(9,2)") == "1.50"
    assert encode(7, "int(11)") == "7"
    assert encode(moment, "datetime(6)") == "2026-01-02 03:04:05.000600"
    assert encode(moment, "datetime") == "2026-01-02 03:04:05"
    assert encode(-timedelta(hours=30, microseconds=5), "time(6)") == "-30:00:00.000005"
    assert encode(b"\x01\xff", "bit(16)") == "511"
    assert encode(b"\x01\xff", "varbinary(9)") == "01FF"
    assert encode("ж", "varchar(9) character set cp1251") == "E6"
    assert encode(None, "int(11)") is None
