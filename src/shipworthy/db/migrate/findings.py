"""Which statements of a migration are dangerous on a live database, and what to write instead.

Pure: it is told the statements, the server's version and the sizes of tables, and asks nobody.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

from typing_extensions import override

from shipworthy.db.dialects.migration_rules import rules_of
from shipworthy.db.migrate.rule import LARGE_ROWS, Knowledge, MigrationSeverity
from shipworthy.db.migrate.statements import Clause, SqlStatement, name_of

SHOWN: Final = 160
_MARKER = re.compile(r"#\s*shipworthy:\s*accept\s+([\w,\s-]+?)\s*$", re.MULTILINE)
_PROOF = re.compile(
    r"ALTER TABLE ADD CONSTRAINT (\S+) CHECK \( ?\(? ?(\S+) IS NOT NULL ?\)? ?\)( NOT VALID)?"
)
_VALIDATED = re.compile(r"ALTER TABLE VALIDATE CONSTRAINT (\S+)")
_RENAMED = re.compile(r"ALTER TABLE RENAME TO (\S+)")
_CREATED = re.compile(r"CREATE (?!.*\bINDEX\b)(?:\w+ )*?TABLE ")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationFinding:
    """One statement that one rule speaks against.

    `rows` is the size of the largest table concerned, None where nobody knows. `refused` says that
    a run stops for it unless it is accepted.
    """

    rule: str
    severity: MigrationSeverity
    what: str
    why: str
    rewrite: str
    revision: str
    line: int
    sql: str
    tables: tuple[str, ...]
    rows: int | None
    refused: bool

    @override
    def __str__(self) -> str:
        size = "" if self.rows is None else f", about {self.rows:,} rows"
        table = f" ({', '.join(self.tables)}{size})" if self.tables else ""
        return (
            f"{self.revision}, line {self.line}: {self.rule}: {self.what}{table}: {self.why}; "
            f"{self.rewrite}"
        )


def lint(
    statements: Iterable[SqlStatement],
    dialect: str,
    server_version: tuple[int, ...] = (),
    table_rows: Mapping[str, int] | None = None,
    *,
    large_rows: int = LARGE_ROWS,
    proven: Collection[tuple[str, str]] = (),
) -> list[MigrationFinding]:
    """Return what is dangerous about a plan, in the order of its statements.

    `dialect` is SQLAlchemy's name; of one we have no rules for, nothing is said. Without
    `server_version` the newest server is meant, without `table_rows` every table may be large.
    `proven` are pairs of table and column that a validated CHECK keeps from being NULL.
    """
    rules = rules_of(dialect)
    known = Knowledge(version=server_version, rows=table_rows, proven=set(proven))
    found = []
    for statement in statements:
        known.reach(statement)
        for clause in statement.clauses:
            rows = known.rows_of(clause.tables)
            found += [
                MigrationFinding(
                    rule=rule.id,
                    severity=rule.severity,
                    what=rule.what,
                    why=rule.why,
                    rewrite=rule.rewrite,
                    revision=statement.revision,
                    line=statement.line,
                    sql=_shortened(statement.text),
                    tables=clause.tables,
                    rows=rows,
                    refused=_is_refused(rule.severity, rows, large_rows),
                )
                for rule in rules
                if rule.speaks_against(clause, statement, known)
            ]
        for clause in statement.clauses:
            _learn(clause, statement, known)
    return found


def refusals(
    findings: Iterable[MigrationFinding], accepted: Mapping[str, Collection[str]]
) -> list[MigrationFinding]:
    """Return the findings a run stops for: refused, and accepted neither for all nor for theirs.

    `accepted` has the rules by revision; those under "" are accepted in every revision.
    """
    everywhere = accepted.get("", ())
    return [
        finding
        for finding in findings
        if finding.refused
        and finding.rule not in everywhere
        and finding.rule not in accepted.get(finding.revision, ())
    ]


def accepted_in(source: str) -> frozenset[str]:
    """Return the rules that a revision's file accepts: `# shipworthy: accept index-blocks-writes`.

    Several are separated by commas.
    """
    return frozenset(
        name for marker in _MARKER.findall(source) for name in re.split(r"[,\s]+", marker) if name
    )


def tables_of(statements: Sequence[SqlStatement]) -> frozenset[str]:
    """Return the tables a plan touches that are there before it begins."""
    made: set[str] = set()
    touched: set[str] = set()
    for statement in statements:
        if _CREATED.match(statement.normal):
            made.update(statement.tables[:1])
        touched.update(name for name in statement.tables if name not in made)
    return frozenset(touched)


def _is_refused(severity: MigrationSeverity, rows: int | None, large_rows: int) -> bool:
    if severity in (MigrationSeverity.FAILS, MigrationSeverity.LOSES):
        return True
    return severity is MigrationSeverity.LOCKS and (rows is None or rows >= large_rows)


def _learn(clause: Clause, statement: SqlStatement, known: Knowledge) -> None:
    """Remember what a later rule may ask for."""
    if _CREATED.match(clause.text):
        known.made.update(clause.tables[:1])
        return
    if not clause.tables:
        return
    table = clause.tables[0]
    renamed = _RENAMED.match(clause.text)
    if renamed and table in known.made:
        known.made.add(name_of(renamed[1]))
    if clause.text.startswith("ALTER TABLE") and table not in known.made:
        known.altered.add(table)
        if statement.in_transaction:
            known.altered_in_transaction.add(table)
    proof, validated = _PROOF.match(clause.text), _VALIDATED.match(clause.text)
    if proof:
        column = (table, name_of(proof[2]))
        if proof[3]:
            known.unproven[table, name_of(proof[1])] = column[1]
        else:
            known.proven.add(column)
    elif validated:
        column_name = known.unproven.get((table, name_of(validated[1])))
        if column_name is not None:
            known.proven.add((table, column_name))


def _shortened(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= SHOWN else f"{flat[: SHOWN - 3]}..."
