"""Leave flagged rows out of what a session reads, updates and deletes.

Every statement of the ORM is filtered, those that load relationships or refresh an object too: an
object whose row was flagged elsewhere is gone at its next refresh, as if the row were.

Not here: what passes a session by (the page on flag mode has the list, measured).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, final

import sqlalchemy as sa
from sqlalchemy.orm import (
    Mapper,
    ORMExecuteState,
    with_loader_criteria,
)
from sqlalchemy.orm.interfaces import UserDefinedOption

# No public name gives the mappers there are; this one is the same in 2.0 and 2.1.
from sqlalchemy.orm.mapper import _mapper_registries
from sqlalchemy.sql.base import ExecutableOption

from shipworthy.records.flag.marks import FlaggedTable
from shipworthy.records.flag.scope import sees_deleted

INCLUDE_OPTION: Final = "include_deleted"
"""The execution option that lets one statement see flagged rows."""


class _LoadedWithDeleted(UserDefinedOption):
    """Stays with an object that was loaded among flagged rows, so that it can be refreshed."""

    propagate_to_loaders = True


_LOADED_WITH_DELETED: Final = _LoadedWithDeleted()


# In `info` of a table: the key of its column with the time.
_TIME: Final = "shipworthy_flag_time"


def _lives(entity: Any) -> Any:
    # SQLAlchemy keeps what it learns of a function by its code: this one closes over nothing, so
    # that it may stand for every table. It is given the alias where a statement has one.
    return _time_is_empty(entity)


def _time_is_empty(entity: Any) -> Any:
    for mapper in entity.__mapper__.iterate_to_root():
        key = mapper.local_table.info.get(_TIME)
        if key is not None:
            column = mapper.local_table.c[key]
            return getattr(entity, mapper.get_property_by_column(column).key).is_(None)
    raise AssertionError(entity)  # criteria are made for such alone


@final
class FlagFilter:
    """Listens to `do_orm_execute`, and to new mappers."""

    def __init__(self, flagged: Mapping[str, FlaggedTable]) -> None:
        self._flagged = flagged
        self._options: tuple[ExecutableOption, ...] | None = None

    def mapped(self, _mapper: Mapper[Any], _class: type[Any]) -> None:
        """Look at all mappers again: there is a new one."""
        self._options = None

    def do_orm_execute(self, state: ORMExecuteState) -> None:
        """Add the criteria of every flagged table to a statement that is about to run.

        Of every one, since what a statement joins, or reads in a subquery, it does not tell.
        """
        # A SELECT of EXISTS is none of the ORM by its looks, and may hold one that is.
        if not state.is_select and not (
            state.is_orm_statement and (state.is_update or state.is_delete)
        ):
            return
        if state.is_column_load:
            if not any(isinstance(it, _LoadedWithDeleted) for it in state.user_defined_options):
                self._only_live(state)
            return
        if sees_deleted() or state.execution_options.get(INCLUDE_OPTION, False):
            if state.is_orm_statement and state.is_select:
                state.statement = state.statement.options(_LOADED_WITH_DELETED)
            return
        for mapper in state.all_mappers:
            table: Any = mapper.local_table
            found = self._flagged.get(getattr(table, "fullname", ""))
            if found is not None:
                found.time(table)  # raises where the model has none
        if self._options is None:
            self._options = tuple(self._criteria())
        state.statement = state.statement.options(*self._options)

    def _only_live(self, state: ORMExecuteState) -> None:
        """Find no row for an object that is flagged now; criteria do not count in a refresh."""
        mapper = state.bind_mapper
        if mapper is None or not isinstance(state.statement, sa.Select):
            return
        for it in mapper.iterate_to_root():
            if self._has_flags(it):
                table: Any = it.local_table
                time = self._flagged[table.fullname].time(table)
                state.statement = state.statement.where(time.is_(None))

    def _criteria(self) -> Iterator[ExecutableOption]:
        for registry in tuple(_mapper_registries):
            for mapper in registry.mappers:
                if not self._has_flags(mapper):
                    continue
                table: Any = mapper.local_table
                table.info[_TIME] = self._flagged[table.fullname].time(table).key
                yield with_loader_criteria(mapper.class_, _lives, include_aliases=True)

    def _has_flags(self, mapper: Mapper[Any]) -> bool:
        """Return whether the flagged table is this mapper's own, and not only inherited."""
        table: Any = mapper.local_table
        found = self._flagged.get(getattr(table, "fullname", ""))
        # A table of the same name may be another one, of another database.
        if found is None or not found.is_ready(table):
            return False
        above = mapper.inherits
        return above is None or above.local_table is not table
