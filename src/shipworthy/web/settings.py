"""The settings of the line of guards: sections `web` and `idempotency`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from shipworthy.admission import LimitsSettings
from shipworthy.settings import Loaded, duration, option, section
from shipworthy.telemetry import TraceSettings
from shipworthy.web.admission_settings import AdmissionSettings
from shipworthy.web.body_settings import BodySettings
from shipworthy.web.browser_settings import CspSettings, CsrfSettings, HeadersSettings
from shipworthy.web.host_settings import HostSettings, HttpsSettings

_PATH = re.compile(r"/[^\s?#]*")
_METHOD = re.compile(r"[A-Z]+")
_HEADER = re.compile(r"[a-z0-9-]+")


@section("web")
@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """What stands between the server and the application."""

    access_log: bool = option(default=True, help="whether each request writes a line")
    # Some 300 KB a second of each worker, which a disk and a collector take.
    access_full: int = option(
        1000,
        "up to how many lines of requests a second a worker writes each; 0 for all, however many",
        minimum=0,
    )
    access_one_in: int = option(
        10, "of how many requests beyond that one has a line, which says so", minimum=2
    )
    access_slow_seconds: float = duration(
        "1s", "what took so long always has its line, as what ended with 500 or above has"
    )
    problems: Literal["off", "report", "enforce"] = option(
        "enforce",
        "answer unhandled exceptions with an RFC 9457 problem; report only logs them, off does "
        "not look at the application's answers either",
    )
    validation_input: Literal["show", "secrets", "hide"] = option(
        "secrets",
        "what a 422 with pydantic's list of errors repeats of the input: all, all but secrets, "
        "nothing; needs web.problems = enforce",
    )
    live_path: str = option("/livez", "the path of the liveness probe, empty for none")
    ready_path: str = option("/readyz", "the path of the readiness probe, empty for none")
    startup_path: str = option("/startupz", "the path of the start-up probe, empty for none")
    replay: Literal["off", "report", "enforce"] = option(
        "enforce",
        "run a request again whose database failed under it, where nothing of it is left; report "
        "only says when it would be",
    )
    replay_methods: tuple[str, ...] = option(
        ("GET", "HEAD", "OPTIONS"),
        "the methods that are replayed; requests that hold an Idempotency-Key always are",
    )
    # A person waits so long (Nielsen's limit for keeping attention); the database is back in 2.
    replay_within_seconds: float = duration(
        "10s", "how long after a request has come it may be run again", maximum="10m"
    )
    door: Literal["off", "report", "enforce"] = option(
        "enforce",
        "let no more requests in that keep a database connection than there are connections; "
        "report only says which would have waited",
    )
    # Django's and Flask's developers count on some ten; 40 is what Starlette gives sync routes.
    wsgi_threads: int = option(
        40, "how many requests of a WSGI application are worked on at once", minimum=1, maximum=1000
    )

    def refusals(self, environment: str) -> list[str]:
        """Return what cannot be a path; no request would ever have it, in any environment."""
        del environment
        paths = {
            "live_path": self.live_path,
            "ready_path": self.ready_path,
            "startup_path": self.startup_path,
        }
        return [
            f"web.{name}: '{path}' is no path; begin it with a slash and leave out ? and #"
            for name, path in paths.items()
            if path and not _PATH.fullmatch(path)
        ] + _no_methods("web.replay_methods", self.replay_methods)


@section("idempotency")
@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencySettings:
    """What becomes of requests with an Idempotency-Key; they are kept in the database `db.url`."""

    mode: Literal["off", "report", "enforce"] = option(
        "off",
        "enforce: a request that comes again gets the answer it got, and is not run again; report: "
        "it is run, and told of",
    )
    methods: tuple[str, ...] = option(
        ("POST", "PATCH"), "the methods whose keys count; the others can be repeated by themselves"
    )
    required: tuple[str, ...] = option(
        (), "paths that take no request of these methods without a key; /orders/* is all below it"
    )
    identity: tuple[str, ...] = option(
        ("authorization",),
        "the headers that tell clients apart, so that none gets the answer of another; of a client "
        "that sends none of them, its cookies do",
    )
    keep_seconds: float = duration("24h", "how long an answer is kept", minimum="1m", maximum="90d")
    lease_seconds: float = duration(
        "60s",
        "when whoever works on a request counts as gone; make it longer than any request takes",
        minimum="1s",
        maximum="1h",
    )
    patience_seconds: float = duration(
        "2s", "how long a request waits for the table of the keys", minimum="50ms", maximum="1m"
    )
    without_table: Literal["refuse", "pass"] = option(
        "refuse",
        "what becomes of a request with a key while the table cannot be used: 503, or it is run "
        "as if it had none",
    )

    def refusals(self, environment: str) -> list[str]:
        """Return what could never have an effect, in any environment."""
        del environment
        return [
            *_no_methods("idempotency.methods", self.methods),
            *(
                f"idempotency.required: '{path}' is no path; begin it with a slash"
                for path in self.required
                if not _PATH.fullmatch(path)
            ),
            *(
                f"idempotency.identity: '{name}' is no header; write it in lower case"
                for name in self.identity
                if not _HEADER.fullmatch(name)
            ),
            *self._forgotten(),
        ]

    def _forgotten(self) -> Iterator[str]:
        if self.keep_seconds < self.lease_seconds:
            yield (
                f"idempotency.keep: {self.keep_seconds:g}s is less than idempotency.lease "
                f"({self.lease_seconds:g}s), so a key would be forgotten while its request is "
                f"worked on; make it longer"
            )


def _no_methods(key: str, methods: Sequence[str]) -> list[str]:
    return [
        f"{key}: '{method}' is no method; write it in upper case"
        for method in methods
        if not _METHOD.fullmatch(method)
    ]


def guards(settings: Loaded) -> Sequence[tuple[str, str]]:
    """Return the guards an application gets, in their order, each with its mode."""
    web = settings.of(WebSettings)
    probes = "enforce" if web.live_path or web.ready_path or web.startup_path else "off"
    return (
        ("ids", "enforce"),
        ("metrics", "enforce"),
        ("access line", "enforce" if web.access_log else "off"),
        ("traces", "enforce" if settings.of(TraceSettings).endpoint else "off"),
        ("headers", settings.of(HeadersSettings).mode),
        ("csp", settings.of(CspSettings).mode),
        ("probes", probes),
        ("host", settings.of(HostSettings).mode),
        ("https", settings.of(HttpsSettings).mode_in(settings.environment)),
        ("drain", "enforce"),
        ("admission", settings.of(AdmissionSettings).mode),
        ("limits", settings.of(LimitsSettings).mode),
        ("csrf", settings.of(CsrfSettings).mode),
        ("body", settings.of(BodySettings).mode),
        ("door", web.door),
        ("idempotency", settings.of(IdempotencySettings).mode),
        ("replay", web.replay),
        ("problems", web.problems),
    )
