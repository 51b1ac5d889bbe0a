"""The settings of what protects the users of browsers: sections `headers`, `csp` and `csrf`."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from shipworthy.events import Event, Severity, event
from shipworthy.settings import Loaded, Secret, duration, option, secret, section
from shipworthy.web.csp_policy import DEFAULT_POLICY, policy_faults
from shipworthy.web.csrf import SECRET_CHARACTERS_MIN, normal_origin

_VALUE: Final = re.compile(r"[\x20-\x7e]*")
_PATH: Final = re.compile(r"/[^\s?#]*")
_NAME: Final = re.compile(r"[a-z0-9-]+")
_COOKIE: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]*")


@event(severity=Severity.WARNING)
class GuardUndecided(Event):
    """A guard waits for a decision, or lacks what it would need; it is said once at start."""

    what: str


@section("headers")
@dataclass(frozen=True, slots=True, kw_only=True)
class HeadersSettings:
    """The headers that make browsers careful; what the application sets itself stays."""

    mode: Literal["off", "report", "enforce"] = option(
        "enforce", "add them to answers that lack them; report only says which those are"
    )
    referrer: str = option(
        "strict-origin-when-cross-origin",
        "Referrer-Policy of pages: what other sites are told of where a link was; empty for none",
    )
    resources: Literal["any", "same-site", "same-origin"] = option(
        "any",
        "Cross-Origin-Resource-Policy of pages and JSON: whose pages may fetch them without CORS; "
        "any sends none",
    )
    frames: Literal["any", "same-origin", "none"] = option(
        "any", "X-Frame-Options: who may show a page in a frame; any sends none"
    )
    opener: Literal["any", "same-origin-allow-popups", "same-origin"] = option(
        "any",
        "Cross-Origin-Opener-Policy: what windows of other origins keep a hold on a page; any "
        "sends none, the others break a login in a popup",
    )
    permissions: str = option(
        "", "Permissions-Policy of pages, such as camera=(), geolocation=(); empty for none"
    )
    hsts_seconds: float = duration(
        "0",
        "Strict-Transport-Security: how long browsers keep to https after an answer over it; 0 "
        "for never",
        maximum="730d",
    )
    hsts_subdomains: bool = option(
        default=False, help="whether hosts below this one have to speak https too"
    )
    no_store: tuple[str, ...] = option(
        (), "paths whose answers no cache may keep; /account/* is all below it"
    )

    def refusals(self, environment: str) -> list[str]:
        """Return what cannot be sent, or would have no effect, in any environment."""
        del environment
        return [
            *_no_values("headers", {"referrer": self.referrer, "permissions": self.permissions}),
            *_no_paths("headers.no_store", self.no_store),
            *(
                ["headers.hsts_subdomains: has no effect without headers.hsts; set that, too"]
                if self.hsts_subdomains and not self.hsts_seconds
                else ()
            ),
        ]


@section("csp")
@dataclass(frozen=True, slots=True, kw_only=True)
class CspSettings:
    """The Content-Security-Policy of pages; while it is only reported, a policy is learned."""

    mode: Literal["off", "report", "enforce"] = option(
        "report",
        "report: browsers say what the policy would forbid, and nothing is forbidden; enforce: it "
        "is forbidden",
    )
    policy: str = option(
        DEFAULT_POLICY,
        "what pages may load, and from where; {nonce} stands for what csp_nonce() returns",
    )
    report_path: str = option(
        "/.well-known/shipworthy/csp",
        "where browsers send their reports, on the application's port; empty for nowhere",
    )
    reports_per_second: int = option(
        20, "how many reports a worker reads in a second; the rest is told to come later", minimum=1
    )
    sources_kept: int = option(
        500,
        "how many different things that reports name a worker remembers",
        minimum=10,
        maximum=5_000,
    )

    def refusals(self, environment: str) -> list[str]:
        """Return what is no policy or no path, in any environment."""
        del environment
        return [
            *(f"csp.policy: {fault}" for fault in policy_faults(self.policy)),
            *_no_paths("csp.report_path", [self.report_path] if self.report_path else []),
        ]


@section("csrf")
@dataclass(frozen=True, slots=True, kw_only=True)
class CsrfSettings:
    """Which pages may make a browser send requests that change something, and open websockets."""

    mode: Literal["off", "report", "enforce"] = option(
        "report",
        "enforce: refuse with 403 what a page of another origin sent; report: say what would be",
    )
    trusted_origins: tuple[str, ...] = option(
        (), "origins whose pages may, each exact: https://shop.example"
    )
    exempt: tuple[str, ...] = option(
        (), "paths that anybody may call, such as webhooks; /webhooks/* is all below it"
    )
    key_headers: tuple[str, ...] = option(
        ("x-api-key",),
        "headers that hold a key of the client's own, which no page of others can write",
    )
    session_cookie: str = option(
        "", "the cookie whose value stays for a session; tokens of csrf_token() are bound to it"
    )
    secret: Secret = secret(  # noqa: RUF009 - it makes a field
        f"what tokens are made with, at least {SECRET_CHARACTERS_MIN} characters; without it there "
        f"are none"
    )

    def refusals(self, environment: str) -> list[str]:
        """Return what can never fit, and a secret that could be guessed, in any environment."""
        del environment
        return [
            *(
                f"csrf.trusted_origins: '{origin}' is no origin; write its scheme, its host and "
                f"its port where that is not the usual one, and no more: https://shop.example"
                for origin in self.trusted_origins
                if not normal_origin(origin)
            ),
            *_no_paths("csrf.exempt", self.exempt),
            *(
                f"csrf.key_headers: '{name}' is no header that could hold a key; write it in lower "
                f"case, and not cookie"
                for name in self.key_headers
                if not _NAME.fullmatch(name) or name == "cookie"
            ),
            *self._unsealed(),
        ]

    def _unsealed(self) -> Iterator[str]:
        length = len(self.secret.reveal())
        if 0 < length < SECRET_CHARACTERS_MIN:
            yield (
                f"csrf.secret: {length} characters can be guessed; make it at least "
                f"{SECRET_CHARACTERS_MIN}, for instance with `openssl rand -hex 32`"
            )
        if length and not self.session_cookie:
            yield (
                "csrf.session_cookie: is empty, and a token is bound to a session; name the cookie "
                "that holds it, or leave csrf.secret out"
            )
        if not _COOKIE.fullmatch(self.session_cookie):
            yield f"csrf.session_cookie: '{self.session_cookie}' cannot be the name of a cookie"


def undecided(settings: Loaded) -> Iterator[str]:
    """Return, in production, which of these guards only report because nobody has decided."""
    if settings.environment != "production":
        return
    waiting = [
        value.key.partition(".")[0]
        for value in settings.values
        if value.key in {"csp.mode", "csrf.mode"} and value.origin == "default"
    ]
    if waiting:
        yield (
            f"{' and '.join(waiting)} only report{'' if len(waiting) > 1 else 's'}, because nobody "
            f"has decided: set {' and '.join(f'{name}.mode' for name in waiting)} to enforce once "
            f"the reports name nothing of yours, or to report or off to keep it so"
        )


def unsealed(settings: Loaded) -> Iterator[str]:
    """Say that no token can help a client that names no origin, where such are to be refused."""
    csrf = settings.of(CsrfSettings)
    if csrf.mode == "enforce" and not csrf.secret:
        yield (
            "csrf.secret is not set, so there are no tokens: clients with cookies that send none "
            "of Sec-Fetch-Site, Origin and Referer are refused"
        )


def _no_values(name: str, values: dict[str, str]) -> Iterator[str]:
    for key, value in values.items():
        if not _VALUE.fullmatch(value):
            yield f"{name}.{key}: a header holds printable ASCII on one line, and this does not"


def _no_paths(key: str, paths: Iterable[str]) -> Iterator[str]:
    for path in paths:
        if not _PATH.fullmatch(path):
            yield f"{key}: '{path}' is no path; begin it with a slash and leave out ? and #"
