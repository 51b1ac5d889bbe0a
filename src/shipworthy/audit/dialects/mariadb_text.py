"""MariaDB: text read and bound as it is stored, also where it is not what Unicode calls text.

utf8mb4 takes the halves of surrogate pairs (U+D800 to U+DFFF), which no UTF-8 of Python's has: the
drivers fail to read such a row, and one of them writes other bytes than those of the letter.
"""

from typing import Any, Final, final

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeEngine
from typing_extensions import override

_ERRORS: Final = "surrogatepass"


def read_text(value: Any) -> Any:
    """Return the text of what was read `AS BINARY`; anything else as it is."""
    return value.decode("utf-8", _ERRORS) if isinstance(value, bytes) else value


def bound_text(value: str | None) -> str | bytes | None:
    """Return what a driver is given for a text: its bytes, where they are no UTF-8."""
    if value is None or value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", _ERRORS)
    return value


def shown_text(value: str) -> str:
    """Return a text that any file and any answer can carry: '?' for what is no UTF-8."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


@final
class StoredUtf8mb4(sa.types.TypeDecorator[str]):
    """A column of text of which every letter is read and bound, half a surrogate pair too.

    One such value in an application's table would else make the whole log unreadable.
    """

    impl = sa.Text
    cache_ok = True

    def __init__(self, stored: TypeEngine[Any]) -> None:
        super().__init__()
        self.stored = stored

    @override
    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return self.stored

    @override
    def column_expression(self, column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
        return sa.type_coerce(sa.cast(column, sa.LargeBinary), self)

    @override
    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:
        return bound_text(value)

    @override
    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        found: str | None = read_text(value)
        return found
