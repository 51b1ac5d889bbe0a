"""Which values a label may have: every label says so, and no other value becomes a series."""

from dataclasses import dataclass
from typing import Final, final

# The value that stands for all that are outside of a domain.
OTHER: Final = "_other"


@final
@dataclass(frozen=True, slots=True, init=False)
class OneOf:
    """These values and no others: states, outcomes, reasons."""

    values: tuple[str, ...]

    def __init__(self, *values: str) -> None:
        if len(set(values)) != len(values) or not values or OTHER in values:
            raise ValueError(f"a label has distinct values, without {OTHER!r}; these are {values}")
        # Members of an enum of texts are kept as the texts that they are.
        object.__setattr__(self, "values", tuple(map(str, values)))

    @property
    def most(self) -> int:
        """Return how many values there can be, the one for all others not counted."""
        return len(self.values)

    def holds(self, value: str) -> bool:
        """Say whether `value` is one of them."""
        return value in self.values


@final
@dataclass(frozen=True, slots=True)
class Declared:
    """Names that the service itself gives, in its code or settings: pools, checks, dependencies.

    Nothing that a client sends. `most` bounds them all the same.
    """

    most: int = 50

    def __post_init__(self) -> None:
        _bounded(self.most)

    def holds(self, value: str) -> bool:
        """Say that any name may be one; how many is for the metric to hold."""
        return value != ""


@final
@dataclass(frozen=True, slots=True)
class Routes:
    """Templates of the application's routes, as `/clients/{id}`; never the path of a request."""

    most: int = 200

    def __post_init__(self) -> None:
        _bounded(self.most)

    def holds(self, value: str) -> bool:
        """Say that any template may be one; how many is for the metric to hold."""
        return value != ""


Domain = OneOf | Declared | Routes


@final
class FirstNames:
    """The first `most` names that come keep theirs, and all others are `_other`.

    For whoever counts by a name that is a constant of the service, where nothing holds the service
    to that. In memory are no more than `most`; threads that come at once may make it a few more.
    """

    __slots__ = ("_known", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._known)

    def of(self, name: str) -> str:
        """Return the name under which `name` is counted."""
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= self._most:
                return OTHER
            known = self._known.setdefault(name, name)
        return known


def _bounded(most: int) -> None:
    if not 0 < most <= 1000:
        raise ValueError(f"a label has between 1 and 1,000 values, this one {most}")
