"""Writes of an application of ours: without a trail, and with one that knows the actor."""

from contextlib import ExitStack
from functools import partial

import sqlalchemy as sa
from capture_places import databases, place
from capture_work import Arm, declare

from shipworthy import actor
from shipworthy.audit import AuditSettings, bind, install


def _silent(_sentence: str) -> None:
    """Install says what it does; here nobody reads it."""


def arms(stack: ExitStack) -> dict[str, Arm]:
    """Return two arms for each database."""
    found = {}
    item = declare()
    for database in databases():
        engine, server = place(database, stack)
        item.metadata.create_all(engine)
        found[f"{database}, plain"] = Arm(engine=engine, item=item, server=server)
        engine, server = place(database, stack)
        item.metadata.create_all(engine)
        # The engine has one connection, so that its server's process is known; this takes two.
        installer = sa.create_engine(engine.url)
        install(installer, AuditSettings(), say=_silent)
        installer.dispose()
        stack.callback(bind(engine, service="benchmark"))
        found[f"{database}, captured"] = Arm(
            engine=engine, item=item, server=server, around=partial(actor, "ana")
        )
    return found
