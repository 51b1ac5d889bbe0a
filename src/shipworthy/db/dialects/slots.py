"""How many connections a server has for its users, and which server it is.

Who is a superuser gets those that are kept for him as well; a service should not be one.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSlots:
    """`slots` returns one number, `place` a text that is the same on each way to one server."""

    slots: str
    place: str


# `reserved_connections` exists since PostgreSQL 16.
_POSTGRESQL: Final = ServerSlots(
    slots=(
        "SELECT CAST(current_setting('max_connections') AS int)"
        " - CAST(current_setting('superuser_reserved_connections') AS int)"
        " - COALESCE(CAST(current_setting('reserved_connections', true) AS int), 0)"
    ),
    # Not the identifier of its files, which a replica shares, and not its address, which a session
    # by a Unix socket does not have.
    place=(
        "SELECT CAST(EXTRACT(epoch FROM pg_postmaster_start_time()) AS text)"
        " || '/' || current_setting('port')"
    ),
)
# The one that MariaDB and MySQL keep for administrators comes on top of these.
_MARIADB: Final = ServerSlots(
    slots="SELECT @@max_connections", place="SELECT CONCAT(@@hostname, ':', @@port)"
)
_BY_NAME: Final = {"mariadb": _MARIADB, "mysql": _MARIADB, "postgresql": _POSTGRESQL}


def server_slots(name: str) -> ServerSlots | None:
    """Return how to ask the dialect `name`; None where connections are not counted."""
    return _BY_NAME.get(name)
