"""What an installation has to do, decided before anything is done."""

from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from shipworthy.audit.coverage import TrailSurvey, judge_trail
from shipworthy.audit.dialects import audit_dialect
from shipworthy.audit.model import Catalog, CatalogColumn, CatalogTable, TableName
from shipworthy.audit.settings import AuditSettings
from shipworthy.audit.steps import plan_install, plan_uninstall
from shipworthy.audit.survey import survey_trail
from shipworthy.audit.tables import TABLES, VERSION

DIALECT = audit_dialect("sqlite")
SQL = sqlite.dialect()


def table(name, rows=-1):
    return CatalogTable(
        name=TableName(schema="", name=name),
        columns=(CatalogColumn(name="id", type="INTEGER", number=1),),
        primary_key=("id",),
        estimated_rows=rows,
    )


def planned(*tables, **facts):
    survey = TrailSurvey(
        version=None,
        missing=tuple(table.name for table in TABLES),
        base="",
        catalog=Catalog(dialect="sqlite", tables={it.name: it for it in tables}),
    )
    judged = judge_trail(replace(survey, **facts), AuditSettings(), DIALECT)
    return plan_install(judged, DIALECT, SQL, capture="{}", at_microseconds=7)


def follow(connection, **settings):
    """Do what is planned for a database; return the steps."""
    judged = judge_trail(survey_trail(connection, DIALECT), AuditSettings(**settings), DIALECT)
    found = plan_install(judged, DIALECT, connection.dialect, capture="{}", at_microseconds=7)
    for step in found.steps:
        for statement in step.statements:
            connection.exec_driver_sql(statement)
    return found.steps


def test_small_tables_come_first():
    """Most are captured before the first that may take long."""
    steps = planned(table("big", 10**6), table("small", 3), table("middle", 50)).steps
    assert [it.what for it in steps[3:]] == ["small", "middle", "big"]
    assert [it.estimated_rows for it in steps[3:]] == [3, 50, 10**6]


def test_our_tables_and_guards_come_before_all():
    """A trigger without its log would fail the application's writes."""
    assert [it.kind for it in planned(table("a")).steps] == ["tables", "guards", "settings", "new"]


def test_each_table_gets_numbers_of_its_own():
    """They are known before: the SQL that is printed is the SQL that is run."""
    steps = planned(table("a"), table("b")).steps
    assert [f"shipworthy_audit_{n}_insert" in str(steps[2 + n].statements) for n in (1, 2)] == [
        True,
        True,
    ]


def test_a_later_version_is_not_planned_for():
    """It has tables that this one does not know."""
    found = planned(table("a"), version=VERSION + 1)
    assert found.steps == ()
    assert f"version {VERSION + 1}" in found.problems[0]


def test_what_is_undone_leaves_no_trigger_that_would_fail():
    """Back to the triggers of before only where the columns of before are all there."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE a (id INTEGER PRIMARY KEY, x TEXT)")
        (*_, new) = follow(connection)
        connection.exec_driver_sql("ALTER TABLE a ADD COLUMN y TEXT")
        (more,) = follow(connection)
        for statement in new.undo:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("ALTER TABLE a DROP COLUMN x")
        (less,) = follow(connection)
    engine.dispose()
    assert all(text.startswith("DROP TRIGGER") for text in new.undo)
    assert any(text.startswith("CREATE TRIGGER") for text in more.undo)
    assert 'NEW."y"' not in str(more.undo)
    assert all(text.startswith("DROP TRIGGER") for text in less.undo)


def test_taking_away_begins_with_the_triggers():
    """The log goes last, so that no write of the application meets a trigger without it."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE a (id INTEGER PRIMARY KEY)")
        follow(connection)
        judged = judge_trail(survey_trail(connection, DIALECT), AuditSettings(), DIALECT)
        whole = plan_uninstall(judged, DIALECT, connection.dialect, keep_log=False)
        kept = plan_uninstall(judged, DIALECT, connection.dialect, keep_log=True)
    engine.dispose()
    assert [it.kind for it in whole.steps] == ["released", "dropped"]
    assert "DROP TABLE" in str(whole.steps[-1].statements)
    assert "DROP TABLE" not in str([it.statements for it in kept.steps])
