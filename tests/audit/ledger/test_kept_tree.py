"""A tree is kept beside the log and goes on from there; what cannot be read is an empty tree."""

import pytest
import sqlalchemy as sa

from shipworthy.audit.ledger.kept_tree import keep_tree, kept_tree
from shipworthy.audit.ledger.merkle import Frontier, leaf_hash
from shipworthy.audit.tables import META

LEAVES = [leaf_hash(bytes([number])) for number in range(21)]


@pytest.fixture
def connection():
    """A database that has the table of the facts, and nothing else."""
    engine = sa.create_engine("sqlite://")
    META.create(engine)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def test_a_log_that_kept_no_tree_has_an_empty_one(connection):
    """So its sealer reads every batch."""
    assert kept_tree(connection).size == 0


def test_what_was_kept_grows_as_if_it_had_never_been_away(connection):
    """At each size: the same root then, and the same root one leaf later."""
    tree = Frontier()
    for leaf in LEAVES:
        keep_tree(connection, tree)
        found = kept_tree(connection)
        assert (found.size, found.root()) == (tree.size, tree.root())
        tree.append(leaf)
        found.append(leaf)
        assert found.root() == tree.root()


def test_one_tree_is_kept_and_it_is_the_last(connection):
    """A row is changed, not added."""
    keep_tree(connection, Frontier(LEAVES[:3]))
    keep_tree(connection, Frontier(LEAVES))

    assert kept_tree(connection).root() == Frontier(LEAVES).root()
    assert connection.scalar(sa.select(sa.func.count()).select_from(META)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "null",
        "7",
        "[1]",
        "[1,[]]",
        "[1,[7]]",
        '[1,["zz"]]',
        '[-1,["00"]]',
        "[Infinity,[]]",
        '{"size":1}',
    ],
)
def test_what_is_no_tree_stops_no_sealer(connection, text):
    """Somebody wrote over it: then all batches are read, as if nothing had been kept."""
    keep_tree(connection, Frontier(LEAVES))
    connection.execute(sa.update(META).values(value=text))

    found = kept_tree(connection)

    assert (found.size, found.parts) == (0, ())
