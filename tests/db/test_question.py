"""What became of a COMMIT is found out on another connection, and the answer stays true."""

import threading
import time

import pytest
import sqlalchemy as sa

from shipworthy.db.dialects import TransactionStatus, dialect_named
from shipworthy.db.question import ServerStatus, TokenRow
from shipworthy.db.tables import OUTCOMES, install
from shipworthy.db.unit import CommitAnswer

pytestmark = pytest.mark.slow

STATUS = dialect_named("postgresql").transaction_status


@pytest.fixture(params=["sqlite", "postgres_url", "mariadb_url"])
def engine(request, tmp_path):
    """A database of each kind, with our tables."""
    url = (
        f"sqlite:///{tmp_path}/own.db"
        if request.param == "sqlite"
        else request.getfixturevalue(request.param)
    )
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        install(connection)
    yield engine
    engine.dispose()


@pytest.fixture
def postgres(postgres_url):
    """An empty database of PostgreSQL."""
    engine = sa.create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE orders (id int)"))
    yield engine
    engine.dispose()


def asked(engine: sa.Engine, question: TokenRow | ServerStatus) -> CommitAnswer:
    with engine.connect() as connection:
        return question.ask(connection)


def begun(connection: sa.Connection) -> ServerStatus:
    connection.execute(sa.text("INSERT INTO orders VALUES (1)"))
    xid, place = (connection.scalar(sa.text(text)) for text in (STATUS.assigned, STATUS.place))
    return ServerStatus(STATUS, xid, place)


def test_a_row_that_was_committed_is_found(engine):
    """However often one asks."""
    with engine.begin() as connection:
        question = TokenRow(connection)

    assert asked(engine, question) is CommitAnswer.COMMITTED
    assert asked(engine, question) is CommitAnswer.COMMITTED


def test_a_row_that_is_not_there_never_will_be(engine):
    """Whoever asks puts one in its place, so that a late COMMIT fails instead of surprising us."""
    with engine.connect() as connection:
        question = TokenRow(connection)
        connection.rollback()

    assert asked(engine, question) is CommitAnswer.NEVER
    assert asked(engine, question) is CommitAnswer.NEVER
    with engine.connect() as connection, pytest.raises(sa.exc.IntegrityError):
        connection.execute(
            OUTCOMES.insert().values(token=token_of(question), state="committed", at=1.0)
        )


def token_of(question: TokenRow) -> str:
    """The token, from the statement that people are told."""
    return question.text.split("'")[1]


def test_people_are_told_a_statement_that_works(engine):
    """It stands in the message of a commit that is lost."""
    with engine.begin() as connection:
        question = TokenRow(connection)

    with engine.connect() as connection:
        assert connection.scalar(sa.text(question.text)) == "committed"


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("server", ["postgres_url", "mariadb_url"])
def test_a_transaction_that_is_still_open_is_waited_for(request, server, commits):
    """The server has us wait until it is decided; a row that came first makes our INSERT fail."""
    engine = sa.create_engine(request.getfixturevalue(server))
    with engine.begin() as connection:
        install(connection)
    answers: list[object] = []
    with engine.connect() as first:
        question = TokenRow(first)

        def ask() -> None:
            try:
                answers.append(asked(engine, question))
            except sa.exc.IntegrityError:
                answers.append(asked(engine, question))

        asker = threading.Thread(target=ask)
        asker.start()
        give_up = time.monotonic() + 10
        while not _waits(engine, server) and time.monotonic() < give_up:
            time.sleep(0.01)
        assert answers == []
        first.commit() if commits else first.rollback()
        asker.join(10)

    assert answers == [CommitAnswer.COMMITTED if commits else CommitAnswer.NEVER]
    engine.dispose()


def _waits(engine: sa.Engine, server: str) -> bool:
    text = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND datname = current_database()"
        if server == "postgres_url"
        else "SELECT count(*) FROM information_schema.processlist WHERE db = DATABASE()"
        " AND command = 'Query' AND info LIKE 'INSERT INTO shipworthy_outcomes%'"
    )
    with engine.connect() as connection:
        return bool(connection.scalar(sa.text(text)))


def test_the_server_knows_what_became_of_a_transaction(postgres):
    """Open, committed, aborted."""
    with postgres.connect() as connection:
        question = begun(connection)
        assert asked(postgres, question) is CommitAnswer.OPEN
        connection.commit()
        assert asked(postgres, question) is CommitAnswer.COMMITTED

        question = begun(connection)
        connection.rollback()
        assert asked(postgres, question) is CommitAnswer.NEVER


def test_another_server_or_history_is_not_asked(postgres):
    """There the same number is somebody else's transaction."""
    with postgres.begin() as connection:
        xid = connection.scalar(sa.text("SELECT CAST(pg_current_xact_id() AS text)"))
    elsewhere = ServerStatus(STATUS, xid, "7300000000000000000/2")

    assert asked(postgres, elsewhere) is CommitAnswer.UNKNOWN
    assert elsewhere.text.endswith(f"CAST('{xid}' AS text) AS xid8)) (on 7300000000000000000/2)")


def test_a_transaction_that_the_server_has_forgotten_is_unknown():
    """It keeps a status for some two thousand million transactions, and then says NULL."""
    status = TransactionStatus(
        assigned="", place="SELECT 'here'", status="SELECT NULL WHERE :xid <> ''"
    )
    engine = sa.create_engine("sqlite://")

    assert asked(engine, ServerStatus(status, "1", "here")) is CommitAnswer.UNKNOWN
    engine.dispose()
