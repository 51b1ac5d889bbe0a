"""Both sides of one call of the application, kept: what came in, and what went out.

Not here: whether it may be called again (`again`), and whether its answer is kept (`claim`).
"""

import asyncio
from collections.abc import Awaitable
from typing import Final, final

from shipworthy.db import Attempt
from shipworthy.web.line import Headers, Message, Receive, Scope, Send, nothing

# What a request is kept to, and an answer: each that is in flight may hold as much.
KEPT_BYTES: Final = 1024 * 1024
# Of an answer that says that the request failed. Who has more to say is no longer waited for.
HELD_BYTES: Final = 64 * 1024
# How long an answer of a failed run waits for its run to end, once it is whole.
LINGER_SECONDS: Final = 0.1
# What a message of an answer weighs by itself: an application may send it byte by byte.
_MESSAGE_BYTES: Final = 256
# A client may send its body byte by byte too: parts of a request are joined up to this length.
_PART_BYTES: Final = 1024
# Stands for a list that nobody has needed yet; never appended to.
_NONE: Final[list[Message]] = []


def fresh_scope(scope: Scope) -> Scope:
    """Return the scope with what an application changes in place copied: headers, state."""
    fresh: Scope = dict(scope)
    fresh["headers"] = list(scope["headers"])
    for name in ("state", "extensions"):
        if fresh.get(name):
            fresh[name] = dict(fresh[name])
    return fresh


@final
class KeptRequest:
    """The messages of a request, kept as they come so that they can be given a second time.

    With a body of more than `KEPT_BYTES` it is `torn`: what comes then is passed on and not kept.
    `whole` is set when the last of it was kept. How the network cut the body makes no difference to
    either, nor to what `read` returns. For one task at a time.
    """

    # Class attributes as defaults, not slots: most requests have no body, and set none of these.
    _kept = _NONE
    _next = 0
    _size_bytes = 0
    whole = False
    torn = False
    gone = False

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def receive(self) -> Message:
        """Give the application its next message: a kept one, else the client's next."""
        if self._next < len(self._kept):
            kept = self._kept[self._next]
            self._next += 1
            return {**kept}
        message = await self._pull()
        self._next = len(self._kept)
        return message

    def rewind(self) -> None:
        """Begin at the first message again."""
        self._next = 0

    async def read(self) -> bytes:
        """Return the body as far as it is kept, having waited for all of it that will be."""
        while not (self.whole or self.torn or self.gone):
            await self._pull()
        return b"".join(message["body"] for message in self._kept)[:KEPT_BYTES]

    async def stays(self, seconds: float) -> bool:
        """Wait, and say whether the client is still there and what it sent still kept.

        One that has left already is seen even where there is nothing to wait for.
        """
        watch = asyncio.create_task(self._watch())
        try:
            over, _ = await asyncio.wait({watch}, timeout=seconds)
        finally:
            watch.cancel()
            # Its receive() must have ended before the application calls the next.
            await asyncio.wait({watch})
        if over:
            watch.exception()  # a server that raises has no client either
        return not over

    async def _watch(self) -> None:
        while not (self.gone or self.torn):
            await self._pull()

    async def _pull(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request":
            self.gone = True
        elif not self.torn:
            self._keep(message)
            self.torn = self._size_bytes > KEPT_BYTES
            self.whole = not self.torn and not message.get("more_body", False)
        return message

    def _keep(self, message: Message) -> None:
        part = message.get("body", b"")
        self._size_bytes += len(part)
        if self._kept is _NONE:
            self._kept = []
        elif len(self._kept[-1]["body"]) + len(part) <= _PART_BYTES:
            # Whoever was given the last has been given this, or begins anew with `rewind`.
            self._kept[-1]["body"] += part
            self._kept[-1]["more_body"] = message.get("more_body", False)
            return
        # A copy, because middlewares change messages in place.
        self._kept.append({**message, "body": part})


@final
class HeldAnswer:
    """An answer on its way out: a good one passes at once, one of a failed run is held back.

    It is held when it says 500 or more, `attempt` knows of a failed database, and nothing has been
    committed: then the application may be asked again.
    """

    # Defaults, as above: a good answer sets `passes` and no more.
    _held = _NONE
    _size_bytes = 0
    _late: asyncio.TimerHandle | None = None
    _going: "asyncio.Task[None] | None" = None
    passes = False

    def __init__(self, send: Send, attempt: Attempt) -> None:
        self._send = send
        self._attempt = attempt

    @property
    def holds(self) -> bool:
        """Whether there is something that has not been sent."""
        return bool(self._held)

    def send(self, message: Message) -> Awaitable[None]:
        """Take a message of the answer."""
        if self.passes or (self._held is _NONE and not self._begins_failed(message)):
            self.passes = True
            return self._send(message)
        if self._held is _NONE:
            self._held = []
        self._held.append(message)
        self._size_bytes += len(message.get("body", b"")) + _MESSAGE_BYTES
        if self._size_bytes > HELD_BYTES:
            return self.release()
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            loop = asyncio.get_running_loop()
            self._late = loop.call_later(LINGER_SECONDS, self._let_go)
        return nothing()

    def _let_go(self) -> None:
        # It was answered and works on, in a background task: the client waits no longer, and what
        # works is not begun a second time.
        self.passes = True
        self._going = asyncio.create_task(self.release())

    @property
    def lingers(self) -> bool:
        """Whether a whole answer of a failed run waits, or has waited, for its run to end."""
        return self._late is not None

    async def settle(self) -> None:
        """Hear that the application has returned: see through what is being sent."""
        if self._late is not None:
            self._late.cancel()
        if self._going is not None:
            await self._going

    async def release(self) -> None:
        """Send what is held, and hold nothing from now on."""
        self.passes = True
        held, self._held = self._held, _NONE
        for message in held:
            await self._send(message)

    def _begins_failed(self, message: Message) -> bool:
        if message.get("status", 0) < 500:
            return False
        return bool(self._attempt.failures) and not self._attempt.commits


@final
class CopiedAnswer:
    """An answer that is passed on as it comes, and copied up to `KEPT_BYTES`.

    `status` is 0 until it begins; `whole` is set when all of it was copied. A file that the server
    sends by itself cannot be copied.
    """

    __slots__ = ("_parts", "_send", "_size_bytes", "headers", "status", "whole")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._parts: list[bytes] = []
        self._size_bytes = 0
        self.status = 0
        self.headers: Headers = []
        self.whole = False

    @property
    def body(self) -> bytes:
        """What was copied."""
        return b"".join(self._parts)

    def send(self, message: Message) -> Awaitable[None]:
        """Take a message of the answer."""
        kind = message["type"]
        if kind == "http.response.start":
            self.status = message["status"]
            self.headers = [(bytes(name), bytes(value)) for name, value in message["headers"]]
        elif kind == "http.response.body":
            part = message.get("body", b"")
            self._size_bytes += len(part) + _MESSAGE_BYTES
            if self._size_bytes <= KEPT_BYTES:
                self._parts.append(bytes(part))
                self.whole = not message.get("more_body", False)
            else:
                self._parts = []
        return self._send(message)
