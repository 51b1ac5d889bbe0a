"""The line of guards around an application: ids, access line, drain gate, keys, replay, problems.

`Line` is the one ASGI class; a guard is a small object with any of `enter`, `around`, `received`,
`starting`, `ended` and `leave`. A guard may raise; only `Problems` answers. Also here: how a WSGI
application is served, how the application's lifespan joins ours, how an application is asked
in-process, and what framework it is.

Not here: when a process drains and what its checks say (`lifecycle`), how numbers and lines leave
the process (`telemetry`), what a failure of a database means and where keys are kept (`db`), and
which guards an application gets (`assembly`).
"""

from shipworthy.admission import address_of, network_of
from shipworthy.web.access import Access
from shipworthy.web.actor import ActorFinder, ActorHeaderRefused, ActorUnreadable, actor_named
from shipworthy.web.actor_settings import ActorSettings
from shipworthy.web.admission import (
    AdmissionGuard,
    RequestShed,
    ServiceOverloaded,
    ServiceRecovered,
)
from shipworthy.web.admission_settings import AdmissionSettings
from shipworthy.web.ask import Heard, Unanswered, ask
from shipworthy.web.blocked import BLOCKED, Blocked, Blocking, RequestBlocked
from shipworthy.web.body import BodyGuard, BodyRefused
from shipworthy.web.body_settings import BodySettings
from shipworthy.web.browser_settings import (
    CspSettings,
    CsrfSettings,
    GuardUndecided,
    HeadersSettings,
    undecided,
    unsealed,
)
from shipworthy.web.client import ClientFound, ClientRule
from shipworthy.web.client_settings import ClientSettings
from shipworthy.web.context import Correlation, new_ids, parse_traceparent
from shipworthy.web.csp import CspGuard, PolicyProposed, csp_nonce
from shipworthy.web.csp_policy import Proposal, Sighting, propose
from shipworthy.web.csp_reports import together
from shipworthy.web.csrf_guard import CrossSiteRefused, CsrfGuard, csrf_token
from shipworthy.web.door import DoorClosed, DoorCrowded, DoorGuard
from shipworthy.web.drain import DrainGate, InFlight
from shipworthy.web.forwarded import Forwarded, ForwardedIgnored
from shipworthy.web.frameworks import (
    Framework,
    asgi_of,
    framework_of,
    observe,
)
from shipworthy.web.health import ProbeRouteTaken, Probes
from shipworthy.web.host import HostGuard, HostMalformed, HostUnlisted
from shipworthy.web.host_settings import HostSettings, HttpsSettings
from shipworthy.web.https import HttpsGuard, HttpsLoop, HttpsNeeded
from shipworthy.web.idempotency import CommitUnfenced, Idempotency, KeySeenAgain, KeysUnkept
from shipworthy.web.instrumented import (
    CountedTwice,
    TracedTwice,
    counted_twice,
    makes_spans,
    traced_twice,
)
from shipworthy.web.lifespan import AppLifespan, LifespanUnsupported, speak_lifespan
from shipworthy.web.limits import LimitsGuard
from shipworthy.web.line import App, Call, Line, Message, Receive, Scope, Send
from shipworthy.web.problems import (
    AnswerMissing,
    CallRefused,
    ExceptionUnhandled,
    Problems,
    problem,
)
from shipworthy.web.replay import Replay, ReplayWithheld, RequestReplayed
from shipworthy.web.request_metrics import RequestMetrics
from shipworthy.web.routes import RouteTable, meant, owner_finder, route_finder, routes_of
from shipworthy.web.safe import (
    html_attribute,
    path_part,
    query_value,
    safe_next,
    sanitize_html,
    script_json,
)
from shipworthy.web.scrape import Scrape
from shipworthy.web.security_headers import HeadersMissing, SecurityHeaders
from shipworthy.web.settings import IdempotencySettings, WebSettings, guards
from shipworthy.web.shown import WEB_SHOWN
from shipworthy.web.slo_settings import SloSettings
from shipworthy.web.streams import EventStreams, spread_seconds
from shipworthy.web.traces import Traces
from shipworthy.web.wsgi import WsgiApp

__all__ = [
    "BLOCKED",
    "WEB_SHOWN",
    "Access",
    "ActorFinder",
    "ActorHeaderRefused",
    "ActorSettings",
    "ActorUnreadable",
    "AdmissionGuard",
    "AdmissionSettings",
    "AnswerMissing",
    "App",
    "AppLifespan",
    "Blocked",
    "Blocking",
    "BodyGuard",
    "BodyRefused",
    "BodySettings",
    "Call",
    "CallRefused",
    "ClientFound",
    "ClientRule",
    "ClientSettings",
    "CommitUnfenced",
    "Correlation",
    "CountedTwice",
    "CrossSiteRefused",
    "CspGuard",
    "CspSettings",
    "CsrfGuard",
    "CsrfSettings",
    "DoorClosed",
    "DoorCrowded",
    "DoorGuard",
    "DrainGate",
    "EventStreams",
    "ExceptionUnhandled",
    "Forwarded",
    "ForwardedIgnored",
    "Framework",
    "GuardUndecided",
    "HeadersMissing",
    "HeadersSettings",
    "Heard",
    "HostGuard",
    "HostMalformed",
    "HostSettings",
    "HostUnlisted",
    "HttpsGuard",
    "HttpsLoop",
    "HttpsNeeded",
    "HttpsSettings",
    "Idempotency",
    "IdempotencySettings",
    "InFlight",
    "KeySeenAgain",
    "KeysUnkept",
    "LifespanUnsupported",
    "LimitsGuard",
    "Line",
    "Message",
    "PolicyProposed",
    "ProbeRouteTaken",
    "Probes",
    "Problems",
    "Proposal",
    "Receive",
    "Replay",
    "ReplayWithheld",
    "RequestBlocked",
    "RequestMetrics",
    "RequestReplayed",
    "RequestShed",
    "RouteTable",
    "Scope",
    "Scrape",
    "SecurityHeaders",
    "Send",
    "ServiceOverloaded",
    "ServiceRecovered",
    "Sighting",
    "SloSettings",
    "TracedTwice",
    "Traces",
    "Unanswered",
    "WebSettings",
    "WsgiApp",
    "actor_named",
    "address_of",
    "asgi_of",
    "ask",
    "counted_twice",
    "csp_nonce",
    "csrf_token",
    "framework_of",
    "guards",
    "html_attribute",
    "makes_spans",
    "meant",
    "network_of",
    "new_ids",
    "observe",
    "owner_finder",
    "parse_traceparent",
    "path_part",
    "problem",
    "propose",
    "query_value",
    "route_finder",
    "routes_of",
    "safe_next",
    "sanitize_html",
    "script_json",
    "speak_lifespan",
    "spread_seconds",
    "together",
    "traced_twice",
    "undecided",
    "unsealed",
]
