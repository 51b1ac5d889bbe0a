"""What people see of the databases, and when they are called."""

from typing import Final

from shipworthy.db.metrics import (
    CAPACITY,
    CHECKOUTS,
    COMMITS,
    CUTS,
    DEADLOCKS,
    IN_USE,
    LEAKS,
    RERUNS,
    SLOW,
    STARVATIONS,
    TIMEOUTS,
    UNANSWERED,
    USED,
    WAIT_SECONDS,
    WAITING,
    WAITS,
)
from shipworthy.events import (
    Alert,
    Board,
    Both,
    Combined,
    Compared,
    Increase,
    Metric,
    Number,
    Panel,
    Rate,
    Selection,
    Urgency,
    Value,
    ratio,
)


def _each(metric: Metric) -> Selection:
    return Selection(metric=metric, by=("engine",))


_USED: Final = Value(_each(USED))
_RERUNS: Final = Selection(metric=RERUNS)
_LOST: Final = Selection(metric=COMMITS, where={"resolution": "lost"})
_REFUSED_FOR_GOOD: Final = Combined(
    Increase(_each(DEADLOCKS), 900), "+", Increase(_each(STARVATIONS), 900)
)

DB_PANELS: Final = (
    Panel(
        title="Connections",
        help="Connections that are out, callers that wait for one, and how many there may be.",
        board=Board.DATABASE,
        shows=(
            ("{engine} in use", Value(_each(IN_USE))),
            ("{engine} waiting", Value(_each(WAITING))),
            ("{engine} at most", Value(_each(CAPACITY))),
        ),
        unit="count",
    ),
    Panel(
        title="Share of connections in use",
        help="In the process where it is largest. At 100 % the next caller there waits until one "
        "comes back.",
        board=Board.DATABASE,
        shows=(("{engine}", _USED),),
        unit="ratio",
    ),
    Panel(
        title="Connections asked for",
        help="How often a connection is asked for, and how often none was free at once.",
        board=Board.DATABASE,
        shows=(
            ("{engine} asked", Rate(_each(CHECKOUTS))),
            ("{engine} waited", Rate(_each(WAITS))),
        ),
        unit="per_second",
    ),
    Panel(
        title="Wait for a connection",
        help="Seconds that a caller waited in the mean, those that did not wait included.",
        board=Board.DATABASE,
        shows=(("{engine}", ratio(Rate(_each(WAIT_SECONDS)), Rate(_each(CHECKOUTS)))),),
        unit="seconds",
    ),
    Panel(
        title="Callers without a connection",
        help="Callers that got none: in time, or ever, because the holders waited for one more.",
        board=Board.DATABASE,
        shows=(
            ("{engine} not in time", Rate(_each(TIMEOUTS))),
            ("{engine} deadlock", Rate(_each(DEADLOCKS))),
            ("{engine} starved threads", Rate(_each(STARVATIONS))),
        ),
        unit="per_second",
    ),
    Panel(
        title="Slow and cut calls to databases",
        help="Statements over db.statement_warn, calls cut at their deadline, connections kept.",
        board=Board.DATABASE,
        shows=(
            ("{engine} slow", Rate(_each(SLOW))),
            ("{engine} cut", Rate(_each(CUTS))),
            ("{engine} kept for too long", Rate(_each(LEAKS))),
        ),
        unit="per_second",
    ),
    Panel(
        title="Transactions run again",
        help="Transactions that were run again, by what their failure meant.",
        board=Board.DATABASE,
        shows=(("{unit}: {outcome}", Rate(Selection(metric=RERUNS, by=("unit", "outcome")))),),
        unit="per_second",
    ),
    Panel(
        title="COMMITs whose answer was lost",
        help="What became of them. Nobody knows of a lost one whether it was applied.",
        board=Board.DATABASE,
        shows=(
            ("asked: {resolution}", Value(Selection(metric=COMMITS, by=("resolution",)))),
            ("{engine}: nobody asked", Value(_each(UNANSWERED))),
        ),
        unit="count",
    ),
)

