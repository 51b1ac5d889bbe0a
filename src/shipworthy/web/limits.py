"""The guard of the rate limits: who asks more often than a policy allows is answered 429.

Not here: what a policy is (`admission`), and how a bucket counts and where it is kept (`store`).
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple, final

from typing_extensions import override

from shipworthy.admission import (
    UNIX,
    WEBSOCKET,
    KeyMaker,
    LimitPlan,
    LimitsSettings,
    Policy,
    Source,
    network_of,
    network_quota,
    open_buckets,
    plan_of,
    share,
)
from shipworthy.errors import Rejected
from shipworthy.events import Event, Label, Metric, Severity, emit, event
from shipworthy.lifecycle import Check
from shipworthy.store import Ask, Buckets, BucketsUnavailable, MemoryBuckets, Taken
from shipworthy.telemetry import Registry
from shipworthy.web.blocked import Blocked
from shipworthy.web.line import UNMATCHED, Call, Headers, Message, Scope

GUARD: Final = "limits"
TOO_MANY: Final = 429
_SECOND_NS: Final = 1_000_000_000
_STATED: Final = b"ratelimit-policy"
_LEFT: Final = b"ratelimit"
# So many clients have what they are charged to at hand; a megabyte or two.
_KEPT_MOST: Final = 4_096
_KEPT_CHARACTERS: Final = 128
# Keys of clients that the application has answered, each a hash of 30 characters.
_ACCEPTED_MOST: Final = 20_000
# How long a store that is away is left alone; then one request asks it.
PAUSE_SECONDS: Final = 1.0
# What a route is called whose requests are many attempts to get in.
_LOGINS: Final = (
    "/login", "/signin", "/sign-in", "/token", "/auth/login", "/auth/token", "/oauth/token",
    "/accounts/login", "/users/login", "/api/login", "/api/token", "/api/auth/login",
    "/otp", "/verify-otp", "/password-reset", "/forgot-password",
)  # fmt: skip

KEYS: Final = Metric(
    "shipworthy_limits_keys", "gauge", "Clients, by policy, that are kept apart in memory."
)
SHARED: Final = Metric(
    "shipworthy_limits_sketched_total",
    "counter",
    "Decisions about new clients that shared a place, because limits.keys_most were known.",
)
UNASKED: Final = Metric(
    "shipworthy_limits_store_failures_total",
    "counter",
    "Requests for which the store of the limits could not be asked.",
)


@event(severity=Severity.ERROR)
class LimitsStoreLost(Event):
    """The store of the rate limits does not answer; each policy now does what it says of that."""

    because: str


@event(severity=Severity.INFO)
class LimitsStoreBack(Event):
    """The store of the rate limits answers again."""

    seconds: float


@event(severity=Severity.WARNING)
class ClientUnknown(Event):
    """A request has no address that could be limited, as behind a Unix socket; said once.

    It was held to no limit by network. The proxy in front must say whom it serves.
    """

    route: Annotated[str, Label]


@final
class LimitReached(Rejected):
    """The client asked more often than a policy allows."""

    status = TOO_MANY
    told = True

    def __init__(self, policy: Policy, *, retry_after_seconds: float) -> None:
        super().__init__(
            f"policy '{policy.name}' allows {policy.shown}; come again in "
            f"{retry_after_seconds:.0f} s",
            retry_after_seconds=retry_after_seconds,
        )

    @property
    @override
    def public_detail(self) -> str:
        return f"too many requests; the next one is taken in {self.retry_after_seconds:.0f} s"


@final
class TooManyOpen(Rejected):
    """The client has as many requests open as a policy allows; nobody knows when one ends."""

    status = TOO_MANY
    told = True

    def __init__(self, policy: Policy) -> None:
        super().__init__(
            f"policy '{policy.name}' allows {policy.concurrent} to be open at once, and they are",
            retry_after_seconds=1.0,
        )

    @property
    @override
    def public_detail(self) -> str:
        return "too many requests or websockets of yours are open; end one, and send this again"


@final
class LimitsStoreAway(Rejected):
    """How often the client asked cannot be counted, and its policy takes nothing uncounted."""

    told = True

    def __init__(self, policy: Policy) -> None:
        super().__init__(
            f"the store of the rate limits does not answer, and policy '{policy.name}' is closed "
            f"meanwhile (on_store_down)",
            retry_after_seconds=PAUSE_SECONDS,
        )

    @property
    @override
    def public_detail(self) -> str:
        return "the service cannot take this request at the moment; send it again"


@final
class _Wanted:
    """What one policy asks of a request: its own bucket first, then those behind it."""

    __slots__ = ("asks", "failures", "left_begins", "policy", "source", "stated")

    def __init__(self, policy: Policy, source: Source, asks: tuple[Ask, ...]) -> None:
        self.policy = policy
        self.source = source
        self.asks = asks
        quota = asks[0].quota
        seconds = -(-quota.period_ns // _SECOND_NS)
        name = policy.name.encode()
        self.stated = b'"%b";q=%d;w=%d' % (name, quota.count // policy.cost, seconds)
        self.left_begins = b'"%b";r=' % name
        self.failures = asks if policy.failures_only else ()

    def left(self, taken: Taken) -> bytes:
        """Say what is left, and when there is more: on a refusal not before it is admitted."""
        wait = taken.reset_ns if taken.allowed else taken.retry_after_ns
        return b"%b%d;t=%d" % (
            self.left_begins,
            taken.remaining // self.policy.cost,
            -(-wait // _SECOND_NS),
        )


@final
class _Force:
    """The limits that are in force, and what was found by them; replaced as a whole."""

    __slots__ = ("api_key", "by_address", "kept", "plan")

    def __init__(self, plan: LimitPlan, api_key: bytes) -> None:
        self.plan = plan
        self.api_key = api_key
        # Where one policy is for every request, which is the default: what whoever has nothing
        # but an address is charged to.
        self.by_address: dict[str, _Wanted] | None = None
        if plan.everywhere is not None and len(plan.everywhere) == 1 and not plan.counts_open:
            self.by_address = {}
        self.kept: dict[tuple[str, str, str, str], _Wanted] = {}


class _Charged(NamedTuple):
    """What is to be done when an answer begins."""

    headers: Headers
    failures: tuple[Ask, ...]
    accepted: str


@final
class LimitsGuard:
    """Hold each request to the policies that match it, all of them or none.

    Probes pass. What a request is charged to is the first of a policy's `key` that it has: an API
    key only once the application has answered a request with it below 400, else whoever makes keys
    up would have a limit for each; and never more than ten times the limit for all keys of one
    network. A user counts whom somebody vouches for. Where the buckets are in this process's
    memory nothing is waited for. Safe for any number of event loops.
    """

    def __init__(
        self,
        registry: Registry,
        blocked: Blocked,
        settings: LimitsSettings,
        *,
        template_of: Callable[[str], str],
        now: Callable[[], float],
        asks_always: bool = False,
        buckets: Buckets | None = None,
        database_url: str = "",
    ) -> None:
        self._blocked = blocked
        self._template_of = template_of
        self._now = now
        self._asks_always = asks_always
        self._local = MemoryBuckets(settings.keys_most)
        found = buckets or open_buckets(
            settings.store,
            url=settings.store_url.reveal() or database_url,
            folder=settings.folder,
            keys_most=settings.keys_most,
        )
        if isinstance(found, MemoryBuckets):
            self._local = found
            self._store: Buckets | None = None
        else:
            self._store = found
        self._keys = KeyMaker(settings.secret.reveal() or ("" if self._store is None else GUARD))
        self._share_of = settings.share_of
        self._accepted: dict[str, None] = {}
        self._calls: dict[Call, _Charged] = {}
        # How many each client has open where a policy counts that, and which a call counts for.
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}
        self._opened: dict[Call, list[str]] = {}
        self._later: set[asyncio.Task[None]] = set()
        self._unknown_said = False
        # When the store was lost, and from when on it is asked again.
        self._lost_at: float | None = None
        self._ask_at = 0.0
        self._because = ""
        self._failed = registry.counter(UNASKED).cell()
        registry.gauge(KEYS, read=lambda: self._local.statistics().keys)
        registry.running_total(SHARED, read=lambda: self._local.statistics().sketched_total)
        self.change(settings)

    def change(self, settings: LimitsSettings) -> None:
        """Go by these limits from now on; in any thread. A policy that was changed counts anew."""
        policies, _ = settings.read()
        plan = plan_of(policies, self._template_of)
        for policy in plan.policies:
            if policy.mode != "off":
                self._blocked.expect(GUARD, policy.name, policy.mode)
        self._share_of = settings.share_of
        self._force = _Force(plan, settings.api_key_header.encode())

    def enter(self, call: Call) -> Awaitable[None] | None:
        """Take what the call needs, or refuse it; returns what waits for a store that is shared."""
        force = self._force
        if call.probe or not force.plan.policies:
            return None
        by_address = force.by_address
        if by_address is not None and self._has_address_only(force, call):
            known = by_address.get(call.record.client)
            if known is not None:
                self._take_known(call, known)
                return None
        return self._take_all(force, call)

    def _take_known(self, call: Call, known: _Wanted) -> None:
        taken = self._local.take_one(*known.asks[0])
        if known.policy.mode == "enforce":
            self._settle(call, (known,), (taken,))
        elif known.failures or not taken.allowed:
            self._report(call, known, (taken,))

    def _take_all(self, force: _Force, call: Call) -> Awaitable[None] | None:
        """Take what every policy for the call needs."""
        policies = force.plan.everywhere
        route = ""
        if policies is None:
            scope = call.scope
            method = WEBSOCKET if scope["type"] == "websocket" else scope["method"]
            policies, route = force.plan.policies_for(method, _path(scope))
        wanted = [
            found
            for policy in policies
            if (found := self._wanted(force, policy, call, route)) is not None
        ]
        if not wanted:
            return None
        if force.plan.counts_open:
            self._claim(call, wanted)
        if self._store is not None:
            return self._ask(call, self._store, wanted)
        by_address = force.by_address
        if by_address is not None and self._has_address_only(force, call):
            if len(by_address) >= _KEPT_MOST:
                by_address.clear()
            by_address[call.record.client] = wanted[0]
        self._take(call, wanted, self._local)
        return None

    def starting(self, call: Call, message: Message) -> None:
        """Say what is left; learn of accepted keys, and give back what no failure has spent."""
        charged = self._calls.pop(call, None)
        if charged is None:
            return
        if charged.headers:
            message["headers"] = [*message.get("headers", ()), *charged.headers]
        status = call.status
        if charged.accepted and status < 400:
            if len(self._accepted) >= _ACCEPTED_MOST:
                self._accepted.pop(next(iter(self._accepted)), None)
            self._accepted[charged.accepted] = None
        if charged.failures and not 400 <= status < 500:
            self._give_back(charged.failures)

    def leave(self, call: Call) -> None:
        """Forget the call; one that never had an answer stays counted."""
        self._calls.pop(call, None)
        opened = self._opened.pop(call, None) if self._opened else None
        if opened:
            with self._lock:
                for key in opened:
                    left = self._open[key] - 1
                    if left:
                        self._open[key] = left
                    else:
                        del self._open[key]

    async def stop(self) -> None:
        """Let go of the store."""
        for task in list(self._later):
            await asyncio.wait({task}, timeout=PAUSE_SECONDS)
        if self._store is not None:
            await self._store.close()

    def check(self) -> Check | None:
        """Return the check that shows a shared store that is away; none where there is none."""
        if self._store is None:
            return None

        async def answered() -> str | None:
            return self._because or None

        return Check("rate limits", answered, kinds=frozenset())

    def advice(self) -> list[str]:
        """Say which routes look like logins that no policy counts exactly, a sentence each."""
        nowhere = self._template_of("/shipworthy-no-such-route")
        found: dict[str, None] = {}
        for path in _LOGINS:
            for sent in (path, f"{path}/"):
                template = self._template_of(sent)
                if template not in (UNMATCHED, nowhere, ""):
                    policies, _ = self._force.plan.policies_for("POST", sent)
                    if not any(policy.quota.algorithm == "exact" for policy in policies):
                        found[template] = None
        return [
            f"POST {template} looks like a login and is held to no exact limit: write "
            f"[limits.policies.login] with match = ['POST {template}'], algorithm = 'exact', "
            f"rate = '10/15m' and count = 'failures'"
            for template in found
        ]

    def _wanted(self, force: _Force, policy: Policy, call: Call, route: str) -> _Wanted | None:
        """Return what a policy asks of a call; None where nobody can be told."""
        record = call.record
        for source in policy.sources:
            if source == "network":
                value = network_of(record.client)
                if not value or value == UNIX:
                    self._say_unknown(call)
                    continue
            elif source == "user":
                value = self._user(call)
                if not value:
                    continue
            else:
                sent = call.headers.get(force.api_key)
                if not sent:
                    continue
                return self._by_key(force, policy, call, sent.decode("latin-1"), route)
            return self._by(force, policy, source, value, route)
        return None

    def _has_address_only(self, force: _Force, call: Call) -> bool:
        """Say whether nobody is named for a call, and it has no key."""
        return (
            call.record.named is None
            and not self._asks_always
            and "user" not in call.scope
            and force.api_key not in call.headers
        )

    def _user(self, call: Call) -> str:
        record = call.record
        if record.named is None:
            if not (self._asks_always or "user" in call.scope):
                return ""
            record.who()
        named = record.named
        # A name that nobody verified is one that anybody can make up.
        return named.name if named is not None and named.kind == "user" else ""

    def _by(self, force: _Force, policy: Policy, source: Source, value: str, route: str) -> _Wanted:
        """Return what a client whom somebody vouches for is charged to, from what is at hand."""
        if not policy.per_route:
            route = ""
        place = (policy.name, source, value, route)
        found = force.kept.get(place)
        if found is None:
            tier = policy.tier_of(source, value)
            quota = policy.quotas["" if tier is None else tier.name]
            key = self._keys.key(_counted_as(policy), source, value, route)
            found = _Wanted(policy, source, (Ask(key, quota, policy.cost),))
            if len(value) + len(route) <= _KEPT_CHARACTERS:
                if len(force.kept) >= _KEPT_MOST:
                    force.kept.clear()
                force.kept[place] = found
        return found

    def _by_key(
        self, force: _Force, policy: Policy, call: Call, value: str, route: str
    ) -> _Wanted | None:
        """Return what a key is charged to: its own bucket once it was accepted, and a roof."""
        accepted = self._keys.key("", "api_key", value)
        network = network_of(call.record.client)
        if accepted not in self._accepted:
            # Also where the network is nobody's: then made-up keys share one bucket.
            found = self._by(force, policy, "network", network or "-", route)
            self._calls[call] = _Charged([], (), accepted)
            return found
        own = self._by(force, policy, "api_key", accepted, route)
        roof = Ask(
            self._keys.key(_counted_as(policy), "roof", network),
            network_quota(policy.quota),
            policy.cost,
        )
        return _Wanted(policy, "api_key", (*own.asks, roof))

    def _say_unknown(self, call: Call) -> None:
        if not self._unknown_said:
            self._unknown_said = True
            emit(ClientUnknown, route=self._route(call))

    def _claim(self, call: Call, wanted: Sequence[_Wanted]) -> None:
        """Count the call as open with its client, or refuse it; `leave` counts it out."""
        opened: list[str] = []
        self._opened[call] = opened
        for one in wanted:
            policy = one.policy
            if not policy.concurrent:
                continue
            key = one.asks[0].key
            with self._lock:
                there = self._open.get(key, 0)
                full = there >= policy.concurrent
                if not (full and policy.mode == "enforce"):
                    self._open[key] = there + 1
                    opened.append(key)
            if full:
                refusal = TooManyOpen(policy)
                self._tell(call, one, policy.mode, str(refusal))
                if policy.mode == "enforce":
                    raise refusal

    def _take(self, call: Call, wanted: Sequence[_Wanted], buckets: MemoryBuckets) -> None:
        """Decide at once, in the memory of this process."""
        if len(wanted) == 1:
            # One policy, which is what most requests are held to.
            (one,) = wanted
            taken = buckets.take_now(one.asks)
            if one.policy.mode == "enforce":
                self._settle(call, wanted, taken)
            else:
                self._report(call, one, taken)
            return
        enforced = []
        for one in wanted:
            if one.policy.mode == "enforce":
                enforced.append(one)
            else:
                self._report(call, one, buckets.take_now(one.asks))
        if enforced:
            self._settle(call, enforced, buckets.take_now(_asks(enforced)))

    async def _ask(self, call: Call, store: Buckets, wanted: Sequence[_Wanted]) -> None:
        """Decide with all other processes; by what each policy says where that cannot be."""
        enforced = [one for one in wanted if one.policy.mode == "enforce"]
        if self._lost_at is not None and self._now() < self._ask_at:
            self._without_store(call, enforced)
            return
        # One request tries, the others go on without.
        self._ask_at = self._now() + PAUSE_SECONDS
        try:
            taken = await store.take(_asks(enforced)) if enforced else ()
            reported = [(one, await store.take(one.asks)) for one in wanted if one not in enforced]
        except BucketsUnavailable as error:
            self._lose(str(error))
            self._without_store(call, enforced)
            return
        if self._lost_at is not None:
            emit(LimitsStoreBack, seconds=round(self._now() - self._lost_at, 3))
            self._lost_at, self._because = None, ""
        for one, answer in reported:
            self._report(call, one, answer)
        if enforced:
            self._settle(call, enforced, taken)

    def _lose(self, because: str) -> None:
        self._failed.add(1)
        self._because = f"the store does not answer: {because}"
        if self._lost_at is None:
            self._lost_at = self._now()
            emit(LimitsStoreLost, because=because)

    def _without_store(self, call: Call, enforced: Iterable[_Wanted]) -> None:
        local = []
        for one in enforced:
            policy = one.policy
            if policy.when_down == "closed":
                refusal = LimitsStoreAway(policy)
                self._tell(call, one, "enforce", str(refusal))
                raise refusal
            if policy.when_down == "local":
                local.append(self._share(one))
        if local:
            self._settle(call, local, self._local.take_now(_asks(local)))

    def _share(self, one: _Wanted) -> _Wanted:
        asks = []
        for key, quota, cost in one.asks:
            mine = share(quota, self._share_of)
            # A request that costs more than a share is let through at its whole.
            asks.append(Ask(key, mine, min(cost, mine.burst)))
        return _Wanted(one.policy, one.source, tuple(asks))

    def _report(self, call: Call, one: _Wanted, taken: Sequence[Taken]) -> None:
        for answer in taken:
            if not answer.allowed:
                self._tell(call, one, "report", _because(one, taken))
                return
        if one.failures:
            self._hold(call, [], one.failures)

    def _settle(self, call: Call, wanted: Sequence[_Wanted], taken: Sequence[Taken]) -> None:
        """Refuse the call where a bucket had no room; else note what its answer has to say."""
        place, stated, left = 0, [], []
        refused: _Wanted | None = None
        wait = 0
        failures: tuple[Ask, ...] = ()
        for one in wanted:
            stated.append(one.stated)
            left.append(one.left(taken[place]))
            for answer in taken[place : place + len(one.asks)]:
                if answer.retry_after_ns > wait:
                    refused, wait = one, answer.retry_after_ns
            place += len(one.asks)
            failures += one.failures
        headers = [(_STATED, b", ".join(stated)), (_LEFT, b", ".join(left))]
        if refused is None:
            self._hold(call, headers, failures)
            return
        self._calls[call] = _Charged(headers, (), "")
        error = LimitReached(refused.policy, retry_after_seconds=-(-wait // _SECOND_NS))
        self._tell(call, refused, "enforce", str(error))
        raise error

    def _hold(self, call: Call, headers: Headers, failures: tuple[Ask, ...]) -> None:
        known = self._calls.get(call)
        if known is None:
            self._calls[call] = _Charged(headers, failures, "")
        else:
            self._calls[call] = _Charged(
                known.headers + headers, known.failures + failures, known.accepted
            )

    def _tell(self, call: Call, one: _Wanted, mode: Any, because: str) -> None:
        self._blocked.tell(
            GUARD,
            one.policy.name,
            mode,
            f"{because} (by {one.source.replace('_', ' ')})",
            client=call.record.client,
            route=self._route(call),
        )

    def _route(self, call: Call) -> str:
        """Return the template that a call was meant for, and keep it: the router is not asked."""
        record = call.record
        if not record.route:
            found = self._template_of(_path(call.scope))
            if found and found != UNMATCHED:
                record.route = found
        return record.route or UNMATCHED

    def _give_back(self, asks: tuple[Ask, ...]) -> None:
        if self._store is None or self._lost_at is not None:
            self._local.give_back_now(asks)
            return
        task = asyncio.get_running_loop().create_task(_given_back(self._store, asks))
        self._later.add(task)
        task.add_done_callback(self._later.discard)


async def _given_back(store: Buckets, asks: Sequence[Ask]) -> None:
    try:
        await store.give_back(asks)
    except BucketsUnavailable:
        # It stays counted until its time is over, which errs on the side of the limit.
        return


def _counted_as(policy: Policy) -> str:
    """Return what buckets of a policy are named after: one that allows something else has others.

    What was spent under an hour's limit would else hold for that hour under one of a second.
    """
    quota = policy.quota
    return f"{policy.name} {quota.algorithm} {quota.count} {quota.period_ns} {quota.burst}"


def _asks(wanted: Sequence[_Wanted]) -> Sequence[Ask]:
    return wanted[0].asks if len(wanted) == 1 else [ask for one in wanted for ask in one.asks]


def _because(one: _Wanted, taken: Sequence[Taken]) -> str:
    wait = max(answer.retry_after_ns for answer in taken)
    return (
        f"policy '{one.policy.name}' allows {one.policy.shown}; there is room in "
        f"{-(-wait // _SECOND_NS)} s"
    )


def _path(scope: Scope | Mapping[str, Any]) -> str:
    """Return the path of a request below where the application is mounted."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if root and path.startswith(root) and path[len(root) :][:1] in ("", "/"):
        return path[len(root) :] or "/"
    return path
