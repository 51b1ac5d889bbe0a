"""What the service may be told about its trash: section [trash]."""

from dataclasses import dataclass

from shipworthy.settings import duration, option, section


@section("trash")
@dataclass(frozen=True, slots=True, kw_only=True)
class TrashSettings:
    """Whose deletions are kept to be put back, and for how long."""

    tables: tuple[str, ...] = option(
        ("*",),
        "tables whose deletions are in the trash, as names or patterns; what goes with a row of "
        "them is there too",
    )
    flag: tuple[str, ...] = option(
        (),
        "tables whose rows are flagged in place of deleted, each with the column for the time, as "
        "in 'orders.deleted_at'; read what a flag does not hide before",
    )
    keep_seconds: float = duration(
        "30d", "how old a deletion may be before `trash purge --expired` takes it", minimum="1m"
    )
