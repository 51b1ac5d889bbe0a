"""Sealing as a component of the service: light until it starts."""

import asyncio
from typing import TYPE_CHECKING, Final

from shipworthy.audit.ledger.settings import LedgerSettings
from shipworthy.db import DbSettings
from shipworthy.lifecycle import Component

if TYPE_CHECKING:
    from shipworthy.audit.ledger.sealing import Sealing

STOP_SECONDS: Final = 5.0


def sealing_component(settings: LedgerSettings, databases: DbSettings) -> Component | None:
    """Return the sealer as a component; None where it is off or no database is named."""
    url = settings.url.reveal() or databases.url.reveal()
    if settings.mode == "off" or not url:
        return None
    sealing: list[Sealing] = []

    async def start() -> None:
        from shipworthy.audit.ledger.service import sealing_of

        # One for each life: a thread is started once.
        sealing[:] = [sealing_of(settings, url)]
        sealing[0].start()

    async def stop() -> None:
        # It has its own bound, within that of the component.
        await asyncio.to_thread(sealing[0].stop, seconds=STOP_SECONDS - 0.5)

    return Component("audit sealer", start, stop, stop_seconds=STOP_SECONDS)
