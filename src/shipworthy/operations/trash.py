"""The trash on the operations port: what was deleted, what a restore would do, and to do it."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from shipworthy.errors import Misuse
from shipworthy.operations.endpoint import Asked, Endpoint, told
from shipworthy.operations.recorded import (
    NAME_CHARACTERS,
    PAGE_LIMIT,
    RecordedApi,
    acting,
    body_of,
    choice_of,
    commanded,
    name_of,
    number_of,
    reading,
)
from shipworthy.redact import printable
from shipworthy.settings import Loaded

_MODES: Final = ("all", "without-conflicts", "with-needs")
# Of the largest that a column has.
_ID_DIGITS: Final = 19
_STATES: Final = ("open", "restored", "purged", "all")


def trash_endpoints(api: RecordedApi, settings: Loaded) -> tuple[Endpoint, ...]:
    """Return the endpoints about the trash of the database that `api` asks."""
    return (*_looking(api, settings), *_acting(api, settings))


def _looking(api: RecordedApi, settings: Loaded) -> tuple[Endpoint, ...]:
    async def listed(asked: Asked) -> Response:
        from shipworthy import records

        state = choice_of(asked.request, "state", _STATES)
        limit, before = number_of(asked.request, "limit", 50, PAGE_LIMIT), _before(asked.request)
        found = await api.work(
            "",
            lambda engine: records.deletions(
                engine,
                settings=settings.of(records.TrashSettings),
                states=_states(state),
                limit=limit,
                before=before,
            ),
        )
        return told({"deletions": [one.facts() for one in found]})

    async def shown(asked: Asked) -> Response:
        from shipworthy import records

        number = _id(asked.request.path_params["id"])
        one, changes = await api.work(
            "",
            lambda engine: records.deletion(
                engine, number, settings=settings.of(records.TrashSettings)
            ),
        )
        return told({**one.facts(), "changes": [change.facts() for change in changes]})

    async def planned(asked: Asked) -> Response:
        from shipworthy import records

        number = _id(asked.request.path_params["id"])
        plan = await api.work(
            "",
            lambda engine: records.plan_restore(
                engine, number, settings=settings.of(records.TrashSettings)
            ),
        )
        return told(plan.facts())

    return (
        reading("/api/trash", "What was deleted, the newest first", listed, "deletions"),
        reading("/api/trash/{id}", "One deletion, and what was done with it", shown),
        reading(
            "/api/trash/{id}/plan",
            "What a restore would do and what stands in its way; the database tries it",
            planned,
        ),
    )


def _acting(api: RecordedApi, settings: Loaded) -> tuple[Endpoint, ...]:
    async def restored(asked: Asked) -> Response:
        from shipworthy import records

        number = _id(asked.request.path_params["id"])
        body = body_of(await asked.json(optional=True), {"by", "mode", "accept_losses"})
        mode: Any = body.get("mode", "all")
        if mode not in _MODES:
            raise Misuse(f"'mode' is one of {', '.join(_MODES)}")
        losses = body.get("accept_losses", False)
        if not isinstance(losses, bool):
            raise Misuse("'accept_losses' is true or false")
        done = await api.work(
            name_of(body),
            lambda engine: records.restore(
                engine,
                number,
                mode=mode,
                accept_losses=losses,
                settings=settings.of(records.TrashSettings),
            ),
        )
        commanded(asked, "restore", f"deletion {number}: {done.rows} rows are back")
        return told(done.facts())

    async def undone(asked: Asked) -> Response:
        from shipworthy import records

        number = _id(asked.request.path_params["id"])
        body = body_of(await asked.json(optional=True), {"by"})
        removed = await api.work(
            name_of(body),
            lambda engine: records.undo_restore(
                engine, number, settings=settings.of(records.TrashSettings)
            ),
        )
        commanded(asked, "undo", f"deletion {number}: {removed} rows were removed again")
        return told({"deletion": number, "removed": removed})

    async def purged(asked: Asked) -> Response:
        from shipworthy import records

        number = _id(asked.request.path_params["id"])
        body = body_of(await asked.json(optional=True), {"by"})
        await api.work(
            name_of(body),
            lambda engine: records.purge(
                engine, number, settings=settings.of(records.TrashSettings)
            ),
        )
        commanded(asked, "purge", f"deletion {number} was purged")
        return told({"purged": [number]})

    async def held(asked: Asked) -> Response:
        from shipworthy import records

        number = _id(asked.request.path_params["id"])
        body = body_of(await asked.json(), {"by", "because"})
        because = body.get("because")
        if not isinstance(because, str) or len(because) > NAME_CHARACTERS:
            raise Misuse(
                f"'because' is a text of at most {NAME_CHARACTERS} characters; '' ends the hold"
            )
        await api.work(
            name_of(body),
            lambda engine: records.hold(
                engine, number, printable(because), settings=settings.of(records.TrashSettings)
            ),
        )
        commanded(asked, "hold", f"deletion {number} is {'on hold' if because else 'released'}")
        return told({"deletion": number, "hold": printable(because)})

    return (
        acting(
            "/api/trash/{id}/restore",
            "Put a deletion back, in one transaction",
            restored,
            {"mode": {"enum": list(_MODES)}, "accept_losses": {"type": "boolean"}},
        ),
        acting("/api/trash/{id}/undo", "Remove what a restore brought back", undone),
        acting("/api/trash/{id}/purge", "Have a deletion never come back", purged),
        acting(
            "/api/trash/{id}/hold",
            "Keep a deletion from being purged, or release it",
            held,
            {"because": {"type": "string", "maxLength": NAME_CHARACTERS}},
            needed=("because",),
        ),
    )


def _before(request: Request) -> int | None:
    given = request.query_params.get("before")
    return None if given is None else _id(given)


def _id(given: str) -> int:
    """Return the id of a deletion; raises `Misuse` for what can be none, however long it is."""
    if not (given.isascii() and given.isdigit() and len(given) <= _ID_DIGITS):
        raise Misuse("the id of a deletion is a number, as `GET /api/trash` lists it")
    return int(given)


def _states(state: str) -> Any:
    from shipworthy.records import OPEN_STATES, DeletionState

    match state:
        case "open":
            return OPEN_STATES
        case "restored":
            return (DeletionState.RESTORED,)
        case "purged":
            return (DeletionState.PURGED,)
        case _:
            return tuple(DeletionState)
