"""The hook of `run`: calls of httpx and requests are guarded, whenever a client was made."""

import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial, wraps
from types import ModuleType
from typing import Any, Final, final

from shipworthy.arrivals import Arrivals
from shipworthy.events import Event, Severity, emit, event
from shipworthy.outbound.settings import OutboundSettings
from shipworthy.outbound.targets import Outbound, TargetStatistics, stand
from shipworthy.resilience import ResilienceSettings

# Clients with a way of their own to the network; we cannot guard what they send.
_OTHERS = ("aiohttp", "botocore", "grpc", "httplib2", "niquests", "pycurl", "tornado.httpclient")


@event(severity=Severity.INFO)
class CallsGuarded(Event):
    """The calls of a library are guarded from now on."""

    library: str
    mode: str


@event(severity=Severity.WARNING)
class CallsUnguarded(Event):
    """Calls that could not be reached are made without deadline, breaker and trace headers."""

    what: str


@final
class Installed:
    """What `install` has done; safe to ask from any thread."""

    def __init__(self, outbound: Outbound) -> None:
        self.outbound = outbound
        self.on = True
        self._seams: list[_Seam] = []
        self._told: set[str] = set()
        self._arrivals = Arrivals(_SEAMS, self._reach)

    @property
    def reached(self) -> tuple[str, ...]:
        """The libraries whose calls are guarded; one imported later comes with its import."""
        return tuple(sorted({seam.library for seam in self._seams}))

    def not_reached(self) -> tuple[str, ...]:
        """Say, a sentence each, which calls of what is imported by now are not guarded."""
        return tuple(sorted(_strangers()))

    def statistics(self) -> tuple[TargetStatistics, ...]:
        """Return what each target has seen."""
        return self.outbound.statistics()

    def begin(self) -> None:
        """Reach what is imported already, and wait for the rest."""
        self._arrivals.begin()
        self.tell()

    def tell(self) -> None:
        """State which calls are not guarded, each once; again when more has been imported."""
        for what in self.not_reached():
            if what not in self._told:
                self._told.add(what)
                emit(CallsUnguarded, what=what)

    def undo(self) -> tuple[str, ...]:
        """Take everything back; return what stays because others have wrapped it since.

        What stays does nothing any more but call on.
        """
        self.on = False
        self._arrivals.end()
        return tuple(seam.place for seam in self._seams if not seam.close())

    def _reach(self, library: ModuleType) -> None:
        name = library.__name__
        try:
            self._seams += [_Seam(name, *found, self) for found in _SEAMS[name](library)]
        except Exception as error:  # noqa: BLE001 - the app's own import must not fail for us
            emit(CallsUnguarded, what=f"{name} is not as we know it: {error!r}")
        else:
            emit(CallsGuarded, library=name, mode=self.outbound.settings.mode)


_lock = threading.Lock()
_installed: Installed | None = None


def install(
    settings: OutboundSettings | None = None, resilience: ResilienceSettings | None = None
) -> Installed | None:
    """Guard what httpx and requests send in this process; return what was done.

    Neither is imported by this: one that is not imported yet is reached when it is. Installing
    again under the same settings changes nothing; under others, these hold from now on, and what
    was known of the targets is forgotten. Returns None, and takes an earlier one back, when the
    mode is `off`.
    """
    global _installed  # noqa: PLW0603 - the classes that are patched are one for the process
    settings = settings or OutboundSettings(mode="enforce")
    with _lock:
        if settings.mode == "off":
            _take_back()
            return None
        if _installed is None:
            _installed = Installed(Outbound(settings, resilience))
            stand(_installed.outbound)
            _installed.begin()
        elif not _installed.outbound.goes_by(settings, resilience):
            _installed.outbound = Outbound(settings, resilience)
            stand(_installed.outbound)
        return _installed


def uninstall() -> tuple[str, ...]:
    """Take back what `install` did; return what stays in place, without effect."""
    with _lock:
        return _take_back()


def not_reached() -> tuple[str, ...]:
    """Say, a sentence each, which calls of what is imported by now are not guarded."""
    return () if _installed is None else _installed.not_reached()


def tell_not_reached() -> None:
    """State which calls are not guarded, each once; again when more has been imported."""
    if _installed is not None:
        _installed.tell()


def sees_calls() -> bool:
    """Say whether what httpx and requests send in this process is seen, whoever it goes to."""
    return _installed is not None


