"""Django both ways: `asgi`, which raises a ValueError when asked for a lifespan, and `wsgi`."""

from collections.abc import AsyncIterator, Iterator

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from marks import Boom, note, until, wait

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="k", DEBUG=False)
django.setup()


def show(request: HttpRequest, item: int) -> HttpResponse:
    return HttpResponse(f"item {item}")


def boom(request: HttpRequest) -> HttpResponse:
    raise Boom("s3cret")


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one\n"
        await wait("go")
        yield b"two\n"

    return StreamingHttpResponse(parts())


async def slow(request: HttpRequest) -> HttpResponse:
    note("slow began")
    await wait("released")
    return HttpResponse("slow")


def sync_stream(request: HttpRequest) -> StreamingHttpResponse:
    def parts() -> Iterator[bytes]:
        yield b"one\n"
        until("go")
        yield b"two\n"

    return StreamingHttpResponse(parts())


def sync_slow(request: HttpRequest) -> HttpResponse:
    note("slow began")
    until("released")
    return HttpResponse("slow")


urlpatterns = [
    path("items/<int:item>", show),
    path("boom", boom),
    path("stream", stream),
    path("slow", slow),
    path("sync/stream", sync_stream),
    path("sync/slow", sync_slow),
]
asgi = ASGIHandler()
wsgi = WSGIHandler()