DB_ALERTS: Final = (
    Alert(
        name="PoolExhausted",
        when=Both(
            Compared(_USED, ">=", Number(0.95)), Compared(Value(_each(WAITING)), ">", Number(0))
        ),
        for_seconds=120,
        urgency=Urgency.PAGE,
        summary="{value} of the connections of {engine} in a process are in use, and callers wait",
        cause="Requests keep connections for longer than usual, because the database is slow or "
        "because they do something else meanwhile; or there is more work than connections.",
        look="`GET /api/databases` names who holds connections and the line that took each. The "
        "panel 'Slow and cut calls to databases' says whether the database is slow.",
        act="Is it slow: help the database first. Is one line holding them: return the connection "
        "before other work is waited for. Else enlarge the pool, after `shipworthy db check` has "
        "said whether its server has room for it.",
        drill="a pool of 2; two requests that each hold a connection for the length of the drill, "
        "and a third that asks for one all the time",
    ),
    Alert(
        name="PoolWaitLong",
        when=Both(
            Compared(
                ratio(Increase(_each(WAIT_SECONDS), 600), Increase(_each(CHECKOUTS), 600)),
                ">",
                Number(0.1),
            ),
            Compared(Increase(_each(WAITS), 600), ">=", Number(20)),
        ),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="callers of {engine} wait {value} s for a connection in the mean",
        cause="There are more callers at a time than connections.",
        look="The panels 'Connections' and 'Connections asked for': is it the number of callers "
        "that grew, or how long each keeps a connection?",
        act="Shorten what is done while a connection is out; else enlarge `pool_size`, after "
        "`shipworthy db check`.",
        drill="a pool of 1, and ten callers that each hold a connection for 200 ms, again and "
        "again",
    ),
    Alert(
        name="PoolTimeouts",
        when=Compared(Increase(_each(TIMEOUTS), 300), ">", Number(0)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="callers of {engine} got no connection in their time",
        cause="All connections were out for as long as `db.checkout` allows.",
        look="The events `db.checkout_timed_out` name the holders at that time.",
        act="As for PoolExhausted: find out who held them, and why for so long.",
        drill="hold every connection of the pool for longer than `db.checkout`, and ask once",
    ),
    Alert(
        name="PoolTimeoutsMany",
        when=Compared(Increase(_each(TIMEOUTS), 300), ">=", Number(10)),
        for_seconds=0,
        urgency=Urgency.PAGE,
        summary="callers of {engine} got no connection in their time, {value} in five minutes",
        cause="The pool is empty for good: connections do not come back, or the database does not "
        "answer.",
        look="`GET /api/databases`: who holds them, since when. `shipworthy breakers list`: did "
        "the breaker of the database open?",
        act="Does the database answer (`shipworthy db check`)? If it does and connections do not "
        "come back, replace the workers (`POST /api/restart`), then mend the line that keeps them.",
        drill="hold every connection of the pool, and ask ten times",
    ),
    Alert(
        name="PoolDeadlock",
        when=Compared(_REFUSED_FOR_GOOD, ">", Number(0)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="callers of {engine} were refused, because all holders waited for one more",
        cause="A request takes a second connection while it holds one, or threads that have "
        "connections wait for threads.",
        look="The events `db.deadlock_found` and `db.starvation_found` name the line that asked "
        "and the lines that hold.",
        act="Let that code use the connection it has (one session for each request), or an engine "
        "of its own.",
        drill="a pool of 1; a request that opens a second session while its first one is in a "
        "transaction",
    ),
    Alert(
        name="ConnectionLeak",
        when=Compared(Increase(_each(LEAKS), 900), ">", Number(0)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="connections of {engine} are out for longer than db.leak_after",
        cause="A session is not closed on every way out of a function, or a stream is read slowly.",
        look="The event `db.connection_leaked` names the line that took it and where its owner "
        "stands now.",
        act="Close the session in a `with` block. Until then replace the workers "
        "(`POST /api/restart`) before the pool is empty.",
        drill="keep a session open for longer than `db.leak_after`",
    ),
    Alert(
        name="DatabaseCallsCut",
        when=Compared(Increase(_each(CUTS), 300), ">=", Number(10)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="{value} calls to {engine} were cut at their deadline in five minutes",
        cause="The database, or the way to it, does not answer in time.",
        look="The events `db.deadline_cut` name phase and line: connect says the network or the "
        "server, statement says locks or plans. `shipworthy breakers list`.",
        act="Phase connect: is the server up, does the network drop packets? Phase statement: look "
        "for locks at the server, and at what was deployed last. Do not lengthen the deadline "
        "before the cause is known.",
        drill="the action break-database: the server falls silent",
    ),
    Alert(
        name="StatementsSlow",
        when=Both(
            Compared(
                ratio(Increase(_each(SLOW), 600), Increase(_each(CHECKOUTS), 600)),
                ">",
                Number(0.05),
            ),
            Compared(Increase(_each(SLOW), 600), ">=", Number(10)),
        ),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="{value} of the uses of {engine} had a statement over db.statement_warn",
        cause="A plan has changed, an index is missing, a table has grown, or locks are held.",
        look="The events `db.statement_slow` name the line; explain its statement at the server.",
        act="Mend the statement or its index. `shipworthy db migrate` refuses migrations that lock "
        "for long.",
        drill="db.statement_warn at 10 ms, and a statement that sleeps in each request",
    ),
    Alert(
        name="CommitLost",
        when=Compared(Increase(_LOST, 900), ">", Number(0)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="the answer to a COMMIT was lost, and nobody knows whether it was applied",
        cause="The connection was lost while a COMMIT was under way, and the database could not "
        "say afterwards what became of it: our table of outcomes is not there, or it was away.",
        look="The event `db.commit_lost` has the operation's id, and the question to put to the "
        "database by hand.",
        act="Put that question. Was it applied, tell whoever asked; was it not, do it again. Then "
        "let units leave a token, so that this is found out by itself.",
        drill="cut the connection between COMMIT and its answer, and refuse those that would ask",
    ),
    Alert(
        name="CommitUnanswered",
        when=Compared(Increase(_each(UNANSWERED), 900), ">", Number(0)),
        for_seconds=0,
        urgency=Urgency.TICKET,
        summary="a COMMIT was sent to {engine} and its answer did not come",
        cause="The connection was lost, or the call was cut, while a COMMIT was under way.",
        look="The event `db.commit_unanswered` names the line. Where it is a unit of "
        "`run_transaction`, the database was asked: see 'COMMITs whose answer was lost'.",
        act="Compare what that line writes with what is in the database. Put it into "
        "`run_transaction`, which asks by itself.",
        drill="let the server fall silent after a COMMIT of a plain session was sent",
    ),
    Alert(
        name="TransactionsRunAgainOften",
        when=Both(
            Compared(
                ratio(Increase(_RERUNS, 600), Increase(Selection(metric=CHECKOUTS), 600)),
                ">",
                Number(0.2),
            ),
            Compared(Increase(_RERUNS, 600), ">=", Number(50)),
        ),
        for_seconds=300,
        urgency=Urgency.TICKET,
        summary="{value} of the uses of the database are transactions that are run again",
        cause="Transactions stand in each other's way (conflicts, deadlocks at the server), or "
        "connections are lost again and again.",
        look="The panel 'Transactions run again': the outcome says which, the unit says whose. "
        "The events `db.unit_repeated` say why each time.",
        act="Conflicts: take rows in one order, and keep transactions short. Lost connections: "
        "look at the server and the network.",
        drill="twenty callers that change the same row in serializable transactions",
    ),
)

DB_SHOWN: Final = (*DB_PANELS, *DB_ALERTS)
