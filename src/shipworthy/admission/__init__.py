"""Who may ask how often: policies as data, what they come to, and where their buckets are kept.

A policy says what it matches, how much it allows, to whom, and what becomes of requests while the
store of the buckets is away. What a request is charged to is one or several buckets, whose names
are made by a keyed hash: nothing of a client is kept.

Not here: how a bucket counts and where it is kept (`store`), the guard that asks before a request
is served (`web`), and what a process can take at once (the door in `web`, pools in `db`).
"""

from shipworthy.admission.explain import Decision, decisions_on, described
from shipworthy.admission.identity import SOURCES, KeyMaker, Source, network_of
from shipworthy.admission.live import LimitsChanged, LimitsFile, LimitsKept
from shipworthy.admission.pattern import METHODS, WEBSOCKET
from shipworthy.admission.plan import LimitPlan, plan_of
from shipworthy.admission.policy import ClientTier, Policy, network_quota, share
from shipworthy.admission.settings import LimitsSettings, PolicySettings, TierSettings
from shipworthy.admission.stores import is_shared, open_buckets

__all__ = [
    "METHODS",
    "SOURCES",
    "WEBSOCKET",
    "ClientTier",
    "Decision",
    "KeyMaker",
    "LimitPlan",
    "LimitsChanged",
    "LimitsFile",
    "LimitsKept",
    "LimitsSettings",
    "Policy",
    "PolicySettings",
    "Source",
    "TierSettings",
    "decisions_on",
    "described",
    "is_shared",
    "network_of",
    "network_quota",
    "open_buckets",
    "plan_of",
    "share",
]
