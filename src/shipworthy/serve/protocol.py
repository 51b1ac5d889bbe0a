"""uvicorn's HTTP protocol, taught to leave: answer, then close; never cut who may be asking.

The methods overridden and the attributes read (`cycle.keep_alive`, `cycle.response_complete`,
`server_state`) are uvicorn's internals; `tests/serve/test_engine.py` is the contract that a new
uvicorn must pass before the pinned range is widened.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from typing_extensions import override
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState


class Connections(ServerState):
    """The connections of one worker: what they are doing, and whether the worker is leaving."""

    def __init__(self) -> None:
        super().__init__()
        self.leaving = False
        self.last_request_at = 0.0

    def census(self) -> "Census":
        """Count the open connections by what they are doing; takes microseconds per connection."""
        idle = asking = busy = upgraded = 0
        for connection in self.connections:
            if not isinstance(connection, LeavingHttpProtocol):
                upgraded += 1
            elif connection.asking:
                asking += 1
            elif connection.answering:
                busy += 1
            else:
                idle += 1
        return Census(idle=idle, asking=asking, busy=busy, upgraded=upgraded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Open connections: idle, sending a request head, being answered, upgraded to websockets."""

    idle: int
    asking: int
    busy: int
    upgraded: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.idle + self.asking + self.busy + self.upgraded


class LeavingHttpProtocol(HttpToolsProtocol):
    """An HTTP/1.1 connection that, once the worker leaves, ends with its next answer.

    While leaving, an answer carries `Connection: close` and the connection ends after it, so a
    client learns in HTTP that it must come back elsewhere. An idle connection is not cut at once:
    a request may be on its way, and a cut would lose it.
    """

    server_state: Connections

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.asking = False
        self.asking_since = 0.0

    @property
    def answering(self) -> bool:
        """Whether an answer is being made on this connection."""
        # uvicorn types it as always there; before the first request it is None.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    @override
    def on_message_begin(self) -> None:
        self.asking = True
        self.asking_since = self.loop.time()
        super().on_message_begin()

    @override
    def on_headers_complete(self) -> None:
        self.asking = False
        self.server_state.last_request_at = self.asking_since
        super().on_headers_complete()
        if self.server_state.leaving:
            self.leave()

    def leave(self) -> None:
        """Close after the answer that is being made, if there is one; wait for one otherwise."""
        if self.answering:
            self.cycle.keep_alive = False

    def cut_if_idle(self) -> None:
        """Close a connection that is not asking and not being answered."""
        if not self.asking and not self.answering:
            self.transport.close()

    def cut_if_asking_since(self, instant: float) -> None:
        """Close a connection whose request head began before `instant` and never ended."""
        if self.asking and self.asking_since <= instant:
            self.transport.close()
