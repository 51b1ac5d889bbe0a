"""Is everything captured that is to be?"""

from dataclasses import replace

import pytest

from shipworthy.audit.coverage import (
    TrailSurvey,
    base_digest,
    coverage_of,
    judge_trail,
    table_id_of,
    trigger_drift,
)
from shipworthy.audit.dialects import CaptureDdl, TriggerState, audit_dialect
from shipworthy.audit.model import Catalog, CatalogColumn, CatalogTable, Shape, TableName
from shipworthy.audit.settings import AuditSettings
from shipworthy.audit.shapes import NotedShape, shape_digest
from shipworthy.audit.tables import VERSION

# Pure: what a dialect generates is text, and any of them will do.
DIALECT = audit_dialect("sqlite")
CLIENTS = CatalogTable(
    name=TableName(schema="", name="clients"),
    columns=(
        CatalogColumn(name="id", type="INTEGER", number=1),
        CatalogColumn(name="email", type="TEXT", number=2),
    ),
    primary_key=("id",),
    estimated_rows=5,
)
SHAPE = Shape(id=3, table_id=2, table=CLIENTS)

# As the database has them: each is made by one statement, behind one that drops what was there.
GUARDS = tuple(
    TriggerState(
        table=TableName(schema="", name="shipworthy_audit_entries"), name=made.split()[2], text=made
    )
    for made in DIALECT.base_ddl()
    if made.startswith("CREATE TRIGGER")
)


def catalog(*tables):
    return Catalog(dialect="sqlite", tables={table.name: table for table in tables})


def installed(shape=SHAPE, table=None, dialect=DIALECT):
    """What a database has whose one table was captured as `shape`, and is now as `table`."""
    there = catalog(table or shape.table)
    ddl = dialect.capture(shape, catalog(shape.table))
    return TrailSurvey(
        version=VERSION,
        missing=(),
        base=base_digest(DIALECT.base_ddl()),
        catalog=there,
        noted=(NotedShape(shape=shape, digest=shape_digest(shape, ddl.create)),),
        triggers=(
            *(replace(it, table=(table or shape.table).name) for it in ddl.triggers),
            *GUARDS,
        ),
    )


def judged(survey, **settings):
    return judge_trail(survey, AuditSettings(**settings), DIALECT)


def test_what_was_generated_and_is_there_is_captured():
    """Nothing is to be done, and nothing is to be said."""
    found = judged(installed())
    assert [one.state for one in found.tables] == ["captured"]
    coverage = coverage_of(found)
    assert coverage.is_whole
    assert coverage.tables[0].capture == "captured"


def test_without_a_trail_everything_is_uncovered():
    """And the sentence says what to do."""
    survey = TrailSurvey(version=None, missing=("all",), base="", catalog=catalog(CLIENTS))
    coverage = coverage_of(judged(survey))
    assert [(one.table, one.capture) for one in coverage.uncovered] == [("clients", "not captured")]
    assert "audit install" in coverage.problems[0]
    assert not coverage.is_whole


def test_a_trail_of_a_later_version_is_left_alone():
    """An older program must not judge what it does not know."""
    coverage = coverage_of(judged(replace(installed(), version=VERSION + 1)))
    assert not coverage.is_whole
    assert f"of version {VERSION + 1}" in coverage.problems[0]


@pytest.mark.parametrize(
    "survey",
    [
        replace(installed(), base="another"),
        replace(installed(), missing=("shipworthy_audit_holds",)),
        replace(installed(), version=VERSION - 1),
    ],
)
def test_tables_and_guards_of_an_earlier_version_are_a_problem(survey):
    """The triggers may be right, and yet the log is not guarded as it should be."""
    found = judged(survey)
    assert not found.base_is_current
    assert "another version" in coverage_of(found).problems[0]


NEW = CatalogColumn(name="phone", type="TEXT", number=3)


