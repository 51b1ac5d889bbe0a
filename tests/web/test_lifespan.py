import asyncio
from contextlib import asynccontextmanager
from functools import partial

import pytest
from django.core.handlers.asgi import ASGIHandler
from fastapi import FastAPI

from shipworthy.errors import StartFailed
from shipworthy.lifecycle import Component, Lifecycle, LifecycleSettings, Phase
from shipworthy.web import AppLifespan, LifespanUnsupported, speak_lifespan
from shipworthy.web.lifespan import AppStopFailed

pytestmark = pytest.mark.anyio


def fastapi_app(before=None, after=None) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app):
        if before is not None:
            await before()
        yield {"pool": "open"}
        if after is not None:
            await after()

    return FastAPI(lifespan=lifespan)


async def fail():
    raise ConnectionError("no route to host")


async def test_an_application_starts_and_stops_with_its_state():
    """What start-up leaves in the state is in the mapping the server hands on."""
    stopped = asyncio.Event()

    async def stop():
        stopped.set()

    lifespan = AppLifespan(fastapi_app(after=stop))
    lifespan.state = state = {}

    await lifespan.start()
    assert state == {"pool": "open"}
    assert not lifespan.task().done()
    await lifespan.stop()

    assert stopped.is_set()
    assert lifespan.task().done()


async def test_it_may_live_again_after_it_has_stopped():
    """Test clients start and stop an application for each test."""
    starts = []

    async def start():
        starts.append(1)

    lifespan = AppLifespan(fastapi_app(before=start))
    lifespan.state = {}
    for _ in range(2):
        await lifespan.start()
        await lifespan.stop()

    assert len(starts) == 2


async def test_a_start_that_fails_says_why_in_one_line():
    """L32: Starlette reports a traceback; what happened is its last line."""
    with pytest.raises(StartFailed, match=r"^ConnectionError: no route to host$"):
        await AppLifespan(fastapi_app(before=fail)).start()


async def test_an_exception_after_the_first_message_was_read_is_a_failed_start():
    """Whoever reads the message knows the protocol."""

    async def app(scope, receive, send):
        await receive()
        raise ConnectionError("no route to host")

    with pytest.raises(StartFailed, match="ConnectionError: no route to host"):
        await AppLifespan(app).start()


async def returns(scope, receive, send):
    return


async def asserts(scope, receive, send):
    assert scope["type"] == "http"


async def answers(scope, receive, send):
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.Event().wait()


@pytest.mark.parametrize("app", [returns, asserts, answers, ASGIHandler.__call__])
async def test_an_application_that_does_not_know_the_protocol_is_served_without(app, heard):
    """L32: Django raises, others return, assert, or answer as if they were asked by HTTP."""
    if app is ASGIHandler.__call__:
        # The handler needs no settings to say that it does not speak the protocol.
        app = ASGIHandler.__new__(ASGIHandler)
    lifespan = AppLifespan(app)

    await lifespan.start()
    await lifespan.stop()

    assert not lifespan.supported
    assert [type(fact) for fact in heard] == [LifespanUnsupported]
    assert lifespan.task().done()


async def test_a_start_that_is_called_off_ends_the_application_s_task():
    """Its `finally` blocks run; nothing of it goes on."""
    entered, cleaned = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send):
        await receive()
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    lifespan = AppLifespan(app)
    start = asyncio.create_task(lifespan.start())
    await entered.wait()
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start

    await asyncio.wait_for(cleaned.wait(), 5)


async def test_a_shutdown_that_fails_says_why():
    """By the protocol's word or by an exception."""

    async def raises(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise ConnectionError("gone")

    polite, rude = AppLifespan(fastapi_app(after=fail)), AppLifespan(raises)
    polite.state = {}
    await polite.start()
    await rude.start()

    with pytest.raises(AppStopFailed, match=r"^ConnectionError: no route to host$"):
        await polite.stop()
    with pytest.raises(AppStopFailed, match="ConnectionError: gone"):
        await rude.stop()


async def test_a_lifespan_that_ended_while_the_service_ran_is_told_at_the_stop():
    """Its exception is not lost."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise ConnectionError("gone")

    lifespan = AppLifespan(app)
    await lifespan.start()
    await asyncio.wait({lifespan.task()})

    with pytest.raises(AppStopFailed, match="ConnectionError: gone"):
        await lifespan.stop()


async def test_a_task_that_goes_on_after_its_last_word_is_ended():
    """The word was given; nothing of the application may stay behind."""

    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        await asyncio.Event().wait()

    lifespan = AppLifespan(app)
    await lifespan.start()
    await lifespan.stop()

    assert lifespan.task().cancelled()


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, ConnectionError])
async def test_what_ends_the_last_step_before_ready_stops_what_was_started(error):
    """SIGTERM while the application is asked for its probes: it still gets its shutdown."""
    diary = []

    async def note(word):
        diary.append(word)

    async def interrupted():
        raise error

    life = Lifecycle(LifecycleSettings())
    life.add(Component("pool", partial(note, "start"), partial(note, "stop")))
    sent = []

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message)

    raised = None
    try:
        await speak_lifespan(
            life, receive, send, before_ready=interrupted, before_stop=partial(note, "no")
        )
    except BaseException as happened:
        raised = happened

    assert type(raised) is error
    assert diary == ["start", "stop"]
    assert sent == []
    assert life.phase is Phase.STOPPED
