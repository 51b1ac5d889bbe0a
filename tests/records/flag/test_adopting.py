"""The plan says what stays as it is."""

import sqlalchemy as sa

from records.plain_tables import FLAGGED, METADATA
from shipworthy.records import plan_of_adoption


def test_what_would_go_along_and_is_not_flagged_is_said(sqlite: sa.Engine):
    """As is that deleted rows keep their unique values."""
    METADATA.create_all(sqlite)

    notes = "\n".join(plan_of_adoption(sqlite, "clients", FLAGGED).notes)

    assert "rows of orders would go with a row of clients" in notes
    assert "unique index clients_email counts deleted rows too" in notes
