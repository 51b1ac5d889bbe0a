"""The trail on the operations port: what is captured, and who changed what."""

import dataclasses
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.operations.endpoint import Asked, Endpoint, told
from shipworthy.operations.recorded import PAGE_LIMIT, RecordedApi, instant_of, number_of, reading
from shipworthy.settings import Loaded

if TYPE_CHECKING:
    from sqlalchemy import Engine


def trail_endpoints(api: RecordedApi, settings: Loaded) -> tuple[Endpoint, ...]:
    """Return the endpoints about the trail of the database that `api` asks."""

    async def covered(_: Asked) -> Response:
        from shipworthy import audit

        found = await api.work(
            "", lambda engine: audit.check(engine, settings.of(audit.AuditSettings))
        )
        return told(
            {
                "ok": found.is_whole,
                "installed": found.installed,
                "tables": [dataclasses.asdict(table) for table in found.tables],
                "problems": found.problems,
                "gone": found.gone,
            }
        )

    async def entries(asked: Asked) -> Response:
        from shipworthy import audit

        query = asked.request.query_params
        since = instant_of(asked.request, "since", SYSTEM_CLOCK.wall()) or 0.0
        wanted = audit.LogFilter(
            table=query.get("table", ""),
            key=tuple(query.getlist("key")),
            actor=query.get("actor", ""),
            since_microseconds=int(since * 1_000_000),
            limit=number_of(asked.request, "limit", 50, PAGE_LIMIT),
        )

        def ask(engine: "Engine") -> list[Any]:
            with engine.connect() as connection:
                return audit.recent_entries(connection, wanted)

        found = await api.work("", ask)
        return told({"entries": [dataclasses.asdict(entry) for entry in found]})

    return (
        reading("/api/audit", "Which tables are captured, and which are not and why", covered),
        reading(
            "/api/audit/entries",
            "The latest changes: who changed what in which row; personal values are not shown",
            entries,
            "entries",
        ),
    )
