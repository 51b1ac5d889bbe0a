"""How databases order: what is written down here is what they do."""

import pytest
import sqlalchemy as sa

from shipworthy.db.dialects.ordering import ordering_of


def _nulls_come_first(url: str) -> bool:
    engine = sa.create_engine(url)
    both = sa.union_all(
        sa.select(sa.literal(1, sa.Integer).label("n")),
        sa.select(sa.cast(sa.null(), sa.Integer).label("n")),
    ).subquery()
    with engine.connect() as connection:
        first = connection.scalars(sa.select(both.c.n).order_by(both.c.n)).first()
        assert ordering_of(connection.dialect).nulls_low is (first is None)
        if ordering_of(connection.dialect).nulls_syntax:
            last = connection.scalars(sa.select(both.c.n).order_by(both.c.n.nulls_first())).first()
            assert last is None
    engine.dispose()
    return first is None


def test_sqlite_sorts_null_low() -> None:
    """NULL stands below every value in SQLite, which also takes NULLS FIRST."""
    assert _nulls_come_first("sqlite://")


def test_postgresql_sorts_null_high(postgres_url: str) -> None:
    """NULL stands above every value in PostgreSQL, which also takes NULLS FIRST."""
    assert not _nulls_come_first(postgres_url)


def test_mariadb_sorts_null_low(mariadb_url: str) -> None:
    """NULL stands below every value in MariaDB."""
    assert _nulls_come_first(mariadb_url)


@pytest.mark.parametrize("name", ["mysql", "mariadb"])
def test_both_names_of_mariadb_mean_the_same(name: str) -> None:
    """SQLAlchemy has two names for MariaDB, and both order alike."""
    dialect = sa.create_mock_engine(f"{name}+pymysql://", lambda *_: None).dialect

    assert ordering_of(dialect).enums_as_text


def test_an_unknown_database_is_slow_rather_than_wrong() -> None:
    """Nothing beyond the standard is asked of a database that is not known."""

    class Unknown:
        name = "unknown"

    ordering = ordering_of(Unknown())

    assert not any((ordering.nulls_syntax, ordering.row_values, ordering.raw_values))
