"""What a failure of a database means: decided from facts, never from SQLAlchemy's class alone.

The same fault arrives in another class from each driver, through SQLAlchemy or beside it. So what
decides is what the database said (SQLSTATE, number, code) anywhere in the chain of causes, then
whose exception it is, and then the phase: a connection lost while COMMIT is on its way is another
thing than one lost before.

Not here: what is done about it (`transaction`), and whether it speaks against the database
(`judgement`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from shipworthy.db.dialects import Dialect, dialect_named, dialect_of
from shipworthy.db.outcome import DbPhase, Outcome, Sign, Verdict

# The outermost exception and four below it: SQLAlchemy's, the adapter's, the driver's and why.
DEPTH: Final = 5
# What `protect` notes on an exception: the phase, and after how many seconds it cut the call.
PHASE_ATTRIBUTE: Final = "__shipworthy_phase__"
CUT_ATTRIBUTE: Final = "__shipworthy_cut__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What can be told from an exception: its signs from the outermost to the deepest cause."""

    signs: tuple[Sign, ...]
    phase: DbPhase | None = None
    invalidated: bool = False
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """The meaning of one failure. `because` is a sentence for people and holds no data of users."""

    outcome: Outcome
    sqlstate: str | None
    code: int | None
    because: str


# Exceptions of nobody's driver: ours, SQLAlchemy's and the operating system's. By full name, so
# that nothing is imported; the first that is found on the way up from the exception's class counts.
TYPES: Final[Mapping[str, Verdict]] = {
    # Before its base: what was refused is the end of the work, and running it again would be too.
    "shipworthy.lifecycle.fence.CommitRefused": Verdict(
        outcome=Outcome.DEADLINE,
        because="the process is leaving, and its COMMIT was not sent",
        definite=True,
        ours=True,
    ),
    "shipworthy.errors.Rejected": Verdict(
        outcome=Outcome.NOT_SENT,
        because="it was refused before anything was sent",
        definite=True,
        ours=True,
    ),
    "sqlalchemy.exc.TimeoutError": Verdict(
        outcome=Outcome.NOT_SENT,
        because="no connection of the pool was free",
        definite=True,
        ours=True,
    ),
    "sqlalchemy.exc.DisconnectionError": Verdict(
        outcome=Outcome.LOST, because="the pool dropped the connection"
    ),
    "sqlalchemy.exc.PendingRollbackError": Verdict(
        outcome=Outcome.APP_STATE, because="the transaction has failed before", definite=True
    ),
    "sqlalchemy.exc.ResourceClosedError": Verdict(
        outcome=Outcome.APP_STATE, because="it was closed before", definite=True
    ),
    "sqlalchemy.orm.exc.StaleDataError": Verdict(
        outcome=Outcome.RERUN, because="others changed the row meanwhile", definite=True
    ),
    # The driver's own exception stands below it, and says more.
    "sqlalchemy.exc.DBAPIError": Verdict(
        outcome=Outcome.UNKNOWN, because="an error of a driver we do not know"
    ),
    "sqlalchemy.exc.SQLAlchemyError": Verdict(
        outcome=Outcome.PERMANENT, because="what was asked for cannot be done", definite=True
    ),
    "builtins.ConnectionRefusedError": Verdict(
        outcome=Outcome.NOT_SENT, because="nobody listens there", definite=True, refused=True
    ),
    "socket.gaierror": Verdict(
        outcome=Outcome.NOT_SENT, because="the host has no address", definite=True, refused=True
    ),
    "ssl.SSLCertVerificationError": Verdict(
        outcome=Outcome.AUTH_CONFIG, because="the server's certificate does not hold", definite=True
    ),
    "builtins.TimeoutError": Verdict(outcome=Outcome.DEADLINE, because="no answer in time"),
    "builtins.ConnectionError": Verdict(outcome=Outcome.LOST, because="the connection was lost"),
    "builtins.EOFError": Verdict(outcome=Outcome.LOST, because="the connection was lost"),
    "asyncio.exceptions.CancelledError": Verdict(
        outcome=Outcome.DEADLINE, because="whoever asked did not wait for the answer"
    ),
}
# Only where it came out of a connect: anywhere else they are the application's own.
_OPTIONS = frozenset({"builtins.TypeError", "builtins.ValueError"})
_OPTION_UNKNOWN = Verdict(
    outcome=Outcome.PERMANENT, because="an option that the driver does not know", definite=True
)
_NOTHING_KNOWN = Verdict(outcome=Outcome.UNKNOWN, because="no sign that we know")

