"""What people are told of a restore before it happens, and after. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final

from shipworthy.records.model import Deletion
from shipworthy.records.plan import Obstacle, ObstacleKind

RestoreMode = Literal["all", "without-conflicts", "with-needs"]
# Of obstacles alike, so many are told one by one.
TOLD: Final = 20

_SENTENCES: Final[Mapping[ObstacleKind, str]] = {
    ObstacleKind.PARENT_GONE: "what it refers to is gone ({what}), and no deletion has it",
    ObstacleKind.PARENT_DELETED: "needs deletion {deletion}, which has what it refers to ({what})",
    ObstacleKind.KEY_TAKEN: "another row has its primary key now ({what})",
    ObstacleKind.UNIQUE_TAKEN: "the row {holder} has its place in {what} now",
    ObstacleKind.TABLE_GONE: "the table {what} is gone",
    ObstacleKind.COLUMN_REQUIRED: "the column {what} is new, must have a value and has no default",
    ObstacleKind.ERASED: "the personal value of {what} was erased, and the column must have one",
    ObstacleKind.TOO_LONG: "the value of {what} was too long for the log, which does not have it",
    ObstacleKind.REJECTED: "the database rejects it: {what}",
    ObstacleKind.DEPENDS: "refers to {what}, which does not come back",
    ObstacleKind.COLUMN_DROPPED: "comes back without {what}: that column is gone",
    ObstacleKind.ERASED_OPTIONAL: "comes back without {what}: the personal value was erased",
    ObstacleKind.CHANGED: "comes back with another {what}: the database changes it on the way",
    ObstacleKind.LINK_KEPT: "keeps the newer value of {what}",
    ObstacleKind.LINK_ROW_GONE: "is gone itself, so its {what} is not set again",
    ObstacleKind.TYPE_CHANGED: "the type of a column changed: {what}",
    ObstacleKind.ALREADY_BACK: "is there already, just as it was",
}


def obstacle_sentence(obstacle: Obstacle) -> str:
    """Return an obstacle as people read it, with the row that it is about."""
    said = _SENTENCES[obstacle.kind].format(
        what=obstacle.what, holder=obstacle.holder, deletion=obstacle.deletion
    )
    return f"{obstacle.table} {obstacle.key or '(no key)'}: {said}"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RestorePlan:
    """What a restore of a deletion would do, and what stands in its way.

    Of the `rows` that were not restored yet `blocked` cannot come back and `returning` would; the
    others are there already. Of the lost links, `relinks`, `relinking` would be set again. `needs`
    are deletions to restore before, in order; `needs_suffice` says that nothing else blocks then.
    `proven` says that the database was asked, in a transaction that was taken back; else it is what
    can be read. `also_changed` are rows that the transaction changed besides, the first ones; they
    are left.
    """

    deletion: Deletion
    rows: int
    relinks: int
    blocked: int
    returning: int
    relinking: int
    obstacles: tuple[Obstacle, ...]
    needs: tuple[int, ...] = ()
    needs_suffice: bool = False
    proven: bool = False
    also_changed: tuple[str, ...] = ()

    @property
    def losses(self) -> int:
        """How many rows come back other than they were."""
        return len({one.seq for one in self.lossy})

    @property
    def lossy(self) -> tuple[Obstacle, ...]:
        """What the rows that come back lose."""
        blocked = {one.seq for one in self.obstacles if one.blocks}
        return tuple(one for one in self.obstacles if one.loses and one.seq not in blocked)

    @property
    def offers(self) -> tuple[RestoreMode, ...]:
        """The modes in which a restore would do something."""
        offered: list[RestoreMode] = []
        if not self.blocked:
            offered.append("all")
        elif self.returning or self.relinking:
            offered.append("without-conflicts")
        if self.needs and self.needs_suffice:
            offered.append("with-needs")
        return tuple(offered)

    def sentences(self) -> list[str]:
        """Return the obstacles for people: the first of each kind, then how many more there are."""
        return told(self.obstacles)

    def facts(self) -> dict[str, Any]:
        """Return it as JSON has it; of obstacles alike, the first ones."""
        return {
            "deletion": self.deletion.id,
            "rows": self.rows,
            "relinks": self.relinks,
            "blocked": self.blocked,
            "returning": self.returning,
            "relinking": self.relinking,
            "losses": self.losses,
            "offers": list(self.offers),
            "needs": list(self.needs),
            "proven": self.proven,
            "also_changed": list(self.also_changed),
            "obstacles": [
                {
                    "kind": one.kind.value,
                    "blocks": one.blocks,
                    "table": one.table,
                    "key": one.key,
                    "what": one.what,
                    "holder": one.holder,
                    "deletion": one.deletion or None,
                    "sentence": obstacle_sentence(one),
                }
                for one in first_of_each(self.obstacles)
            ],
            "counts": dict(Counter(one.kind.value for one in self.obstacles)),
        }


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore did. `left` rows are gone still; `obstacles` say why, and what is other.

    `before` are the restores of what it needed.
    """

    deletion: int
    rows: int
    relinks: int
    left: int
    obstacles: tuple[Obstacle, ...] = ()
    before: tuple["Restored", ...] = ()

    def facts(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "deletion": self.deletion,
            "rows": self.rows,
            "relinks": self.relinks,
            "left": self.left,
            "obstacles": told(self.obstacles),
            "before": [one.facts() for one in self.before],
        }


def first_of_each(obstacles: Iterable[Obstacle]) -> list[Obstacle]:
    """Return the first obstacles of each kind, the gravest kinds first."""
    counts: Counter[ObstacleKind] = Counter()
    found: list[Obstacle] = []
    order = list(ObstacleKind)
    for one in sorted(obstacles, key=lambda one: order.index(one.kind)):
        counts[one.kind] += 1
        if counts[one.kind] <= TOLD:
            found.append(one)
    return found


def told(obstacles: Sequence[Obstacle]) -> list[str]:
    """Return obstacles as sentences, at most `TOLD` of each kind and the number of the others."""
    counts = Counter(one.kind for one in obstacles)
    sentences = [obstacle_sentence(one) for one in first_of_each(obstacles)]
    return sentences + [
        f"{count - TOLD:,} more rows: {kind.value}"
        for kind, count in counts.items()
        if count > TOLD
    ]