@pytest.mark.parametrize(
    ("table", "because"),
    [
        (replace(CLIENTS, columns=(*CLIENTS.columns, NEW)), "column 'phone' is new"),
        (replace(CLIENTS, columns=CLIENTS.columns[:1]), "column 'email' is gone"),
        (replace(CLIENTS, name=TableName(schema="", name="customers")), "was called clients"),
    ],
)
def test_a_table_that_changed_is_captured_in_part(table, because):
    """Its triggers know the columns of before."""
    found = judged(installed(table=table))
    assert [one.state for one in found.tables] == ["changed"]
    assert found.tables[0].before.shape.id == SHAPE.id
    assert found.tables[0].renamed == (table.name != CLIENTS.name)
    (one,) = coverage_of(found).uncovered
    assert one.capture == "partly"
    assert because in one.because


def test_a_table_made_in_the_place_of_a_renamed_one_is_another_table():
    """The history of a table goes with its triggers, not with its name."""
    renamed = replace(CLIENTS, name=TableName(schema="", name="clients_old"))
    survey = replace(installed(table=renamed), catalog=catalog(renamed, CLIENTS))
    states = {str(one.table.name): one.state for one in judged(survey).tables}
    assert states == {"clients_old": "changed", "clients": "new"}


@pytest.mark.parametrize("order", [1, -1])
def test_a_number_stays_with_the_name_where_two_tables_have_its_triggers(order):
    """As a detached partition has one: rows of two tables must never be under one number."""
    part = replace(CLIENTS, name=TableName(schema="", name="clients_1"))
    survey = installed()
    left = replace(survey.triggers[0], table=part.name)
    found = judged(
        replace(survey, catalog=catalog(CLIENTS, part), triggers=(left, *survey.triggers)[::order])
    )
    states = {str(one.table.name): one.state for one in found.tables}
    assert states == {"clients": "captured", "clients_1": "new"}
    assert [(it.table, it.capture) for it in coverage_of(found).uncovered] == [
        ("clients_1", "not captured")
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_a_table_that_has_triggers_of_two_keeps_the_number_of_its_name(order):
    """As a table has to which another one, that was captured, is attached."""
    survey = installed()
    other = replace(
        SHAPE, id=4, table_id=1, table=replace(CLIENTS, name=replace(CLIENTS.name, name="b"))
    )
    more = [replace(it, table=CLIENTS.name) for it in DIALECT.capture(other, catalog()).triggers]
    found = judged(
        replace(
            survey,
            noted=(*survey.noted, NotedShape(shape=other, digest="")),
            triggers=(*survey.triggers, *more)[::order],
        )
    )
    assert [one.before.shape.table_id for one in found.tables] == [SHAPE.table_id]
    assert [one.shape.table_id for one in found.gone] == [1]
    assert found.tables[0].state == "drifted"


def test_a_table_made_again_under_its_name_is_the_same_table():
    """As when a migration copies it and drops the first."""
    found = judged(replace(installed(), triggers=GUARDS))
    assert found.tables[0].before is not None
    assert found.tables[0].state == "drifted"
    assert coverage_of(found).tables[0].capture == "not captured"


def test_a_table_that_was_dropped_is_gone_and_no_fault():
    """Its entries stay, and the check goes on passing."""
    found = judged(replace(installed(), catalog=catalog(), triggers=GUARDS))
    assert [str(one.shape.table.name) for one in found.gone] == ["clients"]
    coverage = coverage_of(found)
    assert coverage.is_whole
    assert coverage.gone == ("clients",)


def test_a_table_left_out_that_still_has_triggers_is_to_be_released():
    """The settings changed after it was captured."""
    found = judged(installed(), exclude=("clients",))
    assert [one.state for one in found.tables] == ["released"]
    assert coverage_of(found).tables[0].capture == "left out"
    assert judged(replace(installed(), triggers=()), exclude=("clients",)).tables[0].state == (
        "left out"
    )


def test_other_settings_ask_for_other_triggers():
    """A column that became personal is not erasable before."""
    found = judged(installed(), personal=("clients.email = id",))
    assert found.tables[0].because == "other columns are personal"
    found = judged(installed(), truncate="block")
    assert "TRUNCATE is to be refused" in found.tables[0].because


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda _: [], "is missing"),
        (lambda it: [replace(it, enabled=False)], "switched off"),
        (lambda it: [replace(it, text=it.text.replace("INSERT", "SELECT 1;--"))], "something else"),
        (lambda it: [it, replace(it, name="shipworthy_audit_2_x")], "none of ours"),
    ],
)
def test_a_trigger_that_is_not_as_it_was_generated_is_drift(number, harm, said):
    """Whoever switches one off leaves a gap that the log itself cannot show."""
    survey = installed()
    triggers = list(survey.triggers)
    triggers[number : number + 1] = harm(triggers[number])
    found = judged(replace(survey, triggers=tuple(triggers)))
    assert found.tables[0].state == "drifted"
    (one,) = coverage_of(found).uncovered
    assert len(one.drift) == 1
    assert said in one.because


