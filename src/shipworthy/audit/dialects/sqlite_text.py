"""SQLite: text read as it is stored, UTF-8 or not."""

from typing import Any, final

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from typing_extensions import override

ERRORS = "surrogateescape"


@final
class StoredText(sa.types.TypeDecorator[str]):
    """Text of which every byte is read.

    SQLite stores what it is told is text, and the drivers refuse to read what is not UTF-8: one
    such value in an application's table would else make the whole log unreadable.
    """

    impl = sa.Text
    cache_ok = True

    @override
    def column_expression(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.type_coerce(sa.cast(column, sa.LargeBinary), self)

    @override
    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        del dialect
        return value.decode("utf-8", ERRORS) if isinstance(value, bytes) else value
