"""The sealer as a part of the service: there where it is asked for, light until it starts."""

import pytest
import sqlalchemy as sa

from audit.ledger.trail import KEY, Trail
from shipworthy.audit.ledger.component import STOP_SECONDS, sealing_component
from shipworthy.audit.ledger.figures import FIGURES
from shipworthy.audit.ledger.settings import LedgerSettings
from shipworthy.audit.tables import BATCHES
from shipworthy.db import DbSettings
from shipworthy.settings import Secret


def test_there_is_none_without_a_database_or_where_it_is_off():
    """An application without a trail starts no thread for it."""
    named = DbSettings(url=Secret("sqlite:///app.db"))
    assert sealing_component(LedgerSettings(), DbSettings()) is None
    assert sealing_component(LedgerSettings(mode="off"), named) is None
    component = sealing_component(LedgerSettings(), named)
    assert (component.name, component.stop_seconds) == ("audit sealer", STOP_SECONDS)


@pytest.mark.slow
@pytest.mark.anyio
async def test_what_was_written_is_sealed_when_the_service_has_stopped(tmp_path):
    """Twice: a component may be started again."""
    trail = Trail(f"sqlite:///{tmp_path}/app.db")
    trail.install()
    (tmp_path / "key").write_text(KEY.reveal())
    (tmp_path / "key").chmod(0o600)
    component = sealing_component(
        LedgerSettings(key_path=str(tmp_path / "key"), interval_seconds=0.1),
        DbSettings(url=Secret(trail.url)),
    )

    for first in (1, 10):
        await component.start()
        trail.write(1, first=first)
        await component.stop()

    with trail.engine.connect() as connection:
        assert connection.scalar(sa.select(sa.func.sum(BATCHES.c.entries))) == 6
    assert not FIGURES.sealing
    trail.close()
