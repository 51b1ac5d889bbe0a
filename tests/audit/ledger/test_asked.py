"""What another process asks the sealer to say."""

import json

import pytest
import sqlalchemy as sa

from shipworthy.audit.ledger.asked import ask, asked, said
from shipworthy.audit.tables import ARCHIVES, META


@pytest.fixture
def connection():
    """A database that has two archives."""
    engine = sa.create_engine("sqlite://")
    META.create(engine)
    ARCHIVES.create(engine)
    with engine.begin() as connection:
        for number in (1, 2):
            connection.execute(
                ARCHIVES.insert().values(
                    first_batch=number,
                    last_batch=number,
                    entries=1,
                    written_microseconds=0,
                    state="written",
                    file=f"{number}.gz",
                    digest=f"digest {number}",
                    bytes=1,
                    at_microseconds=0,
                )
            )
        yield connection
    engine.dispose()


def pruned(number):
    """Return what retention asks for."""
    return {"pruned_to_batch": number, "archive": f"digest {number}"}


def test_what_is_asked_is_said_once(connection):
    """The last that was asked; what was asked meanwhile waits for the next batch."""
    assert asked(connection) == {}
    ask(connection, pruned(1))
    ask(connection, pruned(2))
    assert asked(connection) == pruned(2)
    said(connection, pruned(1))
    assert asked(connection) == pruned(2)
    said(connection, pruned(2))
    assert asked(connection) == {}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        json.dumps({"pruned_to_batch": 1}),
        json.dumps(pruned(3)),
        json.dumps({"pruned_to_batch": 1, "archive": "digest 2"}),
        json.dumps({"pruned_to_batch": True, "archive": "digest 1"}),
        json.dumps({"pruned_to_batch": 2**70, "archive": "digest 1"}),
        json.dumps({"pruned_to_batch": 1, "archive": ["digest 1"]}),
        json.dumps({"key": "a key of somebody", "archive": "digest 1"}),
        json.dumps(pruned(1) | {"key": "a key of somebody"}),
    ],
)
def test_nothing_is_said_but_that_the_entries_of_an_archive_are_to_go(connection, text):
    """What cannot be read is not said, nor what no archive is noted for."""
    connection.execute(META.insert().values(name="ledger.asked", value=text))
    assert asked(connection) == {}
