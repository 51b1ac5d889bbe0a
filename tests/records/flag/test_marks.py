"""Which tables are flagged, and by which columns."""

import pytest
import sqlalchemy as sa

from records.flag_tables import Boat, Owner
from shipworthy.errors import Misuse
from shipworthy.records.flag.marks import FlaggedTable, cascades, flagged_tables


def test_an_entry_names_table_and_column():
    """The column is what stands behind the last dot, so that a schema may stand before."""
    assert flagged_tables(["orders.deleted_at", "shop.clients.gone"]) == {
        "orders": FlaggedTable(table="orders", column="deleted_at"),
        "shop.clients": FlaggedTable(table="shop.clients", column="gone"),
    }


@pytest.mark.parametrize("entry", ["orders", ".deleted_at", "orders.", ""])
def test_an_entry_without_table_or_column_is_refused(entry: str):
    """The sentence repeats the entry and says how one is written."""
    with pytest.raises(Misuse, match=r"as in 'orders\.deleted_at'"):
        flagged_tables([entry])


def test_a_table_named_twice_is_refused():
    """Both columns are said."""
    with pytest.raises(Misuse, match="orders twice: deleted_at, gone"):
        flagged_tables(["orders.deleted_at", "orders.gone"])


def test_a_model_without_the_columns_is_refused_with_what_to_declare():
    """A table that cannot be flagged must not be deleted from, nor read as if it were."""
    table = sa.Table("orders", sa.MetaData(), sa.Column("id", sa.Integer))
    found = FlaggedTable(table="orders", column="deleted_at")

    assert not found.is_ready(table)
    with pytest.raises(Misuse, match="no column deleted_at; declare it as a nullable DateTime"):
        found.time(table)
    with pytest.raises(Misuse, match=r"no column deletion_id; declare it as a nullable String\(32"):
        found.id(table)


def test_a_time_without_a_zone_is_utc():
    """The value has a zone exactly where the column has one."""
    found = FlaggedTable(table="t", column="deleted_at")
    for zoned in (True, False):
        table = sa.Table(
            "t",
            sa.MetaData(),
            sa.Column("deleted_at", sa.DateTime(timezone=zoned)),
            sa.Column("deletion_id", sa.String(32)),
        )
        when = found.values(table, at=1_700_000_000.0, id="x")[table.c.deleted_at]

        assert when.isoformat() == "2023-11-14T22:13:20" + ("+00:00" if zoned else "")


def test_what_goes_along_are_cascades_of_flagged_tables():
    """A foreign key without ON DELETE CASCADE, or of a table that is not flagged, takes nothing."""
    flagged = flagged_tables(["owners.deleted_at", "boats.deleted_at"])

    assert [key.name for key in cascades(Owner.__table__, flagged)] == ["boats_owner"]
    assert [key.name for key in cascades(Boat.__table__, flagged)] == ["boats_tender_of"]
    assert cascades(Owner.__table__, flagged_tables(["owners.deleted_at"])) == ()
