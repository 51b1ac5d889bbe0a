"""Who and what the running code works for.

One `RequestRecord` per request holds what all its tasks and threads share. It is one mutable
object, so what a thread or an inner middleware learns (the route, the actor) is seen by the guard
that writes the access line. What one branch may set without its siblings noticing (a deadline, an
actor for the time of a call, a pin of the flags) is immutable and scoped.

Not here: how ids are read from a request (`web`), and what is done at a deadline (`resilience`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from typing import Any, final


@final
class RequestRecord:
    """The facts of one request, or of one job, seen by all tasks and threads that work for it.

    Plain attributes, written by the guard or hook that learns them; single writes are atomic in
    CPython, so no lock is needed. `route` is the template (`/clients/{id}`), never the path.
    """

    __slots__ = (
        "actor",
        "calls_out",
        "client",
        "commit_ended",
        "commits_asked",
        "connections",
        "correlation_id",
        "error",
        "method",
        "parent_span_id",
        "path",
        "request_id",
        "route",
        "sampled",
        "span_id",
        "started",
        "trace_id",
        "tracestate",
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
        self.tracestate = tracestate
        self.method = method
        self.path = path
        self.client = client
        self.started = started
        self.route = ""
        self.actor = ""
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

    @property
    def traceparent(self) -> str:
        """The W3C Trace Context header to send on, with our span as the parent."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


_request: ContextVar[RequestRecord | None] = ContextVar("shipworthy_request", default=None)
_deadline: ContextVar[float | None] = ContextVar("shipworthy_deadline", default=None)
_actor: ContextVar[str | None] = ContextVar("shipworthy_actor", default=None)

# Entered and left by hand on the request path: a context manager costs as much as the guard.
enter_request = _request.set
leave_request = _request.reset


def current_request() -> RequestRecord | None:
    """Return the record of the request being served here, or None outside of one."""
    return _request.get()


def request_in(context: Context) -> RequestRecord | None:
    """Return the record of the request that another task's context belongs to, or None.

    From any thread: for who looks at a task that runs elsewhere.
    """
    return context.get(_request)


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
    """Return who the current work is done for: the scoped override, else the request's, else ''."""
    override = _actor.get()
    if override is not None:
        return override
    record = _request.get()
    return record.actor if record is not None else ""


@contextmanager
def actor(name: str) -> Iterator[None]:
    """Do the work of the block as `name`; sibling tasks and the code after it are not affected."""
    token = _actor.set(name)
    try:
        yield
    finally:
        _actor.reset(token)


def log_fields() -> dict[str, Any]:
    """Return the ids every log line carries, empty outside a request."""
    record = _request.get()
    if record is None:
        return {}
    return {"request_id": record.request_id, "trace_id": record.trace_id}