def _take_back() -> tuple[str, ...]:
    global _installed
    gone, _installed = _installed, None
    if gone is None:
        return ()
    stand(None)
    return gone.undo()


# What replaces a method: takes the original, returns what is called in its place.
_Make = Callable[[Callable[..., Any], Installed], Callable[..., Any]]
_Found = tuple[type[Any], str, _Make]


def _httpx_seams(library: ModuleType) -> Iterator[_Found]:
    from shipworthy.outbound.transport import send, send_async

    def sync(original: Callable[..., Any], installed: Installed) -> Callable[..., Any]:
        @wraps(original)
        def handle_request(transport: Any, request: Any) -> Any:
            if not installed.on:
                return original(transport, request)
            inner = partial(original, transport)
            return send(installed.outbound, library, transport, request, inner)

        return handle_request

    def asynchronous(original: Callable[..., Any], installed: Installed) -> Callable[..., Any]:
        @wraps(original)
        async def handle_async_request(transport: Any, request: Any) -> Any:
            if not installed.on:
                return await original(transport, request)
            inner = partial(original, transport)
            return await send_async(installed.outbound, library, transport, request, inner)

        return handle_async_request

    yield library.HTTPTransport, "handle_request", sync
    yield library.AsyncHTTPTransport, "handle_async_request", asynchronous


def _requests_seams(library: ModuleType) -> Iterator[_Found]:
    from shipworthy.outbound.requests import send

    def adapter(original: Callable[..., Any], installed: Installed) -> Callable[..., Any]:
        @wraps(original)
        def sending(  # noqa: PLR0917 - the signature it takes the place of
            adapter: Any,
            request: Any,
            stream: bool = False,  # noqa: FBT001, FBT002
            timeout: Any = None,
            verify: Any = True,  # noqa: FBT002
            cert: Any = None,
            proxies: Any = None,
        ) -> Any:
            def inner(request: Any, *, timeout: Any) -> Any:
                return original(adapter, request, stream, timeout, verify, cert, proxies)

            if not installed.on:
                return inner(request, timeout=timeout)
            return send(installed.outbound, adapter, request, inner, stream=stream, timeout=timeout)

        return sending

    yield library.adapters.HTTPAdapter, "send", adapter


_SEAMS: Final[dict[str, Callable[[ModuleType], Iterator[_Found]]]] = {
    "httpx": _httpx_seams,
    "httpx2": _httpx_seams,
    "requests": _requests_seams,
}


class _Seam:
    """One method of one class, replaced."""

    def __init__(
        self, library: str, owner: type[Any], name: str, make: _Make, installed: Installed
    ) -> None:
        self.library = library
        self.place = f"{owner.__module__}.{owner.__qualname__}.{name}"
        self._owner = owner
        self._name = name
        self._original = owner.__dict__[name]
        self._ours = make(self._original, installed)
        setattr(owner, name, self._ours)

    def close(self) -> bool:
        """Put the original back, unless somebody has replaced ours in turn."""
        if self._owner.__dict__[self._name] is not self._ours:
            return False
        setattr(self._owner, self._name, self._original)
        return True


# What others derive from to send in a way of their own, and what we reach.
_WAYS = (
    ("httpx", "BaseTransport", "HTTPTransport"),
    ("httpx", "AsyncBaseTransport", "AsyncHTTPTransport"),
    ("httpx2", "BaseTransport", "HTTPTransport"),
    ("httpx2", "AsyncBaseTransport", "AsyncHTTPTransport"),
    ("requests.adapters", "BaseAdapter", "HTTPAdapter"),
)


def _strangers() -> Iterator[str]:
    for name in _OTHERS:
        if name in sys.modules:
            yield f"{name} has a way of its own to the network: its calls are not guarded"
    for name, base, reached in _WAYS:
        library = sys.modules.get(name)
        if library is None:
            continue
        known = getattr(library, reached)
        for cls in _below(getattr(library, base)):
            if not issubclass(cls, known) and cls.__module__.split(".")[0] not in _OURS:
                yield (
                    f"{cls.__module__}.{cls.__qualname__} sends in a way of its own: calls through "
                    f"it are guarded only where it hands them on to {name}.{reached}"
                )


_OURS = ("httpx", "httpx2", "requests", "shipworthy")


def _below(cls: type[Any]) -> set[type[Any]]:
    direct = set(cls.__subclasses__())
    return direct.union(*map(_below, direct))
