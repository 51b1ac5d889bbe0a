"""What `run` would do to an app, found out without serving it: `run --dry-run`."""

import gc
import sys
from typing import Any

from shipworthy import db, outbound
from shipworthy.db import DbSettings
from shipworthy.lifecycle import read_limits
from shipworthy.outbound import OutboundSettings
from shipworthy.redact import redact
from shipworthy.settings import Loaded
from shipworthy.web import counted_twice, framework_of, guards, undecided, unsealed


def survey(app: Any, settings: Loaded) -> dict[str, Any]:
    """Describe the imported app: framework, engines, guards with their modes, what is not done."""
    framework = framework_of(app)
    engines = _engines()
    return {
        "framework": framework.name,
        "framework_version": framework.version,
        "interface": framework.kind,
        "engines": engines,
        "limits": read_limits().lines(),
        "guards": [
            *({"guard": name, "mode": mode} for name, mode in guards(settings)),
            {"guard": "database", "mode": settings.of(DbSettings).mode},
            {"guard": "outbound", "mode": settings.of(OutboundSettings).mode},
        ],
        "counted_twice": list(counted_twice(app)),
        "undecided": [*undecided(settings), *unsealed(settings)],
        "not_done": [
            *_not_done(framework.kind, engines),
            *(db.not_reached() if settings.of(DbSettings).mode != "off" else ()),
            *outbound.not_reached(),
        ],
    }


def _engines() -> list[dict[str, str]]:
    """Find the SQLAlchemy engines that importing the app has made; later ones are not seen here."""
    sqlalchemy = sys.modules.get("sqlalchemy.engine")
    if sqlalchemy is None:
        return []
    from shipworthy.db import driver_known

    # By its type: a lazy object of a framework, asked for its class, makes itself, or fails to.
    found = [one for one in gc.get_objects() if issubclass(type(one), sqlalchemy.Engine)]
    return sorted(
        (
            {
                "url": redact(engine.url.render_as_string(hide_password=True)),
                "driver": engine.driver,
                "pool": type(engine.pool).__name__,
                "cut_at_deadline": "yes" if driver_known(engine.dialect) else "no: unknown driver",
            }
            for engine in found
        ),
        key=lambda engine: engine["url"],
    )


def _not_done(kind: str, engines: list[dict[str, str]]) -> list[str]:
    """Say what cannot be done safely to an app nobody wants to change."""
    unawaited = "tasks made with asyncio.create_task and not awaited are not waited for at shutdown"
    threads = "a thread cannot be ended: one that outlives the grace period is named, then left"
    sentences = [unawaited, threads]
    if kind == "wsgi":
        sentences.append("a WSGI handler runs in a thread, so it cannot be cancelled either")
    if any(engine["cut_at_deadline"] != "yes" for engine in engines):
        sentences.append("calls of a driver we do not know are not cut at their deadline")
    return sentences