# Where SQLAlchemy saw that the connection is gone, these say the rest of it: without a code, and
# with one. SQLite has no network in between, so that a closed connection cannot hide a COMMIT.
_HIDES_LOSS = {
    False: frozenset({Outcome.UNKNOWN, Outcome.PERMANENT, Outcome.APP_STATE}),
    True: frozenset({Outcome.UNKNOWN}),
}
# A call that was cut comes back in whatever class a driver has for a connection that is gone.
_CUT = Verdict(outcome=Outcome.DEADLINE, because="it was cut at its deadline")
_NOT_YET_SENT = frozenset({Outcome.LOST, Outcome.AMBIGUOUS, Outcome.DEADLINE, Outcome.UNKNOWN})
_NOT_YET_CONNECTED = _NOT_YET_SENT | {Outcome.RERUN, Outcome.STALE_PLAN, Outcome.APP_STATE}
_OPEN_AT_COMMIT = frozenset(
    {Outcome.LOST, Outcome.NOT_SENT, Outcome.DEADLINE, Outcome.STORAGE, Outcome.UNKNOWN}
)


def classify(
    error: BaseException, *, phase: DbPhase | None = None, dialect: str | None = None
) -> Classified:
    """Say what `error` means.

    `phase` is what the connection was about; None takes what `protect` noted on the exception, and
    where nobody knows, a lost connection is ambiguous. `dialect` (SQLAlchemy's name of it) is for
    drivers we do not know by their classes. Never raises; safe in any thread.
    """
    return decide(facts_of(error), phase=phase, dialect=dialect)


def database_outcome(error: BaseException) -> Outcome | None:
    """Return what `error` means if a database, SQLAlchemy or a driver raised it, else None."""
    facts = facts_of(error)
    ours = facts.phase is not None or any(
        dialect_of(sign) is not None or any(name.startswith("sqlalchemy.") for name in sign.types)
        for sign in facts.signs
    )
    return decide(facts).outcome if ours else None


def facts_of(error: BaseException) -> Facts:
    """Take down what can be told from `error` and its causes: `orig`, else `__cause__`."""
    signs = []
    phase = None
    invalidated = False
    cut = False
    link: BaseException | None = error
    for _ in range(DEPTH):
        if link is None:
            break
        signs.append(_sign_of(link))
        invalidated = invalidated or getattr(link, "connection_invalidated", False) is True
        phase = phase or _phase_of(link)
        cut = cut or hasattr(link, CUT_ATTRIBUTE)
        link = _below(link)
    return Facts(signs=tuple(signs), phase=phase, invalidated=invalidated, cut=cut)


def decide(facts: Facts, *, phase: DbPhase | None = None, dialect: str | None = None) -> Classified:
    """Decide from facts alone."""
    verdict = verdict_of(facts, phase=phase, dialect=dialect)
    named = None if dialect is None else dialect_named(dialect)
    known = [sign for sign in reversed(facts.signs) if dialect_of(sign) or named]
    return Classified(
        outcome=verdict.outcome,
        sqlstate=next((sign.sqlstate for sign in known if sign.sqlstate is not None), None),
        code=next((sign.code for sign in known if sign.code is not None), None),
        because=verdict.because,
    )


def verdict_of(
    facts: Facts, *, phase: DbPhase | None = None, dialect: str | None = None
) -> Verdict:
    """Return what `decide` decides by: the deepest sign that has a code, a known text or class."""
    phase = phase or facts.phase
    named = None if dialect is None else dialect_named(dialect)
    verdict = (
        _look(facts, named, _by_code)
        or (_look(facts, named, _by_text) if _may_be_connecting(facts, phase) else None)
        or _look(facts, named, _by_type)
        or (_OPTION_UNKNOWN if phase is DbPhase.CONNECT and _misfits(facts) else _NOTHING_KNOWN)
    )
    if facts.invalidated and verdict.outcome in _HIDES_LOSS[verdict.coded]:
        verdict = replace(verdict, outcome=Outcome.LOST, because="the connection was lost")
    if facts.cut and not verdict.definite:
        verdict = _CUT
    verdict = _in_phase(verdict, phase)
    if verdict.outcome is Outcome.NOT_SENT and _refused(facts):
        verdict = replace(verdict, refused=True)
    return verdict


