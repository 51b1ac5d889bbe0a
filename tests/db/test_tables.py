"""Our own tables come with one call, are found, pruned, and leave with another."""

import pytest
import sqlalchemy as sa

from shipworthy.db.tables import (
    IDEMPOTENCY,
    METADATA,
    OUTCOMES,
    SCHEMA,
    VERSION,
    install,
    installed,
    prune,
    remove,
)

pytestmark = pytest.mark.slow

ALL = {"shipworthy_schema", "shipworthy_outcomes", "shipworthy_idempotency"}


@pytest.fixture(params=["sqlite", "postgres_url", "mariadb_url"])
def engine(request, tmp_path):
    """An empty database of each kind."""
    url = (
        f"sqlite:///{tmp_path}/own.db"
        if request.param == "sqlite"
        else request.getfixturevalue(request.param)
    )
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


def tables(engine: sa.Engine) -> set[str]:
    return set(sa.inspect(engine).get_table_names())


def answer(key: str, expires: float) -> dict[str, object]:
    return {
        "id": key, "fingerprint": "f", "state": "done", "attempt": "a", "lease_until": 0.0,
        "at": 0.0, "expires": expires, "status": 200, "headers": b"h",
        "body": b"\0" * 70_000,
    }  # fmt: skip


def test_tables_come_and_leave_completely_and_both_twice(engine):
    """The second time there is nothing to do, and it says so by saying nothing."""
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id int)"))
        assert installed(connection) is None
        assert remove(connection) == []
        made = install(connection)
        assert [line.split()[-1] for line in made[:-1]] == [
            "shipworthy_outcomes", "shipworthy_idempotency", "shipworthy_schema",
        ]  # fmt: skip
        assert made[-1] == f"noted version {VERSION}"
        assert install(connection) == []
    with engine.begin() as connection:
        assert installed(connection) == VERSION
        assert install(connection) == []
    assert tables(engine) == ALL | {"orders"}

    with engine.begin() as connection:
        assert len(remove(connection)) == len(ALL)
    assert tables(engine) == {"orders"}


def test_what_an_interrupted_install_left_out_is_made_by_the_next(engine):
    """On MariaDB each table is committed by itself, so there may be half of them."""
    with engine.begin() as connection:
        OUTCOMES.create(connection)

    with engine.begin() as connection:
        made = install(connection)
    assert len(made) == 3
    assert tables(engine) == ALL


def test_a_newer_version_is_left_as_it_is(engine):
    """A worker of the version before reads its columns, and notes nothing of its own."""
    with engine.begin() as connection:
        install(connection)
        connection.execute(sa.update(SCHEMA).values(version=VERSION + 1))
        connection.execute(
            sa.text("ALTER TABLE shipworthy_outcomes ADD COLUMN note varchar(9) DEFAULT 'x'")
        )

        assert install(connection) == []
        assert installed(connection) == VERSION + 1
        connection.execute(OUTCOMES.insert().values(token="t", state="committed", at=1.0))
        assert connection.scalar(sa.select(OUTCOMES.c.state)) == "committed"


def test_a_rolled_back_install_leaves_nothing_where_tables_are_transactional(postgres_url):
    """So that half of it is never seen."""
    engine = sa.create_engine(postgres_url)
    with engine.connect() as connection:
        install(connection)
        connection.rollback()

    assert tables(engine) == set()
    engine.dispose()


def test_old_rows_are_pruned_oldest_first_and_so_many_at_a_time(engine):
    """What is as old as the instant, or younger, stays."""
    with engine.begin() as connection:
        install(connection)
        connection.execute(
            OUTCOMES.insert(),
            [{"token": f"t{at}", "state": "committed", "at": float(at)} for at in range(10)],
        )
        connection.execute(IDEMPOTENCY.insert(), [answer("old", 1.0), answer("new", 9.0)])

        assert prune(connection, before=5.0, limit=3) == 3 + 1
        left = connection.scalars(sa.select(OUTCOMES.c.token).order_by(OUTCOMES.c.at)).all()
        assert left == [f"t{at}" for at in range(3, 10)]
        assert prune(connection, before=5.0, limit=3) == 2
        assert prune(connection, before=5.0, limit=3) == 0
        assert connection.scalar(sa.select(IDEMPOTENCY.c.id)).strip() == "new"


def test_an_answer_of_several_megabytes_has_room(mariadb_url):
    """A BLOB without a length holds 64 KiB on MariaDB."""
    engine = sa.create_engine(mariadb_url)
    body = b"\xff" * 3_000_000
    with engine.begin() as connection:
        install(connection)
        connection.execute(IDEMPOTENCY.insert().values(answer("k", 1.0) | {"body": body}))
        assert connection.scalar(sa.select(IDEMPOTENCY.c.body)) == body
        engines = connection.scalars(
            sa.text("SELECT DISTINCT engine FROM information_schema.tables"
                    " WHERE table_schema = DATABASE()")
        ).all()  # fmt: skip
    assert engines == ["InnoDB"]
    engine.dispose()


def test_all_tables_carry_our_prefix():
    """So that nobody takes them for the application's, and all are found."""
    assert set(METADATA.tables) == ALL
