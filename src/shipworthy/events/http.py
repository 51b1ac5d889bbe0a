"""The labels of HTTP: what comes in and what goes out are told apart by the same values."""

from http import HTTPStatus
from typing import Final

from shipworthy.events.labels import OTHER, OneOf

# A method nobody knows is `_other`, so that no client can make more of them.
HTTP_METHODS: Final = OneOf(
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"
)
# 499 is nginx's number for a client that left before it was answered; no other is as widely
# understood. `5xx` is a failure by a number of somebody's own: what stands in front of a service
# says 520 to 530 where that does not answer. `none` is a call that was never answered.
HTTP_STATUSES: Final = OneOf(
    *sorted({str(int(status)) for status in HTTPStatus} | {"499"}), "5xx", "none"
)
# OpenTelemetry's bounds for the seconds of a request: whatever else measures the same service can
# be laid beside ours.
HTTP_SECONDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0),
)


def method_label(method: str) -> str:
    """Return the value of the label for a method, which somebody may have invented."""
    return method if HTTP_METHODS.holds(method) else OTHER


def status_label(status: int) -> str:
    """Return the value of the label for a status, which somebody may have invented; 0 is none."""
    text = str(status) if status else "none"
    if HTTP_STATUSES.holds(text):
        return text
    return "5xx" if 500 <= status < 600 else OTHER
