"""Transports to hand to an httpx client, where nothing is installed for the whole process."""

from types import TracebackType
from typing import Self, final

import httpx
from typing_extensions import override

from shipworthy.outbound.targets import Outbound, standing
from shipworthy.outbound.transport import send, send_async


@final
class GuardedTransport(httpx.BaseTransport):
    """Guard the calls of an `httpx.Client`: `Client(transport=GuardedTransport())`.

    `inner` does the sending, `httpx.HTTPTransport()` when it is not given. Without an `outbound`
    of its own it shares the targets of the process.
    """

    def __init__(
        self, inner: httpx.BaseTransport | None = None, *, outbound: Outbound | None = None
    ) -> None:
        self._inner = inner or httpx.HTTPTransport()
        self._outbound = outbound

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response: httpx.Response = send(
            self._outbound or standing(), httpx, self._inner, request, self._inner.handle_request
        )
        return response

    @override
    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    @override
    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._inner.__exit__(exc_type, exc_value, traceback)

    @override
    def close(self) -> None:
        self._inner.close()


@final
class AsyncGuardedTransport(httpx.AsyncBaseTransport):
    """Guard the calls of an `httpx.AsyncClient`; the rest is as with `GuardedTransport`."""

    def __init__(
        self, inner: httpx.AsyncBaseTransport | None = None, *, outbound: Outbound | None = None
    ) -> None:
        self._inner = inner or httpx.AsyncHTTPTransport()
        self._outbound = outbound

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response: httpx.Response = await send_async(
            self._outbound or standing(),
            httpx,
            self._inner,
            request,
            self._inner.handle_async_request,
        )
        return response

    @override
    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    @override
    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._inner.__aexit__(exc_type, exc_value, traceback)

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()
