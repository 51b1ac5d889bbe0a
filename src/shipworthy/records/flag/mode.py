"""Put flag mode in force for the engines and sessions of this process."""

from collections.abc import Callable, Iterable
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Mapper, Session

from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.records.flag.deleting import FlagWriter
from shipworthy.records.flag.marks import flagged_tables
from shipworthy.records.flag.reading import FlagFilter

_REWRITES: Final = {"retval": True}


def flag_deletions(
    tables: Iterable[str],
    *,
    engines: Any = Engine,
    sessions: Any = Session,
    clock: Clock = SYSTEM_CLOCK,
) -> Callable[[], None]:
    """Flag rows of `tables` where they would be deleted, and leave flagged ones out of reads.

    Each is TABLE.COLUMN, as in `trash.flag`. `engines` is an engine, or the class of all;
    `sessions` a session, a sessionmaker or the class of all. Returns what ends it. Raises `Misuse`
    for an entry that is none.
    """
    flagged = flagged_tables(tables)
    writer, reader = FlagWriter(flagged, clock=clock), FlagFilter(flagged)
    # The writer first: what it makes of a DELETE is filtered as any other update.
    listened: tuple[tuple[Any, str, Callable[..., Any], dict[str, Any]], ...] = (
        (engines, "before_execute", writer.before_execute, _REWRITES),
        (engines, "after_execute", writer.after_execute, {}),
        (sessions, "before_flush", writer.before_flush, {}),
        (sessions, "after_flush", writer.flushed, {}),
        (sessions, "after_soft_rollback", writer.flushed, {}),
        (sessions, "do_orm_execute", writer.do_orm_execute, {}),
        (sessions, "do_orm_execute", reader.do_orm_execute, {}),
        (Mapper, "after_mapper_constructed", reader.mapped, {}),
    )
    for target, name, function, options in listened:
        event.listen(target, name, function, **options)

    def end() -> None:
        for target, name, function, _ in listened:
            event.remove(target, name, function)

    return end
