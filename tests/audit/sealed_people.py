"""A trail with people in it, sealed: what is archived, held and erased in tests."""

import sqlalchemy as sa

from audit.finality import is_soon_final
from audit.past_database import installed, run
from shipworthy.audit.archive import erase_archived
from shipworthy.audit.ledger.keys import begin_log, known_keys
from shipworthy.audit.ledger.note import PrivateKey
from shipworthy.audit.ledger.seal import LEASE, Sealer
from shipworthy.audit.ledger.verify import verify
from shipworthy.audit.personal import erase
from shipworthy.audit.retention import (
    RetentionWork,
    check_archives,
    retain,
)
from shipworthy.audit.retention_plan import RetentionLengths
from shipworthy.store import SqlLeases, hold_lease

PEOPLE = "CREATE TABLE people (id INTEGER PRIMARY KEY, email VARCHAR(50), city VARCHAR(50))"
# Everything sealed until now is old.
OLD = RetentionLengths(payload_seconds=0.000001, metadata_seconds=0, access_seconds=86_400)


class Trail:
    """A database with people in it, its trail, and the key that seals it."""

    def __init__(self, engine, folder):
        self.engine = engine
        self.folder = folder
        self.key = PrivateKey.generate("tests/log")
        with engine.begin() as connection:
            if not known_keys(connection):
                begin_log(connection, self.key.public)
        self.sealer = Sealer(engine, self.key)

    def seal(self):
        """Seal what there is, one batch."""
        assert is_soon_final(self.engine), "others on the server have kept the log from being final"
        with hold_lease(SqlLeases(self.engine), LEASE, seconds=30, wait_seconds=5) as held:
            self.sealer.forget()
            self.sealer.seal(held.lease)

    def retain(self, lengths=OLD, *, sealer=True, **options):
        """Run retention; what it says goes nowhere."""
        options.setdefault("progress", lambda sentence: None)
        options.setdefault("wait", lambda seconds: None)
        work = RetentionWork(
            folder=self.folder, sealer=self.sealer if sealer else None, by="ana", **options
        )
        return retain(self.engine, lengths, work)

    def problems(self):
        """Return what verification finds, of the log and of the archives."""
        with self.engine.connect() as connection:
            report = verify(connection, trusted=[self.key.public])
            return [
                *(finding.because for finding in report.findings),
                *check_archives(connection, self.folder, trusted=[self.key.public]),
            ]

    def count(self, table, *where):
        """Count rows."""
        with self.engine.connect() as connection:
            return connection.scalar(sa.select(sa.func.count()).select_from(table).where(*where))


def people(engine, folder):
    """Make the table of people, two in it, and its trail."""
    run(engine, PEOPLE)
    installed(engine, personal=("people.email = id",))
    run(engine, "INSERT INTO people VALUES (1, 'planted-one', 'x'), (2, 'planted-two', 'y')")
    run(engine, "UPDATE people SET email = 'planted-three' WHERE id = 1")
    return Trail(engine, folder)


def erased(trail, subject, **options):
    """Erase a person, from the archives too."""
    with trail.engine.begin() as connection:
        done = erase(
            connection, subject, reason="asked", by="ana", archives=trail.folder, **options
        )
    erase_archived(trail.folder, subject)
    return done
