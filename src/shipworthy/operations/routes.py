"""The endpoints of this room: probes, health, metrics, the index page and the first of `/api`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from shipworthy import __version__
from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.events import emit
from shipworthy.lifecycle import Answer
from shipworthy.operations.access import Audience
from shipworthy.operations.actions import Action, Performer, action_endpoints
from shipworthy.operations.breakers import breaker_endpoints
from shipworthy.operations.endpoint import Asked, Endpoint, Reply, refusal, schema_of, told
from shipworthy.operations.facts import Operated, ServiceFacts
from shipworthy.operations.health import HEALTH_JSON, HEALTH_SCHEMA, health_document, judge_status
from shipworthy.operations.occurrences import OperatorCommanded
from shipworthy.operations.openapi import openapi_document
from shipworthy.operations.page import index_page, stylesheet
from shipworthy.operations.policy import policy_endpoints
from shipworthy.operations.security import security_endpoints
from shipworthy.settings import ShownValue
from shipworthy.telemetry import exposition, negotiated

_TEXT = "text/plain"
_A_TEXT = {"type": "string"}
_AGAIN = {"retry-after": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReply:
    """The service and the judgement `/health` makes of it."""

    status: str
    service: ServiceFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLifecycle:
    """Where one worker stands, and its own health report."""

    pid: int
    generation: int
    phase: str
    blocked: str
    health: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleReply:
    """Where the service stands between start and end, and what its checks say."""

    phase: str
    live: Answer
    ready: Answer
    startup: Answer
    workers: tuple[WorkerLifecycle, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingReply:
    """One setting in force; `value` is as people may see it, secrets hidden."""

    key: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReply:
    """Every setting in force."""

    settings: tuple[SettingReply, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsReply:
    """The requests in flight, oldest first."""

    requests: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandReply:
    """What happens now, in a sentence."""

    detail: str


def own_endpoints(
    service: Operated, values: Sequence[ShownValue], actions: Sequence[Action] = ()
) -> tuple[Endpoint, ...]:
    """Return the endpoints of this room, in the order in which people read them."""
    performer = Performer(actions)
    return (
        _probe("/livez", "Live: 503 asks for a restart", lambda: service.facts().live),
        _probe("/readyz", "Ready: 503 asks for no traffic", lambda: service.facts().ready),
        _probe(
            "/startupz", "Started: 503 until the start-up is over", lambda: service.facts().startup
        ),
        *_pages(service, performer),
        *_api(service, values),
        *action_endpoints(performer),
    )


def _probe(path: str, summary: str, ask: Callable[[], Answer]) -> Endpoint:
    async def answer(asked: Asked) -> Response:
        said = ask()
        text = "ok" if said.ok else "not ok"
        if asked.detailed and said.because:
            text += f": {said.because}"
        return Response(
            f"{text}\n",
            200 if said.ok else 503,
            headers={} if said.ok else _AGAIN,
            media_type=_TEXT,
        )

    return Endpoint(
        path=path,
        summary=summary,
        audience=Audience.PROBE,
        replies=(
            Reply(says="Yes.", media=_TEXT, schema=_A_TEXT),
            Reply(status=503, says="No.", media=_TEXT, schema=_A_TEXT),
        ),
        answer=answer,
    )


def _pages(service: Operated, performer: Performer) -> tuple[Endpoint, ...]:
    async def health(asked: Asked) -> Response:
        document = health_document(
            service.facts(), now_wall=SYSTEM_CLOCK.wall(), detailed=asked.detailed
        )
        failed = document["status"] == "fail"
        response = told(document, status=503 if failed else 200, media=HEALTH_JSON)
        response.headers.update(_AGAIN if failed else {})
        return response

    async def metrics(asked: Asked) -> Response:
        form = negotiated(",".join(asked.request.headers.getlist("accept")))
        # The charset is part of the format's own type, so it is written out and not added.
        headers = {"content-type": form.value, "vary": "accept"}
        return Response(exposition(await service.metrics(), form), headers=headers)

    async def index(asked: Asked) -> Response:
        page = index_page(
            service.facts(),
            asked.endpoints,
            actions=performer.facts(),
            here=str(asked.request.base_url).rstrip("/"),
            now_wall=SYSTEM_CLOCK.wall(),
            detailed=asked.detailed,
        )
        return Response(page, media_type="text/html")

    async def style(_: Asked) -> Response:
        return Response(stylesheet(), media_type="text/css")

    return (
        Endpoint(
            path="/health",
            summary="The whole health, check by check",
            audience=Audience.STATUS,
            replies=(
                Reply(says="Pass, or warn.", media=HEALTH_JSON, schema=HEALTH_SCHEMA),
                Reply(status=503, says="Fail.", media=HEALTH_JSON, schema=HEALTH_SCHEMA),
            ),
            answer=health,
        ),
        Endpoint(
            path="/metrics",
            summary="The metrics of all processes, for Prometheus",
            audience=Audience.SCRAPE,
            replies=(
                Reply(
                    says="The Prometheus text format; OpenMetrics 1.0, with exemplars, where the "
                    "scraper prefers it.",
                    media=_TEXT,
                    schema=_A_TEXT,
                ),
            ),
            answer=metrics,
        ),
        Endpoint(
            path="/",
            summary="This page",
            audience=Audience.STATUS,
            replies=(Reply(says="A page.", media="text/html", schema=_A_TEXT),),
            answer=index,
        ),
        Endpoint(
            path="/style.css",
            summary="The style sheet of this page",
            audience=Audience.STATUS,
            replies=(Reply(says="A style sheet.", media="text/css", schema=_A_TEXT),),
            answer=style,
        ),
    )


def _api(service: Operated, values: Sequence[ShownValue]) -> tuple[Endpoint, ...]:
    async def status(_: Asked) -> Response:
        facts = service.facts()
        return told(StatusReply(status=judge_status(facts), service=facts))

    async def lifecycle(_: Asked) -> Response:
        facts = service.facts()
        workers = tuple(
            WorkerLifecycle(
                pid=worker.pid,
                generation=worker.generation,
                phase=worker.phase,
                blocked=worker.blocked,
                health=worker.health,
            )
            for worker in facts.workers
        )
        return told(
            LifecycleReply(
                phase=facts.phase,
                live=facts.live,
                ready=facts.ready,
                startup=facts.startup,
                workers=workers,
            )
        )

    async def config(_: Asked) -> Response:
        settings = tuple(
            SettingReply(key=value.key, value=value.shown, origin=value.origin) for value in values
        )
        return told(ConfigReply(settings=settings))

    async def requests(_: Asked) -> Response:
        return told(RequestsReply(requests=await service.requests()))

    async def drain(asked: Asked) -> Response:
        sentence = await service.command("drain")
        emit(OperatorCommanded, command="drain", by=asked.by, client=asked.client, outcome=sentence)
        return told(CommandReply(detail=sentence), status=202)

    async def restart(asked: Asked) -> Response:
        sentence = await service.command("restart")
        emit(
            OperatorCommanded, command="restart", by=asked.by, client=asked.client, outcome=sentence
        )
        return told(CommandReply(detail=sentence), status=202)

    async def openapi(asked: Asked) -> Response:
        return told(openapi_document(asked.endpoints, version=__version__))

    return (
        Endpoint(
            path="/api/status",
            summary="What runs, and how it is",
            replies=(Reply(says="The service.", schema=schema_of(StatusReply)),),
            answer=status,
        ),
        Endpoint(
            path="/api/lifecycle",
            summary="Phase, answers to the probes, and every worker's health report",
            replies=(Reply(says="The lifecycle.", schema=schema_of(LifecycleReply)),),
            answer=lifecycle,
        ),
        Endpoint(
            path="/api/requests",
            summary="The requests in flight, oldest first",
            replies=(Reply(says="The requests.", schema=schema_of(RequestsReply)),),
            answer=requests,
        ),
        *breaker_endpoints(service),
        *security_endpoints(service),
        *policy_endpoints(service),
        Endpoint(
            path="/api/config",
            summary="Every setting in force, with its origin",
            replies=(Reply(says="The settings.", schema=schema_of(ConfigReply)),),
            answer=config,
        ),
        Endpoint(
            path="/api/drain",
            method="POST",
            summary="Begin to drain: finish what was begun, then stop",
            replies=(
                Reply(status=202, says="The drain has begun.", schema=schema_of(CommandReply)),
            ),
            answer=drain,
        ),
        Endpoint(
            path="/api/restart",
            method="POST",
            summary="Replace every worker by one with the code of now, one after the other",
            replies=(
                Reply(status=202, says="The first is replaced.", schema=schema_of(CommandReply)),
                refusal(409, "The service drains, so nobody is started any more."),
            ),
            answer=restart,
        ),
        Endpoint(
            path="/api/openapi.json",
            summary="This description",
            replies=(Reply(says="An OpenAPI 3.1 document.", schema={"type": "object"}),),
            answer=openapi,
        ),
    )
