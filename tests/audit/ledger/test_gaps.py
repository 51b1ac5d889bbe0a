"""An entry that comes late, with a number that was passed already, is sealed all the same."""

import pytest
import sqlalchemy as sa

from audit.ledger.trail import KEY
from shipworthy.audit.ledger.gaps import recent_gaps
from shipworthy.audit.ledger.proof import check_proof
from shipworthy.audit.ledger.prove import prove
from shipworthy.audit.ledger.verify import verify
from shipworthy.audit.tables import BATCHES, ENTRIES

pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite", "mariadb_url"])
def late(request, tmp_path):
    """A trail where the number is the position, and an entry that is held back."""
    from audit.ledger.conftest import _trail

    for trail in _trail(request, tmp_path, request.param):
        trail.write(3)
        trail.unguarded()
        with trail.engine.begin() as connection:
            held = dict(
                connection.execute(sa.select(ENTRIES).where(ENTRIES.c.seq == 5)).mappings().one()
            )
            connection.execute(sa.delete(ENTRIES).where(ENTRIES.c.seq == 5))
        yield trail, held


def verified(trail):
    with trail.engine.connect() as connection:
        return verify(connection, trusted=[KEY.public])


@pytest.mark.parametrize("anew", [False, True])
def test_it_is_in_a_later_batch_which_says_so(late, anew):
    """By a sealer that knows the gap, and by one that reads it from the lists."""
    trail, held = late
    sealer = trail.sealer()
    with trail.lease() as lease:
        first = sealer.seal(lease)
        assert (first.header.entries, first.header.late) == (8, 0)
        with trail.engine.begin() as connection:
            assert recent_gaps(connection, 1) == [(5, 5)]
            connection.execute(sa.insert(ENTRIES).values(held))
        report = verified(trail)
        assert (report.findings, report.unsealed) == ([], 1)

        second = (trail.sealer() if anew else sealer).seal(lease)
    assert (second.header.entries, second.header.late) == (1, 1)
    assert second.header.to == first.header.to
    assert verified(trail).findings == []
    with trail.engine.connect() as connection:
        assert recent_gaps(connection, 2) == []
        assert check_proof(prove(connection, 5), [KEY.public]).header.number == 2

    trail.execute(sa.update(ENTRIES).where(ENTRIES.c.seq == 5).values(op="T"))
    assert [(it.kind, it.batch, it.seq) for it in verified(trail).findings] == [
        ("entry changed", 2, 5)
    ]


def test_a_list_that_cannot_be_read_is_no_reason_to_fail(late):
    trail, _ = late
    trail.seal()
    trail.execute(sa.update(BATCHES).values(leaves="nothing"))
    with trail.engine.connect() as connection:
        assert recent_gaps(connection, 1) == []
