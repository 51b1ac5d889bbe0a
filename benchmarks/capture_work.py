"""Measure writes of the arms of one environment, a round at a time, when told to.

`python capture_work.py capture_ours` imports that module, and answers each line `N` on standard
input with one line of JSON: the CPU seconds for each object of each arm and operation, over N
objects. Runs in any environment that has SQLAlchemy, with Shipworthy or without.
"""

import contextlib
import datetime as dt
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, configure_mappers, mapped_column

OPERATIONS = ("insert", "update", "delete")
# Objects of one unit of work, and so of one transaction.
BATCH = 100
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to write: an engine whose database has the table, and the class that is mapped to it.

    `server` returns the CPU seconds that the database's own process has used for us until now.
    `around` is entered for each unit of work.
    """

    engine: sa.Engine
    item: type[Any]
    server: Callable[[], float]
    around: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext


def declare(*, versioned: bool = False) -> type[Any]:
    """Return a mapped class of eight columns, as an application has them."""

    class Base(DeclarativeBase):
        pass

    class Item(Base):
        __tablename__ = "capture_item"
        if versioned:
            __versioned__ = {}

        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str] = mapped_column(sa.String(100))
        email: Mapped[str | None] = mapped_column(sa.String(100))
        active: Mapped[bool]
        price: Mapped[float]
        stock: Mapped[int]
        note: Mapped[str | None] = mapped_column(sa.Text)
        changed_at: Mapped[dt.datetime]

    configure_mappers()
    return Item


def in_process() -> float:
    """SQLite has no server."""
    return 0.0


def of_process(pid: int) -> float:
    """Return the CPU seconds of a process of this machine."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def measure(arm: Arm, objects: int) -> dict[str, float]:
    """Return the CPU seconds for each object of inserting, changing and deleting that many."""
    found = {}
    for operation in OPERATIONS:
        gc.collect()
        began = time.process_time() + arm.server()
        for first in range(1, objects + 1, BATCH):
            with arm.around(), Session(arm.engine) as session:
                _work(session, arm.item, operation, first)
                session.commit()
        found[operation] = (time.process_time() + arm.server() - began) / objects
    return found


def _work(session: Session, item: type[Any], operation: str, first: int) -> None:
    if operation == "insert":
        session.add_all(
            item(
                id=number,
                name=f"item {number}",
                email=f"{number}@example.org",
                active=True,
                price=number * 1.1,
                stock=number,
                note=None,
                changed_at=dt.datetime(2026, 1, 1),  # noqa: DTZ001 - as most tables have it
            )
            for number in range(first, first + BATCH)
        )
        return
    for one in session.scalars(sa.select(item).where(item.id.between(first, first + BATCH - 1))):
        if operation == "update":
            one.name += " changed"
            one.stock += 1
        else:
            session.delete(one)


def serve_rounds(arms: dict[str, Arm]) -> None:
    """Measure each arm once for every line read, the order turned round each time."""
    for arm in arms.values():
        measure(arm, BATCH)
    turn = list(arms)
    names = [f"{name}: {operation}" for name in turn for operation in OPERATIONS]
    print(json.dumps(names), flush=True)
    for line in sys.stdin:
        seconds = {
            f"{name}: {operation}": value
            for name in turn
            for operation, value in measure(arms[name], int(line)).items()
        }
        turn.reverse()
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        serve_rounds(importlib.import_module(sys.argv[1]).arms(stack))
