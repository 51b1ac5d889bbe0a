"""Who and what the running code works for.

One `RequestRecord` per request holds what all its tasks and threads share. It is one mutable
object, so what a thread or an inner middleware learns (the route, the actor) is seen by the guard
that writes the access line. What one branch may set without its siblings noticing (a deadline, an
actor for the time of a call, a pin of the flags) is immutable and scoped.

Not here: how ids are read from a request (`web`), and what is done at a deadline (`resilience`).
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar, Token
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol, final, get_args

# What an actor is. A user is known to the application; `claimed` is a name that nobody verified, as
# in a token whose signature we cannot check; `database` is a user of the database, where no layer
# of ours was in between.
ActorKind = Literal["user", "claimed", "service", "job", "migration", "database", "unknown"]
_KINDS = frozenset(get_args(ActorKind))
# A process that works for one actor all its life, such as a cron job, is started with this.
ACTOR_VARIABLE = "SHIPWORTHY_ACTOR"


@final
@dataclass(frozen=True, slots=True)
class Actor:
    """Who work is done for; `on_behalf_of` is the one in whose place the actor acts, if any."""

    name: str
    kind: ActorKind = "user"
    on_behalf_of: str = ""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise ValueError(
                f"'{self.kind}' is no kind of actor; one of {', '.join(sorted(_KINDS))}"
            )


class RequestFacts(Protocol):
    """What a record asks when it is asked: the application learns these after us."""

    def actor_of(self, scope: Any) -> Actor | None:
        """Return who the request is made by, None while nobody knows."""
        ...

    def route_of(self, scope: Any) -> str:
        """Return the template of the route that serves the request."""
        ...


# What is kept of one request for its trace; of what comes then, nothing is.
STEPS_MAX: Final = 128


class TraceStep(NamedTuple):
    """One thing that was done for a request, or happened to it; times are monotonic seconds.

    `facts` have the names of OpenTelemetry's semantic conventions where it has names for them, and
    are as they came: whoever shows them redacts. `failed` is the kind of the error, '' where there
    was none. `span_id` is set where others were told of it. `held_bytes` is about what it keeps in
    memory.
    """

    kind: Literal["statement", "connect", "wait", "call", "event"]
    began: float
    ended: float
    facts: Mapping[str, Any]
    failed: str = ""
    span_id: str = ""
    # Some facts, their dictionary, and all of most statements.
    held_bytes: int = 1024


@final
class TraceSteps(list[TraceStep]):
    """The steps of a request whose trace may be kept.

    `failed` and `warned` say that there is an event of that severity among them. Any thread may
    append: whoever does has asked `steps_here`, so a few more than `STEPS_MAX` is all that a race
    can do.
    """

    # Defaults of the class: of most requests nothing is said.
    failed = False
    warned = False


@final
class RequestWork:
    """What was done for one request by what waits for others; each number is only added to.

    Written from all its tasks and threads, in single statements, between which CPython switches.
    """

    __slots__ = ("db_calls", "db_seconds", "db_wait_seconds", "retries")

    def __init__(self) -> None:
        self.db_calls = 0
        self.db_seconds = 0.0
        self.db_wait_seconds = 0.0
        self.retries = 0


@final
class RequestRecord:
    """The facts of one request, or of one job, seen by all tasks and threads that work for it.

    Plain attributes, written by the guard or hook that learns them; single writes are atomic in
    CPython, so no lock is needed. `route` is the template (`/clients/{id}`), never the path.

    The actor is asked for when somebody needs to know: at the first write, and when the access line
    is made. `named` is who is known by now; `facts` and `scope` are whom to ask and about what, and
    gone when the request is over.

    `sampled` says that the trace is kept, `random` that its id is (W3C Trace Context, level 2).
    `steps` is what was done for the request so far, None where no trace of it could be kept.

    `nonce` marks what the application itself has put into its page, '' until somebody asks; `seal`
    makes the tokens of its session, None where nothing keeps a secret for that.
    """

    __slots__ = (
        "calls_out",
        "client",
        "commit_ended",
        "commits_asked",
        "connections",
        "correlation_id",
        "error",
        "facts",
        "method",
        "named",
        "nonce",
        "parent_span_id",
        "path",
        "random",
        "request_id",
        "route",
        "sampled",
        "scope",
        "seal",
        "span_id",
        "started",
        "steps",
        "trace_id",
        "tracestate",
        "work",
    )

    # Not keyword-only: eleven keywords would cost each request a microsecond.
    def __init__(  # noqa: PLR0917
        self,
        request_id: str,
        correlation_id: str,
        trace_id: str,
        span_id: str,
        parent_span_id: str = "",
        sampled: bool = False,  # noqa: FBT001, FBT002
        tracestate: str = "",
        method: str = "",
        path: str = "",
        client: str = "",
        started: float = 0.0,
    ) -> None:
        self.request_id = request_id
        self.correlation_id = correlation_id
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_span_id = parent_span_id
        self.sampled = sampled
        self.random = True
        self.tracestate = tracestate
        self.method = method
        self.path = path
        self.client = client
        self.started = started
        self.route = ""
        self.steps: TraceSteps | None = None
        self.named: Actor | None = None
        self.facts: RequestFacts | None = None
        self.scope: Any = None
        # What a framework caught and answered for by itself, so that nobody above it saw it.
        self.error: BaseException | None = None
        # Hears of the database connections that worker threads take for it (`db.door`).
        self.connections: Any = None
        # Calls to other services that must not be made twice; a request that made one runs once.
        self.calls_out = 0
        # Of the commit fence (`lifecycle`): the number and the end of the COMMIT that ended last,
        # and the number from which on none gives it more time.
        self.commit_ended: tuple[int, float] | None = None
        self.commits_asked = 0
        # What databases and repeated calls did for it; most requests need none.
        self.work: RequestWork | None = None
        # Of the guards against what browsers can be made to do (`web.csp`, `web.csrf_guard`).
        self.nonce = ""
        self.seal: Callable[[str], str] | None = None

    def working(self) -> "RequestWork":
        """Return what is counted of the work for it, from now on."""
        if self.work is None:
            work = RequestWork()
            # No call between look and store, so no other thread comes between them.
            if self.work is None:
                self.work = work
        return self.work

    @property
    def actor(self) -> str:
        """The name of who the request is made by, '' while nobody knows."""
        found = self.who()
        return "" if found is None else found.name

    @actor.setter
    def actor(self, actor: "str | Actor") -> None:
        if isinstance(actor, str):
            self.named = Actor(actor) if actor else None
        else:
            self.named = actor

    def who(self) -> Actor | None:
        """Return who the request is made by, and ask while nobody knows; the first answer stays."""
        if self.named is None and self.facts is not None:
            self.named = self.facts.actor_of(self.scope)
        return self.named

    def where(self) -> str:
        """Return the template of the route, as far as it is known by now."""
        if not self.route and self.facts is not None:
            return self.facts.route_of(self.scope)
        return self.route

    @property
    def traceparent(self) -> str:
        """The W3C Trace Context header to send on, with our span as the parent."""
        return self.traceparent_of(self.span_id)

    def traceparent_of(self, span_id: str) -> str:
        """Return that header with a span below ours as the parent."""
        return f"00-{self.trace_id}-{span_id}-{_FLAGS[self.sampled, self.random]}"


_FLAGS = {(False, False): "00", (True, False): "01", (False, True): "02", (True, True): "03"}

_request: ContextVar[RequestRecord | None] = ContextVar("shipworthy_request", default=None)
_deadline: ContextVar[float | None] = ContextVar("shipworthy_deadline", default=None)
_actor: ContextVar[Actor | None] = ContextVar("shipworthy_actor", default=None)
_note: ContextVar[str] = ContextVar("shipworthy_note", default="")

# Entered and left by hand on the request path: a context manager costs as much as the guard.
enter_request = _request.set
leave_request = _request.reset


def current_request() -> RequestRecord | None:
    """Return the record of the request being served here, or None outside of one."""
    return _request.get()


def note_database(calls: int, seconds: float) -> None:
    """Count statements, and what they took, with the request they were for, if there is one."""
    record = _request.get()
    if record is not None:
        work = record.working()
        work.db_calls += calls
        work.db_seconds += seconds


def note_wait(seconds: float) -> None:
    """Count what a request, if there is one, waited for a connection to a database."""
    record = _request.get()
    if record is not None:
        record.working().db_wait_seconds += seconds


def note_retry() -> None:
    """Count something that is done again for a request, if there is one."""
    record = _request.get()
    if record is not None:
        record.working().retries += 1


def request_in(context: Context) -> RequestRecord | None:
    """Return the record of the request that another task's context belongs to, or None.

    From any thread: for who looks at a task that runs elsewhere.
    """
    return context.get(_request)


def steps_here() -> TraceSteps | None:
    """Return where to note what is done here for a request; None where nobody would look at it."""
    record = _request.get()
    if record is None:
        return None
    steps = record.steps
    return steps if steps is not None and len(steps) < STEPS_MAX else None


def new_span_id() -> str:
    """Return the id of a span that others are told of: unguessable, 16 hexadecimal digits."""
    return os.urandom(8).hex()


@contextmanager
def request_scope(record: RequestRecord) -> Iterator[RequestRecord]:
    """Work for `record` inside the block, in this task and those started from it."""
    token = _request.set(record)
    try:
        yield record
    finally:
        _request.reset(token)


# By hand in a pipeline, for the same reason; whoever sets it takes the smaller one himself.
peek_deadline = _deadline.get
enter_deadline = _deadline.set
leave_deadline = _deadline.reset


def current_deadline() -> float | None:
    """Return the instant (monotonic seconds) by which the current work must be over, or None."""
    return _deadline.get()


@contextmanager
def deadline_scope(deadline: float) -> Iterator[float]:
    """End the work of the block by `deadline`, or by the one around it where that is earlier."""
    outer = _deadline.get()
    effective = deadline if outer is None else min(outer, deadline)
    token = _deadline.set(effective)
    try:
        yield effective
    finally:
        _deadline.reset(token)


def current_actor() -> str:
    """Return the name of who the current work is done for, '' where nobody is known."""
    found = whose_work()
    return "" if found is None else found.name


def whose_work() -> Actor | None:
    """Return who the current work is done for, None where nobody is known.

    The scoped override comes first, then who makes the request, and outside of a request the
    environment's SHIPWORTHY_ACTOR, which is a job.
    """
    override = _actor.get()
    if override is not None:
        return override if override.name else None
    record = _request.get()
    if record is not None:
        return record.who()
    name = os.environ.get(ACTOR_VARIABLE)
    return Actor(name, "job") if name else None


@final
class ActorScope:
    """Work of an actor: what is done within `with` or `async with`, in this task and its own."""

    __slots__ = ("_actor", "_tokens")

    def __init__(self, actor: Actor) -> None:
        self._actor = actor
        self._tokens: list[Token[Actor | None]] = []

    def __enter__(self) -> None:
        self._tokens.append(_actor.set(self._actor))

    def __exit__(self, *_: object) -> None:
        _actor.reset(self._tokens.pop())

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()


def actor(name: str, *, kind: ActorKind = "user", on_behalf_of: str = "") -> ActorScope:
    """Do the work of the block as `name`; sibling tasks and the code after it are not affected.

    `with actor("ana"):` or `async with`. An empty name is nobody.
    """
    return ActorScope(Actor(name, kind, on_behalf_of))


def current_note() -> str:
    """Return what `noted` says of the current work, '' outside of it."""
    return _note.get()


@contextmanager
def noted(text: str) -> Iterator[None]:
    """Have the trail say `text` of every transaction that writes within the block."""
    token = _note.set(text)
    try:
        yield
    finally:
        _note.reset(token)


def log_fields() -> dict[str, Any]:
    """Return the ids every log line carries, empty outside a request."""
    record = _request.get()
    if record is None:
        return {}
    return {"request_id": record.request_id, "trace_id": record.trace_id}
