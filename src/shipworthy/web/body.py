"""The guard of bodies: what is too long, too deep or too much is refused while it comes.

It looks at each part once, on its way to whoever reads first, and keeps nothing of it: what the
application gets is what the client sent, byte for byte.

Not here: what a request says of its body (`body_plan`), what is too much inside (`body_scan`), and
how a compressed one is measured (`body_decode`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import chain
from typing import Final, final

from typing_extensions import override

from shipworthy.errors import RequestInvalid
from shipworthy.units import format_size
from shipworthy.web.blocked import Blocked
from shipworthy.web.body_decode import Decoder, Undecodable, decoded, decoders
from shipworthy.web.body_plan import BodyPlan, Kind, plan_of, promised_bytes
from shipworthy.web.body_scan import (
    FieldScanner,
    Finding,
    JsonScanner,
    PartScanner,
    Scanner,
)
from shipworthy.web.body_settings import BodySettings, RouteSize
from shipworthy.web.line import UNMATCHED, Call, Message, Scope

# Each rule with the status of its refusal.
RULES: Final[Mapping[str, int]] = {
    "size": 413, "decoded": 413, "ratio": 413, "codings": 415, "json-depth": 400,
    "json-digits": 400, "fields": 400, "parts": 400, "part-head": 400, "boundary": 400,
}  # fmt: skip
# Below this nothing is a bomb, and a small body of spaces may be packed very well.
RATIO_FROM_BYTES: Final = 1024 * 1024
# How long the loop is kept by one look; then all others have their turn.
TURN_SECONDS: Final = 0.002
# A part of a body that is not compressed takes less than a turn up to here: no need to take one.
_AT_ONCE_BYTES: Final = 16 * 1024
_PIECE_BYTES: Final = 16 * 1024


@final
class BodyRefused(RequestInvalid, OSError):
    """A body is more than the settings allow; `rule` says of what, `status` is 413, 415 or 400.

    An `OSError`, because that is what frameworks expect where a body cannot be read to its end.
    """

    told = True

    def __init__(self, rule: str, because: str) -> None:
        super().__init__(because)
        self.rule = rule
        self.status = RULES[rule]

    @override
    def __str__(self) -> str:
        return str(self.args[0])


@final
class BodyGuard:
    """Refuse bodies that are more than `settings` allow, by the bytes that come.

    A request whose Content-Length says so already is refused before the application is asked; else
    whoever reads the body gets `BodyRefused` at the part that is too much, and its client the
    answer at once. `template_of` tells which route a request is meant for. Safe for any number of
    tasks and event loops.
    """

    def __init__(
        self,
        settings: BodySettings,
        blocked: Blocked,
        *,
        now: Callable[[], float],
        template_of: Callable[[Scope], str],
    ) -> None:
        self._settings = settings
        self._mode: Final = "report" if settings.mode == "report" else "enforce"
        self._routes = settings.sizes()
        self._decoders = decoders()
        self._blocked = blocked
        self._now = now
        self._template_of = template_of
        self._turns: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        for rule in RULES:
            blocked.expect("body", rule, self._mode)

    def promised(self, call: Call) -> Awaitable[None] | None:
        """Look at the Content-Length of a request that has one."""
        length_bytes = promised_bytes(call.headers[b"content-length"])
        if not length_bytes or call.scope["type"] != "http":
            return None
        reader = call.reader = self._reader(call)
        finding = reader.plan.finding or reader.too_long(length_bytes)
        return None if finding is None else self._met(call, reader, finding, more=True)

    def reading(self, call: Call, message: Message) -> Awaitable[None] | None:
        """Look at the part of a body that `message` is, before anybody else does."""
        part = message.get("body", b"")
        reader: BodyReader | None = getattr(call, "reader", None)
        if reader is None and not part:
            return None
        steps: Iterator[Finding | None]
        if reader is None:
            reader = call.reader = self._reader(call)
            steps = chain((reader.plan.finding,), reader.steps(part))
        elif reader.left is not None and reader.left[0] is message:
            steps, reader.left = reader.left[1], None
        else:
            steps = reader.steps(part)
        if reader.is_packed or len(part) > _AT_ONCE_BYTES:
            return self._walk(call, reader, message, steps)
        for finding in steps:
            refusing = finding and self._met(call, reader, finding, more=_more(message))
            if refusing:
                return refusing
        return None

    def _reader(self, call: Call) -> "BodyReader":
        plan = plan_of(call.scope["headers"], self._decoders)
        limit_bytes, decoded_bytes = self._sizes(call.scope, plan.kinds)
        return BodyReader(
            plan,
            [self._decoders[coding]() for coding in plan.codings],
            list(self._scanners(plan)),
            limit_bytes=limit_bytes,
            decoded_bytes=decoded_bytes,
            ratio=self._settings.ratio,
        )

    def _sizes(self, scope: Scope, kinds: frozenset[Kind]) -> tuple[int, int]:
        """Return how long the body may be, and how long what it becomes."""
        settings = self._settings
        for route in self._routes:
            if route.method in ("", scope["method"]) and _fits(route, scope):
                return route.limit_bytes, max(route.limit_bytes, settings.decoded_bytes)
        of_kind = {"json": settings.json_bytes, "form": settings.form_bytes}
        sizes = (of_kind.get(kind, settings.other_bytes) for kind in kinds)
        return min(sizes), settings.decoded_bytes

    def _scanners(self, plan: BodyPlan) -> Iterator[Scanner]:
        settings = self._settings
        if "json" in plan.kinds:
            yield JsonScanner(depth=settings.json_depth, digits=settings.json_digits)
        if "form" in plan.kinds:
            yield FieldScanner(fields=settings.fields)
        if plan.boundary:
            yield PartScanner(
                plan.boundary, parts=settings.parts, head_bytes=settings.part_head_bytes
            )

    def _met(
        self, call: Call, reader: "BodyReader", finding: Finding, *, more: bool
    ) -> Awaitable[None] | None:
        """Tell of a finding, once for each request and rule; return what refuses the request."""
        if finding.rule in reader.told:
            return None
        reader.told.add(finding.rule)
        route = call.route()
        if route == UNMATCHED:
            route = self._template_of(call.scope)
        self._blocked.tell(
            "body",
            finding.rule,
            self._mode,
            finding.because,
            client=call.record.client,
            route=route,
        )
        if self._mode == "report":
            return None
        return call.turn_away(BodyRefused(finding.rule, finding.because), more=more)

    async def _walk(
        self, call: Call, reader: "BodyReader", message: Message, steps: Iterator[Finding | None]
    ) -> None:
        """Take the steps in turns, one request of the loop at a time, and let go in between."""
        turns = self._turns_here()
        over = False
        while not over:
            try:
                async with turns:
                    began = self._now()
                    over, finding = self._turn(steps, began + TURN_SECONDS)
                    # Short looks of many at once would be a long one together.
                    if finding is None and self._now() - began >= TURN_SECONDS / 4:
                        await asyncio.sleep(0)
            except asyncio.CancelledError:
                # Who waits for a message with a bound, and then again, must not lose it.
                if not call.ended:
                    reader.left = (message, steps)
                    call.take_back(message)
                raise
            refusing = finding and self._met(call, reader, finding, more=_more(message))
            if refusing:
                await refusing

    def _turn(self, steps: Iterator[Finding | None], until: float) -> tuple[bool, Finding | None]:
        """Take steps for as long as a turn is; return whether that was all, and what was found."""
        for finding in steps:
            if finding is not None:
                return False, finding
            if self._now() >= until:
                return False, None
        return True, None

    def _turns_here(self) -> asyncio.Lock:
        loop = asyncio.get_running_loop()
        turns = self._turns
        if turns is None or turns[0] is not loop:
            turns = self._turns = (loop, asyncio.Lock())
        return turns[1]


@final
class BodyReader:
    """One body on its way: how much of it has come, and what is looked at in it."""

    __slots__ = (
        "_chain",
        "_decoded_bytes_max",
        "_limit_bytes",
        "_ratio",
        "_scanners",
        "came_bytes",
        "left",
        "plan",
        "told",
    )

    def __init__(
        self,
        plan: BodyPlan,
        chain: list[Decoder],
        scanners: list[Scanner],
        *,
        limit_bytes: int,
        decoded_bytes: int,
        ratio: int,
    ) -> None:
        self.plan = plan
        self.came_bytes = 0
        # The rules that were told of.
        self.told: set[str] = set()
        # A message whose look was broken off, and what is left of it.
        self.left: tuple[Message, Iterator[Finding | None]] | None = None
        self._chain = chain
        self._scanners = scanners
        self._limit_bytes = limit_bytes
        self._decoded_bytes_max = decoded_bytes
        self._ratio = ratio

    @property
    def is_packed(self) -> bool:
        """Whether few bytes of it may become many."""
        return bool(self._chain)

    def too_long(self, length_bytes: int) -> Finding | None:
        """Say whether a body of so many bytes is too long."""
        if length_bytes <= self._limit_bytes:
            return None
        return Finding("size", f"this body is larger than {format_size(self._limit_bytes)}")

    def steps(self, part: bytes) -> Iterator[Finding | None]:
        """Look at the next part in small steps; each may have found something."""
        self.came_bytes += len(part)
        yield self.too_long(self.came_bytes)
        if not (self._scanners or self._chain):
            return
        before_bytes = self.came_bytes - len(part)
        for at in range(0, len(part), _PIECE_BYTES):
            piece = part[at : at + _PIECE_BYTES]
            if not self._chain:
                yield from self._scanned(piece)
                continue
            yield from self._undone(piece, before_bytes + at + len(piece))

    def _undone(self, piece: bytes, came_bytes: int) -> Iterator[Finding | None]:
        try:
            for window in decoded(self._chain, piece):
                yield self._became(came_bytes)
                if not self._chain:
                    return
                yield from self._scanned(window)
        except Undecodable as error:
            self._chain = []
            self._scanners = []
            yield Finding("codings", str(error))

    def _became(self, came_bytes: int) -> Finding | None:
        """Judge what it has become so far; what was found is not measured any more."""
        became_bytes = max(decoder.became_bytes for decoder in self._chain)
        finding = None
        if became_bytes > self._decoded_bytes_max:
            because = f"this body becomes more than {format_size(self._decoded_bytes_max)}"
            finding = Finding("decoded", because)
        elif became_bytes > RATIO_FROM_BYTES and became_bytes > self._ratio * came_bytes:
            because = f"this body becomes more than {self._ratio} times its size"
            finding = Finding("ratio", because)
        if finding is not None:
            self._chain = []
            self._scanners = []
        return finding

    def _scanned(self, piece: bytes) -> Iterator[Finding | None]:
        for scanner in list(self._scanners):
            finding = scanner.feed(piece)
            if finding is not None:
                self._scanners.remove(scanner)
            yield finding


def _more(message: Message) -> bool:
    return bool(message.get("more_body", False))


def _fits(route: RouteSize, scope: Scope) -> bool:
    """Say whether a route is meant, by the path as the client says it, or below the root path."""
    path, root = scope["path"], scope.get("root_path", "")
    if route.path.fullmatch(path):
        return True
    below = root and path.startswith(f"{root}/") and path[len(root) :]
    return bool(below and route.path.fullmatch(below))
