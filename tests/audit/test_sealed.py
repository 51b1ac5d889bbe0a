"""Sealed batches as archives need them."""

import pytest

from audit.past_database import run
from shipworthy.audit import sealed
from shipworthy.audit.ledger.asked import ask
from shipworthy.audit.ledger.batch import BatchHeader
from shipworthy.audit.ledger.merkle import leaf_hash, root_of
from shipworthy.audit.retention_plan import ArchiveRange
from shipworthy.audit.sealed import (
    ages,
    batches_of,
    head_of,
    headers_of,
    last_batch,
    lists_of,
    note_of,
    said_of,
)
from shipworthy.audit.tables import ARCHIVES, PERSONAL


def test_a_batch_comes_as_lines_that_give_its_root(sealed_people):
    """With what opens its commitments, by person; erased values open nothing."""
    with sealed_people.engine.connect() as connection:
        [age] = ages(connection)
        assert (age.number, age.entries, age.signed) == (1, 3, True)
        connection.execute(
            PERSONAL.update().where(PERSONAL.c.subject == "2").values(salt=None, value=None)
        )
        part = ArchiveRange(first_batch=1, last_batch=1, entries=3)
        [batch] = batches_of(connection, part)
        header = BatchHeader.parse(batch.header)
        assert root_of([leaf_hash(line) for line in batch.lines]).hex() == header.root
        assert [subject for subject, _ in batch.openings] == ["1", "1", "1"]
        assert [one.seqs for one in lists_of(connection, 1, 1)] == [(1, 2, 3)]
        assert list(lists_of(connection, 2, 3)) == []
        assert headers_of(connection, 1, 9) == {1: batch.header}
        assert "tests/log" in note_of(connection, 1)


@pytest.mark.parametrize("first", [1, 2])
def test_an_archive_begins_with_the_tree_before_it(sealed_people, first):
    """Nothing before the first batch; one part for one batch."""
    with sealed_people.engine.connect() as connection:
        head = head_of(connection, first)
    assert (head.size, len(head.parts)) == (first - 1, first - 1)
    assert len(head.shapes) == 1


def test_the_tree_before_an_archive_is_read_in_pages(sealed_people, monkeypatch):
    """A log of years has millions of headers; whatever fits a page, the tree is the same."""
    trail = sealed_people
    for number in range(3, 7):
        run(trail.engine, f"INSERT INTO people VALUES ({number}, 'x', 'y')")
        trail.seal()
    with trail.engine.connect() as connection:
        whole = [head_of(connection, first).parts for first in range(1, 6)]
        read = []
        headers = sealed.headers_of

        def counted(*given):
            read.append(len(found := headers(*given)))
            return found

        monkeypatch.setattr(sealed, "headers_of", counted)
        monkeypatch.setattr(sealed, "HEADERS_AT_ONCE", 2)
        assert [head_of(connection, first).parts for first in range(1, 6)] == whole
    assert read == [1, 2, 2, 1, 2, 2]


def test_what_headers_say_of_archives_is_found(sealed_people):
    """Nothing before something was pruned; who waits reads only what came since."""
    with sealed_people.engine.begin() as connection:
        assert said_of(connection) == {}
        connection.execute(
            ARCHIVES.insert().values(
                first_batch=1,
                last_batch=1,
                entries=3,
                written_microseconds=0,
                state="written",
                file="entries-1-1.ndjson.gz",
                digest="digest",
                bytes=1,
                at_microseconds=0,
            )
        )
        ask(connection, {"pruned_to_batch": 1, "archive": "digest"})
        newest = last_batch(connection)
    sealed_people.seal()
    with sealed_people.engine.connect() as connection:
        assert said_of(connection) == said_of(connection, after=newest) == {1: "digest"}
        assert said_of(connection, after=last_batch(connection)) == {}
