"""What the trail is told of a transaction: who it is for, and where that came from.

Pure. Everything that a client may have sent is cut to the length of its column, and has no control
characters: it is read on terminals, and in logs of others.
"""

import re
from dataclasses import dataclass
from typing import Final, final

from shipworthy.audit.model import Context
from shipworthy.context import Actor, RequestRecord

# C0, DEL and C1, line and paragraph separators, and what turns the direction of writing around.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
NAME_CHARACTERS: Final = 200
CORRELATION_CHARACTERS: Final = 128
TRACE_CHARACTERS: Final = 32
ROUTE_CHARACTERS: Final = 200
ADDRESS_CHARACTERS: Final = 64
APPLICATION_CHARACTERS: Final = 128
NOTE_CHARACTERS: Final = 1000
# What stands before the name of a service that wrote for nobody we know.
SERVICE: Final = "service:"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What a transaction is for, as the code that writes stands now. Equal ones share a context."""

    actor: Actor | None
    request: RequestRecord | None = None
    note: str = ""


def context_for(
    purpose: Purpose, *, service: str, tx: str, at_microseconds: int, continues: str = ""
) -> Context:
    """Return the context of a transaction; where nobody is known, its actor is the service."""
    actor = purpose.actor or Actor(f"{SERVICE}{service}", "service")
    request = purpose.request
    return Context(
        tx=tx,
        at_microseconds=at_microseconds,
        actor=clean(actor.name, NAME_CHARACTERS) or f"{SERVICE}{service}",
        actor_kind=actor.kind,
        on_behalf_of=clean(actor.on_behalf_of, NAME_CHARACTERS),
        correlation_id=clean(request.correlation_id, CORRELATION_CHARACTERS) if request else "",
        trace_id=clean(request.trace_id, TRACE_CHARACTERS) if request else "",
        route=clean(request.where(), ROUTE_CHARACTERS) if request else "",
        address=clean(request.client, ADDRESS_CHARACTERS) if request else "",
        application=clean(service, APPLICATION_CHARACTERS),
        note=clean(purpose.note, NOTE_CHARACTERS),
        continues=continues,
    )


def clean(text: str, characters: int) -> str:
    """Return `text` without control characters, at most that long, as UTF-8 can carry it."""
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", text))[:characters]
