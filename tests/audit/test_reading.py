"""What can be asked about, and what stands where a value is not to be had."""

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from shipworthy.audit.model import TableName
from shipworthy.audit.reading import ERASED, UNKNOWN, batched, target_of
from shipworthy.errors import Misuse


class Base(DeclarativeBase):
    pass


class Berth(Base):
    __tablename__ = "berths"
    number: Mapped[int] = mapped_column("id", primary_key=True)


def test_a_class_an_object_a_table_and_a_name_are_the_same_table():
    """With a key of its own, or the one that is given; with attributes where there is a class."""
    name = TableName(schema="", name="berths")
    for what in (Berth, Berth(number=7), Berth.__table__, "berths"):
        assert target_of(what, 7).name == name
        assert target_of(what, 7).key == (7,)
    assert target_of(Berth(number=7)).key == (7,)
    assert target_of(Berth).key is None
    assert target_of(Berth).attributes == {"id": "number"}
    assert target_of("harbour.berths", (1, 2)).key == (1, 2)
    assert target_of("harbour.berths").name == TableName(schema="harbour", name="berths")
    with pytest.raises(Misuse, match="no mapped class"):
        target_of(sa.Integer)


def test_no_value_is_false_and_says_why():
    """So that it is not taken for one."""
    assert not ERASED
    assert (str(ERASED), str(UNKNOWN)) == ("(erased)", "(unknown)")


def test_items_come_in_batches():
    """The last one may be smaller, and is never empty."""
    assert list(batched("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(batched("ab", 2)) == [["a", "b"]]