def concerns_database(facts: Facts) -> bool:
    """Say whether a database, its driver or the way to it had a part in it."""
    return facts.phase is not None or any(
        dialect_of(sign) is not None or any(name in TYPES for name in sign.types)
        for sign in facts.signs
    )


def _look(
    facts: Facts, named: Dialect | None, how: Callable[[Sign, Dialect | None], Verdict | None]
) -> Verdict | None:
    for sign in reversed(facts.signs):
        found = how(sign, dialect_of(sign) or named)
        if found is not None:
            return found
    return None


def _by_code(sign: Sign, dialect: Dialect | None) -> Verdict | None:
    return None if dialect is None else dialect.by_code(sign)


def _by_text(sign: Sign, dialect: Dialect | None) -> Verdict | None:
    return None if dialect is None else dialect.by_text(sign)


def _by_type(sign: Sign, dialect: Dialect | None) -> Verdict | None:
    found = None if dialect is None else dialect.by_type(sign)
    return found or next((TYPES[name] for name in sign.types if name in TYPES), None)


def _may_be_connecting(facts: Facts, phase: DbPhase | None) -> bool:
    return phase is DbPhase.CONNECT or (phase is None and not facts.invalidated)


def _misfits(facts: Facts) -> bool:
    return any(name in _OPTIONS for sign in facts.signs for name in sign.types)


def _in_phase(verdict: Verdict, phase: DbPhase | None) -> Verdict:
    outcome = verdict.outcome
    match phase:
        case DbPhase.CONNECT if outcome in _NOT_YET_CONNECTED:
            return _instead(verdict, Outcome.NOT_SENT, "while connecting")
        case DbPhase.CONNECT if outcome is Outcome.PERMANENT:
            return _instead(verdict, Outcome.AUTH_CONFIG, "while connecting")
        case DbPhase.CHECKOUT if outcome in _NOT_YET_SENT:
            return _instead(verdict, Outcome.NOT_SENT, "before anything was sent")
        case DbPhase.COMMIT if outcome in _OPEN_AT_COMMIT and not verdict.definite:
            return _instead(verdict, Outcome.AMBIGUOUS, "during COMMIT")
        case None if outcome is Outcome.LOST and not verdict.definite:
            return _instead(verdict, Outcome.AMBIGUOUS, "perhaps during COMMIT")
        case _:
            return verdict


def _instead(verdict: Verdict, outcome: Outcome, when: str) -> Verdict:
    return replace(verdict, outcome=outcome, because=f"{verdict.because}, {when}")


def _refused(facts: Facts) -> bool:
    return any(TYPES[name].refused for sign in facts.signs for name in sign.types if name in TYPES)


def _below(error: BaseException) -> BaseException | None:
    # PyMySQL keeps what the operating system said to itself.
    found = (getattr(error, "orig", None), error.__cause__, getattr(error, "original_exception", 0))
    return next((link for link in found if isinstance(link, BaseException)), None)


def _sign_of(error: BaseException) -> Sign:
    sqlstate = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    last = error.args[-1] if error.args else None
    return Sign(
        types=tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__),
        sqlstate=sqlstate if isinstance(sqlstate, str) else None,
        code=_code_of(error),
        routine=_routine_of(error),
        text=last if isinstance(last, str) else "",
    )


def _code_of(error: BaseException) -> int | None:
    if isinstance(error, OSError):
        return None  # its number is the operating system's
    first = error.args[0] if error.args else None
    found = (getattr(error, "sqlite_errorcode", None), getattr(error, "errno", None), first)
    return next((code for code in found if type(code) is int), None)


def _routine_of(error: BaseException) -> str | None:
    diagnostics = getattr(error, "diag", None)
    routine = getattr(diagnostics, "source_function", None) or getattr(
        error, "server_source_function", None
    )
    return routine if isinstance(routine, str) else None


def _phase_of(error: BaseException) -> DbPhase | None:
    noted = getattr(error, PHASE_ATTRIBUTE, None)
    return next((phase for phase in DbPhase if phase == noted), None)
