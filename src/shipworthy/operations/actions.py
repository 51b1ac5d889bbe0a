"""Actions: what an operator may start for a while, and stop; each ends by itself.

There are none unless somebody registers them, and then only while they are registered: the demo
does, so that people can see what its guards do. What is served in production registers none.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

from starlette.responses import Response

from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.errors import Misuse, ShipworthyError
from shipworthy.events import emit
from shipworthy.operations.endpoint import Asked, Endpoint, Reply, refusal, schema_of, told
from shipworthy.operations.facts import NameUnknown
from shipworthy.operations.occurrences import ActionFailed, OperatorCommanded

# Long enough to look at, short enough that nobody forgets it.
USUAL_SECONDS = 20.0
MOST_SECONDS = 300.0
# Beyond it an answer would come too late; what is being undone goes on being undone.
STOP_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that may be done for a while: `perform(seconds)` does it, waits and undoes it.

    It is cancelled to be stopped, so it undoes in a `finally`. `sentence` tells people what it
    does to them.
    """

    name: str
    sentence: str
    perform: Callable[[float], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionFacts:
    """One action at one moment; `failed` says why the last run of it did not go to its end."""

    name: str
    sentence: str
    running: bool
    left_seconds: float
    failed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionsReply:
    """The actions that are registered."""

    actions: tuple[ActionFacts, ...]


@contextmanager
def registered(*actions: Action) -> Iterator[None]:
    """Offer `actions` on the operations ports that start in the block."""
    _offered.extend(actions)
    try:
        yield
    finally:
        for action in actions:
            _offered.remove(action)


_offered: list[Action] = []


def offered() -> tuple[Action, ...]:
    """Return what is registered now."""
    return tuple(_offered)


@final
class Performer:
    """Runs actions, each at most once at a time; belongs to one event loop."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self._actions = {action.name: action for action in actions}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends_at: dict[str, float] = {}
        self._failed: dict[str, str] = {}

    def facts(self) -> tuple[ActionFacts, ...]:
        """Return how each stands."""
        return tuple(self._facts(name) for name in self._actions)

    async def start(self, name: str, seconds: float) -> ActionFacts:
        """Begin an action for `seconds`.

        Raises `NameUnknown`, `Misuse` for a length that is not allowed, and `ShipworthyError` when
        it runs already.
        """
        action = self._known(name)
        if not 1 <= seconds <= MOST_SECONDS:
            raise Misuse(f"an action takes from 1 to {MOST_SECONDS:g} seconds, not {seconds:g}")
        before = self._facts(name)
        if before.running:
            raise ShipworthyError(
                f"'{name}' runs already, for {before.left_seconds:.0f} s more; stop it first"
            )
        self._failed.pop(name, None)
        self._ends_at[name] = SYSTEM_CLOCK.now() + seconds
        self._tasks[name] = task = asyncio.create_task(action.perform(seconds), name=name)
        task.add_done_callback(lambda done: self._ended(name, done))
        await asyncio.sleep(0)  # it has begun when we say so
        return self._facts(name)

    async def stop(self, name: str) -> ActionFacts:
        """End an action and wait, up to 5 s, until it is undone; nothing where it does not run."""
        self._known(name)
        task = self._tasks.get(name)
        if task is not None:
            task.cancel()
            await asyncio.wait({task}, timeout=STOP_SECONDS)
        return self._facts(name)

    def _known(self, name: str) -> Action:
        if name not in self._actions:
            raise NameUnknown("action", name, self._actions)
        return self._actions[name]

    def _facts(self, name: str) -> ActionFacts:
        running = name in self._tasks and not self._tasks[name].done()
        left = self._ends_at[name] - SYSTEM_CLOCK.now() if running else 0.0
        return ActionFacts(
            name=name,
            sentence=self._actions[name].sentence,
            running=running,
            left_seconds=round(max(0.0, left), 3),
            failed=self._failed.get(name, ""),
        )

    def _ended(self, name: str, task: "asyncio.Task[None]") -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            because = str(error) or type(error).__name__
            if self._tasks[name] is task:  # else it was started again already
                self._failed[name] = because
            emit(ActionFailed, action=name, because=because)


def action_endpoints(performer: Performer) -> tuple[Endpoint, ...]:
    """Return the endpoints of the actions of `performer`; none where there are none."""
    if not performer.facts():
        return ()

    async def show(_: Asked) -> Response:
        return told(ActionsReply(actions=performer.facts()))

    async def start(asked: Asked) -> Response:
        name = asked.request.path_params["name"]
        stands = await performer.start(name, _seconds(await asked.json(optional=True)))
        emit(
            OperatorCommanded,
            command=f"start {name}",
            by=asked.by,
            client=asked.client,
            outcome=f"it ends by itself in {stands.left_seconds:.0f} s",
        )
        return told(stands, status=202)

    async def stop(asked: Asked) -> Response:
        name = asked.request.path_params["name"]
        stands = await performer.stop(name)
        emit(
            OperatorCommanded,
            command=f"stop {name}",
            by=asked.by,
            client=asked.client,
            outcome="it is being undone" if stands.running else "it is over",
        )
        return told(stands)

    return (
        Endpoint(
            path="/api/actions",
            summary="What may be started here, and what of it runs",
            replies=(Reply(says="The actions.", schema=schema_of(ActionsReply)),),
            answer=show,
        ),
        Endpoint(
            path="/api/actions/{name}",
            method="POST",
            summary=f"Start an action; it ends by itself, after {USUAL_SECONDS:g} s if not told",
            request=_LENGTH,
            request_optional=True,
            replies=(
                Reply(status=202, says="It runs.", schema=schema_of(ActionFacts)),
                refusal(409, "It runs already; the detail says for how long."),
            ),
            answer=start,
        ),
        Endpoint(
            path="/api/actions/{name}",
            method="DELETE",
            summary="Stop an action, and undo what it did",
            replies=(Reply(says="How it stands now.", schema=schema_of(ActionFacts)),),
            answer=stop,
        ),
    )


_LENGTH = {
    "type": "object",
    "properties": {"seconds": {"type": "number", "minimum": 1, "maximum": MOST_SECONDS}},
    "additionalProperties": False,
}


def _seconds(body: Any) -> float:
    if body is None:
        return USUAL_SECONDS
    seconds = body.get("seconds", USUAL_SECONDS) if isinstance(body, dict) else None
    unknown = set(body) - {"seconds"} if isinstance(body, dict) else None
    if unknown or isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise Misuse(f'the body is {{"seconds": {USUAL_SECONDS:g}}}, or nothing')
    return float(seconds)
