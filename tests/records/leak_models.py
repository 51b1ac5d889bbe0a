"""The tables that the leak matrix is about, made anew for each way to delete.

What is deleted is called `gone`, and what stays `live`; the shapes tell from the names. Nothing
here needs more than SQLAlchemy: the matrix also runs where Shipworthy is not the subject.
"""

from datetime import datetime
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import (
    DeclarativeBase,
    DynamicMapped,
    Mapped,
    WriteOnlyMapped,
    column_property,
    mapped_column,
    relationship,
)


def _flags() -> tuple[sa.Column[Any], sa.Column[Any]]:
    return (
        sa.Column("deleted_at", sa.DateTime(timezone=True)),
        sa.Column("deletion_id", sa.String(32)),
    )


class _Plain:
    """A base that brings nothing."""


def models(mixin: type = _Plain) -> SimpleNamespace:
    """Return the classes, each of them with `mixin` among its bases."""

    class Base(DeclarativeBase):
        __table_args__ = {"mysql_engine": "InnoDB"}  # noqa: RUF012

    class Flags:
        deleted_at: Mapped[datetime | None] = mapped_column(sa.DateTime(timezone=True))
        deletion_id: Mapped[str | None] = mapped_column(sa.String(32))

    orders_tags = sa.Table(
        "orders_tags",
        Base.metadata,
        sa.Column("order_id", sa.ForeignKey("orders.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("tag_id", sa.ForeignKey("tags.id", ondelete="CASCADE"), primary_key=True),
        *_flags(),
        mysql_engine="InnoDB",
    )

    class Tag(mixin, Flags, Base):
        __tablename__ = "tags"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(20))

    class Order(mixin, Flags, Base):
        __tablename__ = "orders"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(sa.String(20))
        amount: Mapped[int]
        client_id: Mapped[int] = mapped_column(sa.ForeignKey("clients.id", ondelete="CASCADE"))
        reviewer_id: Mapped[int | None] = mapped_column(
            sa.ForeignKey("clients.id", ondelete="SET NULL")
        )
        client: Mapped["Client"] = relationship(foreign_keys=[client_id], back_populates="orders")
        reviewer: Mapped["Client | None"] = relationship(foreign_keys=[reviewer_id])
        tags: Mapped[list[Tag]] = relationship(secondary=orders_tags, passive_deletes=True)

    class Client(mixin, Flags, Base):
        __tablename__ = "clients"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(20))
        orders: Mapped[list[Order]] = relationship(
            foreign_keys=[Order.client_id],
            back_populates="client",
            cascade="all, delete-orphan",
            passive_deletes=True,
        )
        orders_dynamic: DynamicMapped[Order] = relationship(
            foreign_keys=[Order.client_id], viewonly=True
        )
        orders_written: WriteOnlyMapped[Order] = relationship(
            foreign_keys=[Order.client_id], viewonly=True
        )
        order_count = column_property(
            sa.select(sa.func.count(Order.id))
            .where(Order.client_id == id)  # noqa: A003 - the column above
            .correlate_except(Order)
            .scalar_subquery(),
            deferred=True,
        )

    class Category(mixin, Flags, Base):
        __tablename__ = "categories"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(20))
        parent_id: Mapped[int | None] = mapped_column(
            sa.ForeignKey("categories.id", ondelete="CASCADE")
        )
        children: Mapped[list["Category"]] = relationship(passive_deletes=True)

    class Product(mixin, Flags, Base):
        __tablename__ = "products"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str] = mapped_column(sa.String(20))
        name: Mapped[str] = mapped_column(sa.String(20))
        client_id: Mapped[int | None] = mapped_column(
            sa.ForeignKey("clients.id", ondelete="SET NULL")
        )
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "product"}  # noqa: RUF012

    class Book(Product):
        __tablename__ = "books"
        id: Mapped[int] = mapped_column(
            sa.ForeignKey("products.id", ondelete="CASCADE"), primary_key=True
        )
        pages: Mapped[int]
        __mapper_args__ = {"polymorphic_identity": "book"}  # noqa: RUF012

    class Note(mixin, Flags, Base):
        __tablename__ = "notes"
        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(sa.String(20))

    class Copy(Base):
        __tablename__ = "copies"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(sa.String(20))

    return SimpleNamespace(
        Base=Base, Client=Client, Order=Order, Tag=Tag, Category=Category, Product=Product,
        Book=Book, Note=Note, Copy=Copy, orders_tags=orders_tags,
    )  # fmt: skip


FLAGGED = (
    "clients.deleted_at",
    "orders.deleted_at",
    "tags.deleted_at",
    "categories.deleted_at",
    "products.deleted_at",
    "notes.deleted_at",
    "orders_tags.deleted_at",
)
NOTES = 12


def rows(m: SimpleNamespace) -> list[Any]:
    """Return what is there before anything is deleted."""
    live, gone, kept = (
        m.Tag(id=n, name=name) for n, name in enumerate(("live", "gone", "kept"), 1)
    )
    ana, bob = m.Client(id=1, name="live"), m.Client(id=2, name="gone")
    ana.orders = [
        m.Order(id=1, title="live", amount=10, reviewer=bob, tags=[live, gone, kept]),
        m.Order(id=2, title="gone", amount=100, reviewer=ana, tags=[live]),
    ]
    bob.orders = [m.Order(id=3, title="gone", amount=1000)]
    return [
        ana,
        bob,
        m.Category(id=1, name="live", children=[
            m.Category(id=2, name="live"),
            m.Category(id=3, name="gone", children=[m.Category(id=4, name="gone")]),
        ]),
        m.Book(id=1, name="live", pages=10),
        m.Book(id=2, name="gone", pages=20),
        *(m.Note(id=n, text="gone") for n in range(1, NOTES + 1)),
    ]  # fmt: skip
