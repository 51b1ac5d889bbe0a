"""Verify the log: whether all that was sealed is still there, in its order, as it was.

Two passes, neither of which holds more than a chunk: over the batches as a log, against what is
signed in the database and outside it; then over the entries, against their batches. It takes no
lock, and others may write and seal meanwhile.
"""

from collections.abc import Sequence

import sqlalchemy as sa

from shipworthy.audit.ledger.findings import VerifyReport
from shipworthy.audit.ledger.note import Note, PublicKey
from shipworthy.audit.ledger.reading import reader_for
from shipworthy.audit.ledger.verify_entries import verify_entries
from shipworthy.audit.ledger.verify_log import verify_log


def verify(
    connection: sa.Connection,
    *,
    trusted: Sequence[PublicKey] = (),
    external: Sequence[Note] = (),
) -> VerifyReport:
    """Compare what is in the log with what was sealed and signed.

    `trusted` are keys that the reader knows from elsewhere; without any, those that the database
    names are believed, and a note says so. `external` are checkpoints that were kept outside: with
    them a log that was sealed again or cut is found though the database agrees with itself.
    """
    reader, report = reader_for(connection), VerifyReport()
    facts = verify_log(connection, report, trusted=trusted, external=external)
    verify_entries(connection, reader, report, facts)
    return report
