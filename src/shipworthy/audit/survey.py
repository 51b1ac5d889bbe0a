"""Ask a database what it has of a trail; changes nothing."""

import sqlalchemy as sa

from shipworthy.audit.coverage import TrailSurvey
from shipworthy.audit.dialects import AuditDialect
from shipworthy.audit.shapes import read_noted
from shipworthy.audit.tables import BASE_FACT, META, SETTINGS_FACT, SHAPES, VERSION_FACT, our_tables


def survey_trail(connection: sa.Connection, dialect: AuditDialect) -> TrailSurvey:
    """Return what is there of a trail, and of the tables it is about."""
    inspector = sa.inspect(connection)
    names = set(inspector.get_table_names())
    there = [table for table in our_tables() if table.name in names]
    missing = [table.name for table in our_tables() if table.name not in names]
    for table in there:
        has = {column["name"] for column in inspector.get_columns(table.name)}
        missing += [f"{table.name}.{name}" for name in table.columns.keys() if name not in has]  # noqa: SIM118 - not a dict
    facts: dict[str, str] = {}
    if META.name in names:
        rows = connection.execute(sa.select(META.c.name, META.c.value))
        facts = {row.name: row.value for row in rows}
    version = facts.get(VERSION_FACT)
    return TrailSurvey(
        version=None if version is None else int(version),
        missing=tuple(missing),
        base=facts.get(BASE_FACT, ""),
        settings=facts.get(SETTINGS_FACT, ""),
        catalog=dialect.read_catalog(connection),
        noted=tuple(read_noted(connection)) if SHAPES.name in names else (),
        triggers=tuple(dialect.triggers(connection)),
    )


def is_installed(connection: sa.Connection) -> bool:
    """Say whether there is a trail, by one cheap question."""
    return sa.inspect(connection).has_table(META.name)
