"""The tables that settings name are under flag mode from the import of SQLAlchemy on."""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from records.flag_tables import FLAGGED, Boat, fill
from shipworthy.records import TrashSettings, flag_tables


def test_settings_that_name_tables_put_them_under_flag_mode_until_it_is_ended(sqlite: sa.Engine):
    """A second time changes nothing while the first is in force."""
    with sqlite.begin() as connection:
        fill(connection)
    settings = TrashSettings(flag=FLAGGED)
    end = flag_tables(settings)
    flag_tables(settings)()
    try:
        with Session(sqlite) as session, session.begin():
            session.delete(session.get(Boat, 4))
        with Session(sqlite) as session:
            assert session.get(Boat, 4) is None
    finally:
        end()

    with Session(sqlite) as session:
        assert session.get(Boat, 4).deletion_id


def test_settings_that_name_none_change_nothing(sqlite: sa.Engine):
    """A DELETE stays a DELETE."""
    with sqlite.begin() as connection:
        fill(connection)
    end = flag_tables(TrashSettings())

    with Session(sqlite) as session, session.begin():
        session.delete(session.get(Boat, 4))
    with sqlite.connect() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(Boat.__table__)) == 3
    end()
