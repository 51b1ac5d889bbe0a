"""May this call enter now: rate limits, the concurrency limit, shedding.

A policy says what it matches, how much it allows, to whom, and what becomes of requests while the
store of the buckets is away. What a request is charged to is one or several buckets, whose names
are made by a keyed hash: nothing of a client is kept. `Pressure` decides whether more comes than
is served, `ConcurrencyLimit` how many are served at once then, `Turns` whose turn it is and who
goes without; these are pure.

Not here: how a bucket counts and where it is kept (`store`), the guards that ask before a request
is served, where requests wait and how they are refused (`web`), and pools of connections (`db`).
"""

from shipworthy.admission.concurrency import ConcurrencyLimit
from shipworthy.admission.explain import Decision, decisions_on, described
from shipworthy.admission.identity import SOURCES, KeyMaker, Source
from shipworthy.admission.live import LimitsChanged, LimitsFile, LimitsKept
from shipworthy.admission.network import UNIX, address_of, network_of, read_address
from shipworthy.admission.pattern import METHODS, WEBSOCKET, pattern_of
from shipworthy.admission.plan import LimitPlan, plan_of
from shipworthy.admission.policy import ClientTier, Policy, network_quota, share
from shipworthy.admission.pressure import OverloadBegan, OverloadEnded, Pressure
from shipworthy.admission.priority import RANKS, Rank, Ranks
from shipworthy.admission.settings import LimitsSettings, PolicySettings, TierSettings
from shipworthy.admission.stores import is_shared, open_buckets, store_of
from shipworthy.admission.turns import SHARES, STRIDE_SECONDS, Stride, Turn, Turns

__all__ = [
    "METHODS",
    "RANKS",
    "SHARES",
    "SOURCES",
    "STRIDE_SECONDS",
    "UNIX",
    "WEBSOCKET",
    "ClientTier",
    "ConcurrencyLimit",
    "Decision",
    "KeyMaker",
    "LimitPlan",
    "LimitsChanged",
    "LimitsFile",
    "LimitsKept",
    "LimitsSettings",
    "OverloadBegan",
    "OverloadEnded",
    "Policy",
    "PolicySettings",
    "Pressure",
    "Rank",
    "Ranks",
    "Source",
    "Stride",
    "TierSettings",
    "Turn",
    "Turns",
    "address_of",
    "decisions_on",
    "described",
    "is_shared",
    "network_of",
    "network_quota",
    "open_buckets",
    "pattern_of",
    "plan_of",
    "read_address",
    "share",
    "store_of",
]