def test_blanks_are_no_drift():
    """A database may keep a trigger's text with other line ends."""
    state = TriggerState(table=CLIENTS.name, name="t", text="a  b\nc")
    ddl = CaptureDdl(create=(), drop=(), triggers=(state,))
    assert trigger_drift(ddl, [replace(state, text="a b c")]) == []


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda _: [], "missing"),
        (lambda it: [replace(it, text="CREATE TRIGGER x nothing")], "something else"),
        (lambda it: [replace(it, enabled=False)], "switched off"),
    ],
)
def test_a_guard_of_the_log_that_is_not_as_it_was_generated_is_a_problem(harm, said):
    """Without it entries can be rewritten."""
    survey = installed()
    triggers = [*survey.triggers[:-1], *harm(survey.triggers[-1])]
    found = judged(replace(survey, triggers=tuple(triggers)))
    assert len(found.guards) == 1
    assert GUARDS[-1].name in found.guards[0]
    assert said in found.guards[0]
    assert not coverage_of(found).is_whole


def test_what_the_dialect_cannot_capture_makes_it_partly():
    """The reason is the dialect's own sentence: here of a table that no rollback takes back."""
    mariadb = audit_dialect("mariadb")
    shape = replace(SHAPE, table=replace(CLIENTS, traits={"engine": "MyISAM"}))
    found = judge_trail(installed(shape, dialect=mariadb), AuditSettings(), mariadb)
    assert [one.state for one in found.tables] == ["captured"]
    (one,) = coverage_of(found).uncovered
    assert one.capture == "partly"
    assert one.because.startswith("its engine MyISAM has no transactions")


def test_what_no_trigger_of_an_engine_sees_is_a_note_and_no_fault(monkeypatch):
    """A grant or `reconcile` must see it, so the table is captured all the same."""
    real = DIALECT.capture

    def silent(shape, catalog):
        return replace(real(shape, catalog), silent="a TRUNCATE fires nothing")

    monkeypatch.setattr(type(DIALECT), "capture", lambda _, *given: silent(*given))
    coverage = coverage_of(judged(installed()))
    assert [(one.capture, one.note) for one in coverage.tables] == [
        ("captured", "a TRUNCATE fires nothing")
    ]


def test_a_table_without_a_primary_key_is_captured_and_said():
    """It is no fault, but its rows are harder to follow."""
    keyless = replace(SHAPE, table=replace(CLIENTS, primary_key=()))
    coverage = coverage_of(judged(installed(keyless)))
    assert coverage.is_whole
    assert "no primary key" in coverage.tables[0].note


@pytest.mark.parametrize(
    ("name", "text", "number"),
    [
        ("shipworthy_audit_12_insert", "", 12),
        ("00_shipworthy_audit_insert", "EXECUTE shipworthy_audit_rows_7()", 7),
        ("shipworthy_audit_guard_delete", "x", 0),
    ],
)
def test_a_trigger_says_for_which_table_it_was_made(name, text, number):
    """In its name, or in that of its function."""
    assert table_id_of(TriggerState(table=CLIENTS.name, name=name, text=text)) == number
