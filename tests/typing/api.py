"""What users write, as mypy must accept it in scripts/check. Never run."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, assert_type

import shipworthy
from shipworthy import actor, harden
from shipworthy.errors import Draining, Rejected, ShipworthyError

Message = MutableMapping[str, Any]


async def asgi(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """An application as the ASGI specification writes it."""


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """An application as PEP 3333 writes it."""
    return []


hardened = harden(asgi)
again = harden(hardened)
from_wsgi = harden(wsgi)

assert_type(shipworthy.__version__, str)


def work() -> None:
    """The actor is scoped; what was rejected says when to come back."""
    with actor("import job"):
        pass
    try:
        work()
    except Draining as leaving:
        assert_type(leaving.retry_after_seconds, float)
    except Rejected as rejected:
        assert_type(rejected.status, int)
    except ShipworthyError as wrong:
        assert_type(str(wrong), str)
