"""The sealer of a database, by the settings of the service."""

from pathlib import Path
from typing import Final

import sqlalchemy as sa

from shipworthy.audit.ledger.anchors import Anchor, file_anchor, tell
from shipworthy.audit.ledger.figures import FIGURES
from shipworthy.audit.ledger.keys import find_key, open_to_others, origin_of
from shipworthy.audit.ledger.seal import Sealer, SealLimits
from shipworthy.audit.ledger.sealing import NothingToSeal, Sealing, SealRhythm
from shipworthy.audit.ledger.settings import LedgerSettings
from shipworthy.audit.tables import META
from shipworthy.db import DbSettings, file_of, own_engine, sync_url
from shipworthy.events import Event, Severity, emit, event
from shipworthy.store import LEASES

STATEMENT_SECONDS: Final = 3.0


@event(severity=Severity.WARNING)
class SealKeyOpen(Event):
    """Others than its owner may read the signing key: whoever can, can seal in our name."""

    path: str


def sealing_of(settings: LedgerSettings, url: str) -> Sealing:
    """Return the sealer of the database at `url`, which may name an async driver."""
    anchors: list[Anchor] = []
    if settings.anchor_log:
        anchors.append(tell)
    if settings.anchor_path:
        anchors.append(file_anchor(Path(settings.anchor_path)))

    return Sealing(
        lambda: _connect(url),
        lambda engine: _sealer(engine, settings),
        rhythm=SealRhythm(
            interval_seconds=settings.interval_seconds,
            heartbeat_seconds=settings.heartbeat_seconds,
            held_after_seconds=settings.held_after_seconds,
            anchor_seconds=settings.anchor_interval_seconds,
            recheck_entries=settings.recheck_entries,
        ),
        anchors=anchors,
        figures=FIGURES,
    )


def _connect(url: str) -> sa.Engine:
    """Return an engine of our own; raises `NothingToSeal` where no trail has begun."""
    # SQLite would make a file that is not there.
    found = sync_url(url)
    file = file_of(found)
    if file is not None and not file.exists():
        raise NothingToSeal
    engine = own_engine(
        found,
        name="ledger",
        # Shorter than the stop of its component, so that a lock of others holds no exit up.
        settings=DbSettings(leak_after_seconds=0.0, statement_seconds=STATEMENT_SECONDS),
        pool_size=1,
        max_overflow=1,
        pool_pre_ping=True,
    )
    try:
        _check_begun(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _check_begun(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        names = sa.inspect(connection)
        tables = names.has_table(META.name) and names.has_table(LEASES.name)
        if not tables or origin_of(connection) is None:
            raise NothingToSeal


def _sealer(engine: sa.Engine, settings: LedgerSettings) -> Sealer:
    path = Path(settings.key_path)
    if not settings.key and open_to_others(path):
        emit(SealKeyOpen, path=str(path))
    return Sealer(
        engine,
        find_key(settings.key.reveal(), path),
        key_path=path,
        limits=SealLimits(entries=settings.batch_entries, bytes=settings.batch_bytes),
    )
