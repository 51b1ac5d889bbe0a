"""What the operations port is asked of the trail, asked of the database itself.

The process of this port imports no application and asks the database that `db.url` names, on a
connection of its own in a thread, so it answers whatever the workers do.

Not here: what a deletion is and how it is restored (`records`), what is recorded (`audit`).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import anyio
import anyio.to_thread
from starlette.requests import Request

from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.context import actor, deadline_scope
from shipworthy.db import DbSettings
from shipworthy.errors import Misuse, Rejected, UnitInvalid
from shipworthy.events import Metric, emit
from shipworthy.operations.endpoint import Asked, Endpoint, Reply, Schema, refusal
from shipworthy.operations.occurrences import OperatorCommanded
from shipworthy.redact import printable
from shipworthy.settings import Loaded
from shipworthy.units import parse_duration

if TYPE_CHECKING:
    from sqlalchemy import Engine

T = TypeVar("T")

# A restore is one transaction, and may be of a hundred thousand rows.
ANSWER_SECONDS: Final = 120.0
# Each holds a connection; the port's own answers must not wait for a thread behind them.
AT_ONCE: Final = 4
PAGE_LIMIT: Final = 500
NAME_CHARACTERS: Final = 200

_OBJECT: Final[Schema] = {"type": "object"}
_OBJECTS: Final[Schema] = {"type": "array", "items": _OBJECT}
_BY: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": NAME_CHARACTERS}


@final
class TrailBusy(Rejected):
    """As many questions about the trail are being answered as this port answers at once."""

    def __init__(self) -> None:
        super().__init__(
            f"{AT_ONCE} questions about the trail are being answered; ask again",
            retry_after_seconds=1,
        )


@final
class RecordedApi:
    """What is asked of the database that `db.url` names; for one event loop."""

    def __init__(self, settings: Loaded) -> None:
        self._settings = settings
        self._free = AT_ONCE

    async def work(self, by: str, ask: "Callable[[Engine], T]") -> T:
        """Return what `ask` returns, in a thread, as the actor `by`; raises what it raises."""
        if not self._free:
            raise TrailBusy
        self._free -= 1
        try:
            # A limiter of its own: `_free` has counted.
            limiter = anyio.CapacityLimiter(1)
            return await anyio.to_thread.run_sync(self._ask, by, ask, limiter=limiter)
        finally:
            self._free += 1

    def _ask(self, by: str, ask: "Callable[[Engine], T]") -> T:
        # Who only looks has deletions collected all the same, which is our own work.
        with (
            self._opened() as engine,
            deadline_scope(SYSTEM_CLOCK.now() + ANSWER_SECONDS),
            actor(by, kind="claimed") if by else actor("shipworthy", kind="service"),
        ):
            return ask(engine)

    @contextmanager
    def _opened(self) -> "Iterator[Engine]":
        from shipworthy import audit, db, records

        # What is to be there depends on what this process knows of.
        audit.add_tables(records.TABLES)
        databases = self._settings.of(DbSettings)
        if not databases.url.reveal():
            raise Misuse(
                "this port does not know the database; set db.url (SHIPWORTHY_DB__URL), and it can "
                "show what was changed and deleted"
            )
        with db.opened_database(None, databases, must_exist=True) as (engine, _):
            end = audit.bind(engine, service="operations")
            try:
                yield engine
            finally:
                end()


def recorded_metrics() -> tuple[tuple[Metric, Callable[[], Mapping[tuple[str, ...], float]]], ...]:
    """Return what this process counts of the trash, each metric with how to read it."""
    from shipworthy.records import records_metrics

    return records_metrics()


def reading(path: str, summary: str, answer: Callable[[Asked], Any], items: str = "") -> Endpoint:
    """Return an endpoint that shows something: an object, or one with a list named `items`."""
    schema: Schema = (
        {"type": "object", "properties": {items: _OBJECTS}, "required": [items]}
        if items
        else _OBJECT
    )
    return Endpoint(
        path=path,
        summary=summary,
        replies=(Reply(says="Here it is.", schema=schema), *_REFUSALS),
        answer=answer,
    )


def acting(
    path: str,
    summary: str,
    answer: Callable[[Asked], Any],
    fields: dict[str, Schema] | None = None,
    needed: tuple[str, ...] = (),
) -> Endpoint:
    """Return an endpoint that does something, in the name that the field `by` has."""
    return Endpoint(
        path=path,
        method="POST",
        summary=summary,
        request={
            "type": "object",
            "properties": {"by": _BY, **(fields or {})},
            "required": list(needed),
            "additionalProperties": False,
        },
        request_optional=not needed,
        replies=(Reply(says="It is done.", schema=_OBJECT), *_REFUSALS),
        answer=answer,
    )


_REFUSALS: Final = (
    refusal(409, "It cannot be done, and nothing was changed: the sentence says why."),
    refusal(422, "It cannot be asked so, or the database is not known here."),
)


def commanded(asked: Asked, command: str, outcome: str) -> None:
    """Tell the log what an operator did."""
    emit(OperatorCommanded, command=command, by=asked.by, client=asked.client, outcome=outcome)


def body_of(body: Any, known: set[str]) -> dict[str, Any]:
    """Return a body, or nothing for none; raises `Misuse` for fields that are not `known`."""
    if body is None:
        return {}
    if not isinstance(body, dict) or set(body) - known:
        raise Misuse(f"the body is an object with {', '.join(sorted(known))}, or nothing")
    return body


def name_of(body: dict[str, Any]) -> str:
    """Return who the caller says is behind it: the token does not tell people apart."""
    by = body.get("by", "operator")
    if not isinstance(by, str) or not 0 < len(by) <= NAME_CHARACTERS:
        raise Misuse(f"'by' is a name of 1 to {NAME_CHARACTERS} characters")
    return printable(by)


def choice_of(request: Request, name: str, known: tuple[str, ...]) -> str:
    """Return a parameter of the query that is one of `known`; the first one where it is missing."""
    given = request.query_params.get(name, known[0])
    if given not in known:
        raise Misuse(f"'{name}' is one of {', '.join(known)}")
    return given


def number_of(request: Request, name: str, default: int, most: int) -> int:
    """Return a parameter of the query that is a number up to `most`."""
    given = request.query_params.get(name, str(default))
    if not (given.isascii() and given.isdigit() and len(given) <= 9 and 1 <= int(given) <= most):
        raise Misuse(f"'{name}' is a number from 1 to {most}")
    return int(given)


def instant_of(request: Request, name: str, now: float) -> float | None:
    """Return a parameter of the query that is a time, in Unix seconds; None where it is missing.

    It has its zone, or says how long before `now` it was.
    """
    given = request.query_params.get(name)
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        try:
            return now - parse_duration(given)
        except UnitInvalid:
            at = None
    if at is None or at.tzinfo is None:
        raise Misuse(
            f"'{name}' is a time with its zone, as in 2026-11-30T12:00:00Z, or how long ago, as 6h"
        )
    return at.timestamp()
