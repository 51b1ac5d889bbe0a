"""The section `traces`."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final
from urllib.parse import unquote, urlsplit

from shipworthy.settings import Secret, duration, option, secret, section

# What OTLP over HTTP has for traces, where an endpoint names only the collector.
_PATH: Final = "/v1/traces"
# The packages of the extra `otel`.
_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.common")


@section("traces")
@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSettings:
    """Which traces are kept, and who gets them. Without an endpoint none are."""

    endpoint: str = option(
        "",
        "the OTLP/HTTP address of the collector, as http://collector:4318; '' for none, and then "
        "requests are not traced",
    )
    headers: Secret = secret(  # noqa: RUF009 - it makes a field
        "headers the collector asks for, as name=value,name=value; values may be percent-encoded"
    )
    # What research on services of our size found to be enough to see what is usual.
    sample_ratio: float = option(
        0.05,
        "the share of requests whose trace is kept though they went well and fast",
        minimum=0.0,
        maximum=1.0,
    )
    slow_seconds: float = duration(
        "1s", "from which time to the first byte of its answer on a request is kept; 0 for never"
    )
    trust_parent: bool = option(
        True,  # noqa: FBT003
        "whether the decision of a caller holds, as its traceparent tells it; else the ratio "
        "holds for its requests too",
    )
    asked_per_second: float = option(
        10.0,
        "how many traces of each worker are kept in a second because a caller asked for it, or "
        "because of a warning alone: who can send requests must not be able to send traces",
        minimum=0.0,
        maximum=10_000.0,
    )

    def refusals(self, environment: str) -> list[str]:
        """Return what could never be sent anywhere; it is refused everywhere."""
        del environment
        return [*self._problems()] if self.endpoint else []

    def _problems(self) -> Iterator[str]:
        yield from self._wrong_address()
        if not _installed():
            yield (
                "traces.endpoint is set and the packages that write spans are not installed: "
                "pip install 'shipworthy[otel]', or leave the endpoint empty"
            )
        if self.headers and self.sent_headers is None:
            yield (
                "traces.headers cannot be read as headers; write name=value,name=value, values "
                "percent-encoded where they hold a comma"
            )

    def _wrong_address(self) -> Iterator[str]:
        try:
            parts = urlsplit(self.endpoint)
            right = parts.scheme in {"http", "https"} and bool(parts.hostname)
            _ = parts.port
        except ValueError:
            right, parts = False, urlsplit("")
        if not right:
            yield "traces.endpoint is no http:// or https:// address, as http://collector:4318"
        elif parts.username is not None or parts.query or parts.fragment:
            yield (
                "traces.endpoint holds more than an address: put what the collector asks for into "
                "traces.headers"
            )

    @property
    def url(self) -> str:
        """The address that spans are posted to."""
        path = urlsplit(self.endpoint).path
        return self.endpoint if path.strip("/") else self.endpoint.rstrip("/") + _PATH

    @property
    def sent_headers(self) -> dict[str, str] | None:
        """The headers of each post, None where they cannot be read."""
        found: dict[str, str] = {}
        for pair in filter(None, (one.strip() for one in self.headers.reveal().split(","))):
            name, equals, value = pair.partition("=")
            name, value = name.strip(), unquote(value.strip())
            if not equals or not _is_token(name) or not value.isprintable() or not value.isascii():
                return None
            found[name] = value
        return found


def _is_token(name: str) -> bool:
    return name.isascii() and bool(name) and name.replace("-", "").replace("_", "").isalnum()


def _installed() -> bool:
    try:
        return all(find_spec(name) is not None for name in _NEEDED)
    except ModuleNotFoundError:  # of a package above it
        return False
