"""Three tables under flag mode, by which its modules are tried."""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

FLAGGED = ("owners.deleted_at", "boats.deleted_at")


class FleetBase(DeclarativeBase):
    """Tables of their own: nothing else has these names."""


class Owner(FleetBase):
    """Somebody with boats; an email once among the living, where the index says so."""

    __tablename__ = "owners"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(50))
    deleted_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    deletion_id: Mapped[str | None] = mapped_column(sa.String(32))
    __table_args__ = (
        sa.Index("owners_email", "email", unique=True),
        {"mysql_engine": "InnoDB"},
    )


class Boat(FleetBase):
    """A boat, which goes with its owner, and with the boat that it is a tender of."""

    __tablename__ = "boats"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(50))
    owner_id: Mapped[int] = mapped_column(
        sa.ForeignKey("owners.id", ondelete="CASCADE", name="boats_owner")
    )
    tender_of_id: Mapped[int | None] = mapped_column(
        sa.ForeignKey("boats.id", ondelete="CASCADE", name="boats_tender_of")
    )
    deleted_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
    deletion_id: Mapped[str | None] = mapped_column(sa.String(32))
    owner: Mapped[Owner] = relationship()
    __table_args__ = ({"mysql_engine": "InnoDB"},)


def fill(connection: sa.Connection) -> None:
    """Make the tables, with ana and her two boats, the second with a tender, and bob with one."""
    FleetBase.metadata.create_all(connection)
    owners, boats = Owner.__table__, Boat.__table__
    connection.execute(sa.insert(owners), [{"id": 1, "email": "ana"}, {"id": 2, "email": "bob"}])
    connection.execute(
        sa.insert(boats),
        [
            {"id": 1, "name": "Ida", "owner_id": 1, "tender_of_id": None},
            {"id": 2, "name": "Una", "owner_id": 1, "tender_of_id": None},
            {"id": 3, "name": "Tot", "owner_id": 1, "tender_of_id": 2},
            {"id": 4, "name": "Bee", "owner_id": 2, "tender_of_id": None},
        ],
    )
