"""What people see of the trash, and when they are called."""

from typing import Final

from shipworthy.audit import SEALED
from shipworthy.events import (
    Alert,
    Board,
    Compared,
    Increase,
    Number,
    Panel,
    Rate,
    Selection,
    Urgency,
)
from shipworthy.records.metrics import OBSTACLES, RESTORES, ROWS_RESTORED

_DELETED: Final = Selection(metric=SEALED, where={"operation": "delete"})

RECORDS_PANELS: Final = (
    Panel(
        title="Rows deleted",
        help="Rows that were deleted by anybody, those that went with another included.",
        board=Board.RECORDS,
        shows=(("rows", Rate(_DELETED)),),
        unit="per_second",
    ),
    Panel(
        title="Restores",
        help="Restores in an hour by how they ended: whole, part of the rows, or refused.",
        board=Board.RECORDS,
        shows=(("{outcome}", Increase(Selection(metric=RESTORES, by=("outcome",)), 3600)),),
        unit="count",
    ),
    Panel(
        title="Rows put back",
        help="Rows that restores put back in an hour.",
        board=Board.RECORDS,
        shows=(("rows", Increase(Selection(metric=ROWS_RESTORED), 3600)),),
        unit="count",
    ),
    Panel(
        title="What stood in the way of restores",
        help="Restores that were refused in an hour, by the first thing in their way.",
        board=Board.RECORDS,
        shows=(("{obstacle}", Increase(Selection(metric=OBSTACLES, by=("obstacle",)), 3600)),),
        unit="count",
    ),
)

RECORDS_ALERTS: Final = (
    Alert(
        name="DeletionsMany",
        # Counted by who seals the trail, a second after they were committed: a deletion itself is
        # only known once somebody looks into the trash.
        when=Compared(Increase(_DELETED, 600), ">=", Number(1000)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="{value} rows were deleted in ten minutes",
        cause="A job or a person deletes far more than usual, or one row with much that hangs on "
        "it; it may be a mistake or an attack.",
        look="`shipworthy trash list` says what, when and by whom.",
        act="Is it meant, nothing. Else stop whoever does it, and put the deletions back with "
        "`shipworthy trash restore`, after `shipworthy trash plan` has said what it would do.",
        drill="delete a thousand clients with one statement, and look at nothing",
    ),
    Alert(
        name="RestoresRefused",
        when=Compared(
            Increase(Selection(metric=RESTORES, where={"outcome": "refused"}), 3600),
            ">=",
            Number(5),
        ),
        for_seconds=0,
        urgency=Urgency.INFO,
        summary="{value} restores were refused in an hour",
        cause="Rows that were deleted cannot come back: a parent is gone, a key is taken, a table "
        "was changed.",
        look="The panel 'What stood in the way of restores'; `shipworthy trash plan ID` names each "
        "row.",
        act="Restore with what it needs (`--mode with-needs`), or clear what is in the way.",
        drill="delete a row, put another of the same key in its place, and restore five times",
    ),
)

RECORDS_SHOWN: Final = (*RECORDS_PANELS, *RECORDS_ALERTS)
