"""What people see of the trail, and when they are called."""

from typing import Final

from shipworthy.audit.ledger.figures import (
    BATCHES_SEALED,
    BROKEN,
    FAILED,
    LAG,
    RECHECKED,
    SEALED,
    TAMPERED,
    UNSEALED,
)
from shipworthy.audit.unattributed import UNATTRIBUTED, Because
from shipworthy.audit.watch import CHECKED, UNCOVERED
from shipworthy.events import (
    Age,
    Alert,
    Board,
    Combined,
    Compared,
    Increase,
    Number,
    Panel,
    Rate,
    Selection,
    Urgency,
    Value,
)

_UNCOVERED: Final = Selection(metric=UNCOVERED, by=("database",))
_CHECKED: Final = Selection(metric=CHECKED, by=("database",))
_DAY_SECONDS: Final = 86_400.0

AUDIT_PANELS: Final = (
    Panel(
        title="Tables without a trail",
        help="Tables that are to be captured and are not, or not wholly.",
        board=Board.RECORDS,
        shows=(("{database}", Value(_UNCOVERED)),),
        unit="count",
    ),
    Panel(
        title="Last look at the triggers",
        help="How long ago the triggers were last compared with the tables.",
        board=Board.RECORDS,
        shows=(("{database}", Age(_CHECKED)),),
        unit="seconds",
    ),
    Panel(
        title="Entries sealed",
        help="Entries of the trail that were sealed, and the batches they were sealed in.",
        board=Board.RECORDS,
        shows=(
            ("entries, {operation}", Rate(Selection(metric=SEALED, by=("operation",)))),
            ("batches", Rate(Selection(metric=BATCHES_SEALED))),
        ),
        unit="per_second",
    ),
    Panel(
        title="Entries not sealed yet",
        help="Whoever can change the database could still change these without a trace.",
        board=Board.RECORDS,
        shows=(("entries", Value(Selection(metric=UNSEALED))),),
        unit="count",
    ),
    Panel(
        title="Age of what is not sealed",
        help="How long the oldest entry that is not sealed has been there.",
        board=Board.RECORDS,
        shows=(("oldest", Value(Selection(metric=LAG))),),
        unit="seconds",
    ),
    Panel(
        title="Sealing failed",
        help="Times the trail could not be sealed, by why, in an hour.",
        board=Board.RECORDS,
        shows=(("{reason}", Increase(Selection(metric=FAILED, by=("reason",)), 3600)),),
        unit="count",
    ),
    Panel(
        title="Sealed entries looked over",
        help="Sealed entries that were read again, and compared with what was sealed.",
        board=Board.RECORDS,
        shows=(("entries", Rate(Selection(metric=RECHECKED))),),
        unit="per_second",
    ),
    Panel(
        title="Not as it was sealed",
        help="Entries and batches that were changed or removed, when they were last looked over.",
        board=Board.RECORDS,
        shows=(("found", Value(Selection(metric=TAMPERED))),),
        unit="count",
    ),
    Panel(
        title="Writes for nobody",
        help="Transactions that wrote without an actor, by the reason.",
        board=Board.SECURITY,
        shows=(("{because}", Rate(Selection(metric=UNATTRIBUTED, by=("because",)))),),
        unit="per_second",
    ),
)

AUDIT_ALERTS: Final = (
    Alert(
        name="TrailUncovered",
        when=Compared(Value(_UNCOVERED), ">", Number(0)),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="{value} tables of {database} are not captured, so changes leave no trace",
        cause="A migration made or changed a table, or somebody took a trigger away.",
        look="`shipworthy audit check` names each table and why. The event "
        "`audit.trigger_drifted` says that it was not a migration of ours.",
        act="`shipworthy audit plan`, then `shipworthy audit install`. What was changed meanwhile "
        "is found with `shipworthy audit reconcile TABLE`.",
        drill="drop a trigger of the trail by hand",
    ),
    Alert(
        name="TrailUnwatched",
        when=Compared(Age(_CHECKED), ">", Number(_DAY_SECONDS)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="nobody has seen for {value} s whether the trail of {database} is whole",
        cause="The database could not be asked, or `audit.check_interval` is longer than a day.",
        look="The event `audit.trail_unseen` says why; `shipworthy audit check` asks at once.",
        act="Give the service's user what the check needs, or mend the way to the database.",
        drill="take the user's right to read the catalogue of triggers, and set the clock on by "
        "a day",
    ),
    Alert(
        name="TrailSealLate",
        when=Compared(Value(Selection(metric=LAG)), ">", Number(900)),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="entries of the trail have waited for {value} s to be sealed",
        cause="A transaction stays open and holds the entries after it back, or sealing fails.",
        look="The event `audit.horizon_held` says it is an open transaction, `audit.seal_failed` "
        "that sealing fails. `shipworthy audit verify` says what is sealed.",
        act="End the open transaction at the server. Sealing goes on by itself.",
        drill="begin a transaction that writes a captured table, and leave it open",
    ),
    Alert(
        name="TrailSealFails",
        when=Compared(
            Increase(Selection(metric=FAILED, by=("reason",), unless={"reason": BROKEN}), 900),
            ">=",
            Number(3),
        ),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="the trail could not be sealed {value} times: {reason}",
        cause="The signing key cannot be read, or the database refuses.",
        look="The event `audit.seal_failed` has the sentence. `shipworthy audit key show` says "
        "whether the key is there.",
        act="No key: put it back where `ledger.key_path` says; is it lost for good, "
        "`shipworthy audit key new --lost`. A database: as its alerts say. Nothing is lost: what "
        "is not sealed stays in the log.",
        drill="move the signing key away, and replace the workers",
    ),
    Alert(
        name="TrailBroken",
        # What is found by looking over it stays found; what no seal can follow is said at each try.
        when=Compared(
            Combined(
                Increase(Selection(metric=FAILED, where={"reason": BROKEN}), 3600),
                "+",
                Value(Selection(metric=TAMPERED)),
                absent_zero=True,
            ),
            ">",
            Number(0),
        ),
        for_seconds=0,
        urgency=Urgency.PAGE,
        summary="the trail is not as it was sealed: it was changed, or restored",
        cause="Somebody changed or deleted sealed entries, or the database was put back from a "
        "backup.",
        look="The events `audit.tampering_found` name the entries. `shipworthy audit verify --from "
        "FILE` with checkpoints kept elsewhere looks at the whole. Was the database restored "
        "today?",
        act="Change nothing in the database, and keep a copy of it. After a restore, begin a new "
        "log as the page on tampering says. Else this is a security incident: who had that "
        "access?",
        drill="change a sealed entry with SQL by hand, past the triggers that refuse it",
    ),
    Alert(
        name="WritesUnattributed",
        when=Compared(
            Increase(Selection(metric=UNATTRIBUTED, where={"because": Because.REQUEST}), 3600),
            ">=",
            Number(100),
        ),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="{value} transactions of requests wrote for nobody in an hour",
        cause="Users sign in by a way that [actor] does not know, or a route takes anonymous "
        "writes.",
        look="The event `audit.write_unattributed` names the route; `shipworthy config show` "
        "says where actors are looked for.",
        act="Name the place in `actor.from`. Are anonymous writes meant, write them within "
        "`actor(...)`.",
        drill="a hundred writing requests without a user",
    ),
)

AUDIT_SHOWN: Final = (*AUDIT_PANELS, *AUDIT_ALERTS)
