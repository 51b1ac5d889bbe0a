"""MariaDB: every error number has a meaning, and the statements do on a server what they say."""

import pymysql.constants.CR
import pymysql.constants.ER
import pytest
from hypothesis import given, strategies as st
from sqlalchemy import create_engine, text

from shipworthy.db import Outcome, dialect_named
from shipworthy.db.dialects.mariadb import CODES, MARIADB, NUMBERS, RANGES
from shipworthy.db.outcome import Sign

TYPES = ("pymysql.err.OperationalError", "pymysql.err.MySQLError")
KNOWN = sorted(
    {
        number
        for names in (pymysql.constants.ER, pymysql.constants.CR)
        for name, number in vars(names).items()
        if name.isupper() and isinstance(number, int)
    }
)


def outcome_of(number: int, message: str = "") -> Outcome:
    return MARIADB.by_code(Sign(types=TYPES, code=number, text=message)).outcome


def test_the_driver_names_as_many_as_it_should():
    """Otherwise the next test would prove little."""
    assert len(KNOWN) > 530


@pytest.mark.parametrize("number", KNOWN)
def test_every_number_of_the_driver_stands_in_the_table(number):
    """By itself or by its range; none is left to chance."""
    by_range = [outcome for numbers, outcome, _ in RANGES if number in numbers]

    assert number in CODES or len(by_range) == 1
    assert outcome_of(number) is (CODES[number][0] if number in CODES else by_range[0])


def test_no_number_means_two_things():
    """The table is written by meaning, so a number could stand in it twice."""
    numbers = [number for _, _, listed in NUMBERS for number in listed]

    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize(
    ("outcome", "numbers"),
    [
        (Outcome.RERUN, (1213, 1205, 1020, 1412, 1614)),
        (Outcome.NOT_SENT, (2002, 2003, 2005, 2012, 1047)),
        (Outcome.LOST, (2006, 2013, 2055, 1927, 4031, 1053, 1158, 1159, 1160, 1161, 0)),
        (Outcome.AMBIGUOUS, (1180,)),
        (Outcome.OVERLOAD, (1040, 1203, 1226, 1041, 1135)),
        (Outcome.READ_ONLY, (1792, 1836)),
        (Outcome.DEADLINE, (1969, 1317, 3024)),
        (Outcome.STALE_PLAN, (1615, 1243)),
        (Outcome.APP_STATE, (2014, 1568)),
        (Outcome.AUTH_CONFIG, (1044, 1045, 1049, 1698, 2026, 1142)),
        (Outcome.STORAGE, (1021, 1114, 1034, 1030)),
        (Outcome.PERMANENT, (1062, 1451, 1452, 1048, 1366, 1264, 1406, 1064, 1146, 1153, 2068)),
        (Outcome.UNKNOWN, (1105, 2000, 9999, -1)),
    ],
)
def test_a_number_means_what_it_should(outcome, numbers):
    """The table, read back against what was meant."""
    assert {number: outcome_of(number) for number in numbers} == dict.fromkeys(numbers, outcome)


def test_an_option_that_prevents_is_read_only_where_it_says_so():
    """1290 is said of many options; one of them is that of a replica."""
    text_of = "The MariaDB server is running with the --{} option so it cannot execute this".format

    assert outcome_of(1290, text_of("read-only")) is Outcome.READ_ONLY
    assert outcome_of(1290, text_of("skip-grant-tables")) is Outcome.PERMANENT


@given(st.integers())
def test_every_number_has_an_outcome(number):
    """Also those that a later server will have."""
    assert isinstance(outcome_of(number), Outcome)


def test_without_a_number_the_class_decides():
    """A driver complains of itself, or of a connection that it has closed."""
    lost, wrong = ("asyncmy.errors.InterfaceError",), ("pymysql.err.ProgrammingError",)

    assert MARIADB.by_type(Sign(types=lost)).outcome is Outcome.LOST
    assert MARIADB.by_type(Sign(types=wrong)).outcome is Outcome.PERMANENT
    assert MARIADB.by_type(Sign(types=("pymysql.err.MySQLError",))) is None
    assert MARIADB.by_code(Sign(types=lost)) is None
    assert MARIADB.by_text(Sign(types=lost)) is None
    assert MARIADB.transaction_status is None


@pytest.mark.slow
def test_the_statements_do_on_a_server_what_they_say(mariadb_url):
    """The advisory lock, on two connections."""
    dialect = dialect_named("mysql")
    engine = create_engine(mariadb_url)
    lock, other = dialect.advisory_lock("m" * 200), dialect.advisory_lock("other")

    with engine.connect() as one, engine.connect() as two:

        def ask(connection, statement, values=None):
            return connection.execute(text(statement), values or {}).scalar_one()

        taken = [ask(one, *lock.take), ask(two, *lock.take), ask(two, *other.take)]
        taken += [ask(one, *lock.release), ask(two, *lock.take)]
    engine.dispose()

    assert taken == [1, 0, 1, 1, 1]
