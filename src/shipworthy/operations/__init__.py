"""The operations port: probes, health, metrics, the operator's API and a plain index page.

It is served by the supervisor and answers from what the supervisor already knows, so it answers
whatever the app does. Rooms above add their own routes as `Endpoint`s; routes, the OpenAPI
document and the index page's list all derive from them. `OperationsClient` is the other side: what
commands use to ask a running service.

Not here: the sockets and the server that serve this app (`serve`), the same probes on the app's
own port (`web`), what health and readiness mean (`lifecycle`), how metrics are counted and written
(`telemetry`), and the operator's console (`console`).
"""

from shipworthy.operations.access import Audience
from shipworthy.operations.actions import Action, offered, registered
from shipworthy.operations.app import operations_app
from shipworthy.operations.client import OperationsClient, PortRefused, PortUnreachable
from shipworthy.operations.endpoint import Asked, Endpoint, Reply, Schema
from shipworthy.operations.facts import (
    BlockedFacts,
    BreakerFacts,
    BreakersFacts,
    DatabaseFacts,
    DatabasesFacts,
    EndedFacts,
    HolderFacts,
    NameUnknown,
    Operated,
    PolicyFacts,
    RuleFacts,
    SecurityFacts,
    ServiceFacts,
    SightingFacts,
    WorkerFacts,
    WorkersSilent,
)
from shipworthy.operations.policy import policy_facts
from shipworthy.operations.recorded import RecordedApi, TrailBusy, recorded_metrics
from shipworthy.operations.security import security_facts
from shipworthy.operations.settings import OperationsSettings
from shipworthy.operations.trail import trail_endpoints
from shipworthy.operations.trash import trash_endpoints
from shipworthy.operations.watched import watch_endpoints

__all__ = [
    "Action",
    "Asked",
    "Audience",
    "BlockedFacts",
    "BreakerFacts",
    "BreakersFacts",
    "DatabaseFacts",
    "DatabasesFacts",
    "EndedFacts",
    "Endpoint",
    "HolderFacts",
    "NameUnknown",
    "Operated",
    "OperationsClient",
    "OperationsSettings",
    "PolicyFacts",
    "PortRefused",
    "PortUnreachable",
    "RecordedApi",
    "Reply",
    "RuleFacts",
    "Schema",
    "SecurityFacts",
    "ServiceFacts",
    "SightingFacts",
    "TrailBusy",
    "WorkerFacts",
    "WorkersSilent",
    "offered",
    "operations_app",
    "policy_facts",
    "recorded_metrics",
    "registered",
    "security_facts",
    "trail_endpoints",
    "trash_endpoints",
    "watch_endpoints",
]
