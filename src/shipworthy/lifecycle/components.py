"""The parts a service is made of, and who of them must be up before whom."""

from asyncio import Task
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any

from shipworthy.errors import ComponentFailed
from shipworthy.events import Event, Label, Measure, Severity, event

Hook = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Component:
    """A part with a start and a stop, each with its time in seconds.

    `start` that fails or is called off leaves nothing behind: its `stop` is not called then.
    `drain` is called once, when the process begins to leave: take no new work, finish what was
    begun. `requires` names components that are up before this one starts and stay up until it has
    stopped. `task` returns the task that does the work where that is not the hook itself, so that
    a report can name the line it stands in.
    """

    name: str
    start: Hook | None = None
    stop: Hook | None = None
    _: KW_ONLY
    drain: Hook | None = None
    requires: tuple[str, ...] = ()
    start_seconds: float = 30.0
    stop_seconds: float = 5.0
    task: Callable[[], Task[Any] | None] | None = None


@event(severity=Severity.INFO)
class ComponentStarted(Event):
    """A component is up."""

    component: Annotated[str, Label]
    took_seconds: Annotated[float, Measure]


@event(severity=Severity.INFO)
class ComponentStopped(Event):
    """A component has stopped."""

    component: Annotated[str, Label]
    took_seconds: Annotated[float, Measure]


@event(severity=Severity.ERROR)
class ComponentStopFailed(Event):
    """A component did not stop as it should and was left behind."""

    component: Annotated[str, Label]
    took_seconds: Annotated[float, Measure]
    because: str


def levels(components: Iterable[Component]) -> list[tuple[Component, ...]]:
    """Sort components into levels: each requires only what is in the levels before its own.

    Inside a level the order is that of `components`. Raises `ComponentFailed` for a component that
    requires an unknown one, or itself by whatever detour; the message shows the way round.
    """
    waiting = {component.name: component for component in components}
    known = frozenset(waiting)
    for component in waiting.values():
        for name in component.requires:
            if name not in known:
                raise ComponentFailed(
                    component.name,
                    f"it requires '{name}', and no component has that name; "
                    f"there are {', '.join(sorted(known))}",
                )

    sorted_levels: list[tuple[Component, ...]] = []
    while waiting:
        level = tuple(
            component
            for component in waiting.values()
            if waiting.keys().isdisjoint(component.requires)
        )
        if not level:
            circle = _circle(waiting)
            raise ComponentFailed(
                circle[0], f"it requires itself: {' -> '.join((*circle, circle[0]))}"
            )
        sorted_levels.append(level)
        for component in level:
            del waiting[component.name]
    return sorted_levels


def share(wanted_seconds: float, *, left_seconds: float, later_seconds: Sequence[float]) -> float:
    """Return how much of the time left the present step may use.

    It may have all that the steps after it do not want, and always its equal part, so that a
    step that hangs cannot eat the time of those that come later.
    """
    equal_seconds = left_seconds / (1 + len(later_seconds))
    return max(0.0, min(wanted_seconds, max(equal_seconds, left_seconds - sum(later_seconds))))


def _circle(waiting: dict[str, Component]) -> list[str]:
    """Return names that require one another in a circle, given that each one waits for another."""
    path = [next(iter(waiting))]
    while True:
        ahead = next(name for name in waiting[path[-1]].requires if name in waiting)
        if ahead in path:
            return path[path.index(ahead) :]
        path.append(ahead)
