"""How long calls to other services take: told to whoever counts, and to how many addresses."""

import weakref
from collections.abc import Callable

from shipworthy.events import (
    HTTP_METHODS,
    HTTP_SECONDS,
    HTTP_STATUSES,
    Declared,
    FirstNames,
    Metric,
    method_label,
    status_label,
)

# A service that calls what its users name, as webhooks, calls addresses without end.
_ADDRESSES = Declared(50)

CALL_SECONDS = Metric(
    "http_client_request_duration_seconds",
    "histogram",
    "Seconds from sending a request to another service to the head of its answer, each attempt.",
    {
        "server_address": _ADDRESSES,
        "http_request_method": HTTP_METHODS,
        "http_response_status_code": HTTP_STATUSES,
    },
    HTTP_SECONDS,
)

# Hears the values of the labels, in their order, and the seconds.
Observer = Callable[[str, str, str, float], None]

_addresses = FirstNames(_ADDRESSES.most)
_observers: tuple["weakref.ref[Observer]", ...] = ()


def observe_calls(observer: Observer) -> None:
    """Tell `observer` of every call from now on, for as long as somebody else holds it."""
    global _observers  # noqa: PLW0603 - the libraries whose calls are seen are one for the process
    living = tuple(known for known in _observers if known() is not None)
    _observers = (*living, weakref.ref(observer))


def call_ended(address: str, method: str, status: int, seconds: float) -> None:
    """Tell how long a call took; `status` is 0 where no answer came.

    The first 50 addresses of a process keep their names, all others are one.
    """
    if not _observers:
        return
    labels = _addresses.of(address), method_label(method), status_label(status)
    for reference in _observers:
        observer = reference()
        if observer is not None:
            observer(*labels, seconds)
