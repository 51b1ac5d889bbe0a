"""A database is asked whether it has a trail by a statement that does not fail where it has not."""

import pytest

from shipworthy.audit.dialects.presence import presence_statement


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_the_answer_is_a_number_before_and_after_an_install(kind, bare_database):
    """In the middle of a transaction, which goes on."""
    database = bare_database(kind)
    question = presence_statement(kind)

    with database.outside.connect() as connection:
        before = connection.exec_driver_sql(question).scalar_one()
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    database.install()
    with database.outside.connect() as connection:
        after = connection.exec_driver_sql(question).scalar_one()

    assert (before, after) == (0, 1)


@pytest.mark.slow
def test_postgresql_finds_it_whatever_the_session_looks_through(bare_database):
    """What one session is told goes for all of an engine."""
    database = bare_database("postgresql")
    database.install()
    with database.outside.connect() as connection:
        connection.exec_driver_sql("SET LOCAL search_path = pg_catalog")
        assert connection.exec_driver_sql(presence_statement("postgresql")).scalar_one() == 1


def test_other_databases_are_not_asked():
    """They have no trail here."""
    assert presence_statement("oracle") == ""
