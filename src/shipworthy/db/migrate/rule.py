"""What a rule about migrations is; the rules themselves are the dialects'."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, final

from shipworthy.db.migrate.statements import Clause, SqlStatement

LARGE_ROWS: Final = 100_000
"""From so many rows on a table counts as large: a scan of it takes longer than a request waits."""


class MigrationSeverity(StrEnum):
    """What comes of a statement that a rule speaks against."""

    FAILS = "fails"
    """The database refuses the statement: the migration stops there."""
    LOSES = "loses"
    """Something goes for good that nobody can make again, whatever the size of the table."""
    LOCKS = "locks"
    """Others wait while it works, the longer the larger the table."""
    BREAKS = "breaks"
    """Code of the version before, which still runs, fails afterwards."""
    ADVICE = "advice"
    """It works today and is regretted later."""


@final
@dataclass(slots=True, kw_only=True)
class Knowledge:
    """What is known while a plan is read from its first statement to its last.

    `rows` are estimates by name of table or index; None means that nobody was asked, so that every
    table may be large. `made` are the tables that the plan itself created: nobody waits for them.
    `proven` are the columns of which a validated CHECK says that they are never NULL, `unproven`
    the names of CHECKs that say so and are not validated. `altered` are tables with an ALTER TABLE
    in this revision, some of them in the transaction that is open.
    """

    version: tuple[int, ...] = ()
    rows: Mapping[str, int] | None = None
    made: set[str] = field(default_factory=set)
    proven: set[tuple[str, str]] = field(default_factory=set)
    unproven: dict[tuple[str, str], str] = field(default_factory=dict)
    revision: str = ""
    transaction: int = 0
    altered: set[str] = field(default_factory=set)
    altered_in_transaction: set[str] = field(default_factory=set)

    def reach(self, statement: SqlStatement) -> None:
        """Forget what ended before `statement`: a revision, a transaction."""
        if statement.revision != self.revision:
            self.altered.clear()
        if (statement.revision, statement.transaction) != (self.revision, self.transaction):
            self.altered_in_transaction.clear()
        self.revision, self.transaction = statement.revision, statement.transaction

    def rows_of(self, tables: tuple[str, ...]) -> int | None:
        """Return the rows of the largest of `tables`; None where nobody knows."""
        if self.rows is None or not tables:
            return None
        return max(self.rows.get(table, 0) for table in tables)


Condition = Callable[[Clause, SqlStatement, Knowledge], bool]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationRule:
    """Speaks against a clause that `pattern` matches, and `when` holds for.

    `unless` is not to be found anywhere in its statement. `before` and `since` are server versions.
    `anywhere` is for what is wrong on a new table too.
    """

    id: str
    severity: MigrationSeverity
    what: str
    why: str
    rewrite: str
    pattern: str
    unless: str | None = None
    when: Condition | None = None
    before: tuple[int, ...] | None = None
    since: tuple[int, ...] = ()
    anywhere: bool = False

    def speaks_against(self, clause: Clause, statement: SqlStatement, known: Knowledge) -> bool:
        """Say whether `clause` is what this rule is about, whatever the size of the table."""
        # An unknown version is taken for the newest one.
        if known.version and (
            known.version < self.since or (self.before is not None and known.version >= self.before)
        ):
            return False
        if not known.version and self.before is not None:
            return False
        if not re.match(self.pattern, clause.text):
            return False
        if self.unless is not None and re.search(self.unless, statement.normal):
            return False
        if not self.anywhere and clause.tables and clause.tables[0] in known.made:
            return False
        return self.when is None or self.when(clause, statement, known)


def in_transaction(clause: Clause, statement: SqlStatement, known: Knowledge) -> bool:
    """Hold for a statement that comes inside a transaction."""
    del clause, known
    return statement.in_transaction


def not_empty(clause: Clause, statement: SqlStatement, known: Knowledge) -> bool:
    """Hold for a table that has rows, or may have."""
    del statement
    return known.rows_of(clause.tables[:1]) != 0
