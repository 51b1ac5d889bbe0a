"""Buckets in Redis or Valkey, exact over all processes that use it: the only place that speaks it.

What a request wants of all its buckets is one atomic call of a script (`buckets.lua`), which goes
by the server's time. What came while the server was asked is sent to it together, on one
connection. A server that is away, that may not write, or that is full costs one request the bound,
and the others nothing until it is tried again.

All buckets of a service have one hash tag: they lie on one node of a cluster, because a script can
work on one node alone and each request combines other keys.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha1
from importlib.resources import files
from typing import Any, Final, final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from typing_extensions import override

from shipworthy.errors import Misuse
from shipworthy.store.bucket import (
    Ask,
    Buckets,
    BucketsUnavailable,
    Quota,
    Spent,
    State,
    Taken,
    judge,
)
from shipworthy.store.bucket_away import BOUND_SECONDS, StoreBreaker
from shipworthy.store.bucket_rows import Answer, Wish, answer_of, kind_of
from shipworthy.store.bucket_waiting import WAITING_MOST, BucketRequest, crowded

SCRIPT: Final = files("shipworthy.store").joinpath("buckets.lua").read_text(encoding="utf-8")
PREFIX: Final = "{shipworthy}:"
BATCH_MOST: Final = 64
# The name by which the protocol knows a script; nothing is kept safe by it.
_SHA: Final = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()
_DIGITS: Final = 19
_SECOND_NS: Final = 1_000_000_000
_SCHEMES: Final = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}


@final
class RedisBuckets(Buckets):
    """Buckets in the Redis or Valkey at `url`; nothing is connected before it is used.

    Each call ends within `bound_seconds` and the lateness of a timer. `?cluster=true` in the URL
    asks for a cluster. Raises `Misuse` where redis-py is not installed, or for a URL that is none.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = PREFIX,
        bound_seconds: float = BOUND_SECONDS,
        name: str = "redis",
    ) -> None:
        try:
            import redis.asyncio as library
        except ImportError:
            raise Misuse(
                "buckets in Redis or Valkey need redis-py: pip install 'shipworthy[redis]'"
            ) from None
        self._library = library
        self._url, self._cluster = _target(url)
        self._prefix = prefix
        self._bound = bound_seconds
        self._breaker = StoreBreaker(name)
        self._queue: deque[BucketRequest] = deque()
        self._sending: asyncio.Task[None] | None = None
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @override
    async def take(self, asks: Sequence[Ask]) -> tuple[Taken, ...]:
        for _, quota, cost in asks:
            # Raises for what can never be had or said, before anything is sent.
            judge(None, quota, cost, 0)
            spoken(quota, cost)
        return await self._ask(Wish(tuple(asks)))

    @override
    async def give_back(self, asks: Sequence[Ask]) -> None:
        await self._ask(Wish(tuple(asks), back=True))

    @override
    async def close(self) -> None:
        self._closed = True
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending}, timeout=self._bound)
        await self._let_go()

    async def _ask(self, wish: Wish) -> tuple[Taken, ...]:
        if self._closed:
            raise BucketsUnavailable("the store of buckets was closed; this process is leaving")
        return await self._breaker.through(partial(self._queued, wish))

    async def _queued(self, wish: Wish) -> Answer:
        if len(self._queue) >= WAITING_MOST:
            raise crowded()
        waiting = BucketRequest(wish, self._bound)
        if waiting.loop is not self._loop:
            # Connections belong to the loop they were made in; that one has ended.
            self._client, self._sending, self._loop = None, None, waiting.loop
            self._queue.clear()
        self._queue.append(waiting)
        if self._sending is None or self._sending.done():
            self._sending = waiting.loop.create_task(self._send(), name="shipworthy-buckets")
        return await waiting.answered()

    async def _send(self) -> None:
        """Send what waits, and what has come meanwhile, until nobody waits."""
        while self._queue:
            batch: list[BucketRequest] = []
            while self._queue and len(batch) < BATCH_MOST:
                waiting = self._queue.popleft()
                # Those whose time is over have gone, and are not charged.
                if not waiting.gone:
                    batch.append(waiting)
            if batch:
                await self._exchange(batch)

    async def _exchange(self, batch: Sequence[BucketRequest]) -> None:
        said: Sequence[Any]
        try:
            # A connect, a write and a read have a bound each; those who wait have left by then.
            async with asyncio.timeout(2 * self._bound):
                said = await self._call([self._arguments(one.wish) for one in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            said = [error] * len(batch)
            await self._let_go()
        for one, reply in zip(batch, said, strict=True):
            one.answer = self._answer(one.wish, reply)
            one.deliver()

    async def _call(self, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        if self._client is None:
            self._client = self._connected()
        said = await self._all("EVALSHA", _SHA, calls)
        unknown = [at for at, one in enumerate(said) if _unknown_script(one)]
        if unknown:
            # The server was started anew, or is another one. It learns the script with a call.
            again = await self._all("EVAL", SCRIPT, [calls[at] for at in unknown[:1]])
            again += await self._all("EVALSHA", _SHA, [calls[at] for at in unknown[1:]])
            for at, one in zip(unknown, again, strict=True):
                said[at] = one
        return said

    async def _all(self, command: str, program: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return what each call was answered, an error among them where it was one."""
        if not calls:
            return []
        if self._cluster or len(calls) == 1:
            execute: Callable[..., Awaitable[Any]] = self._client.execute_command
            return await asyncio.gather(
                *(execute(command, program, *call) for call in calls), return_exceptions=True
            )
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(command, program, *call)
        said: list[Any] = await pipeline.execute(raise_on_error=False)
        return said

    def _connected(self) -> Any:
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        options: dict[str, Any] = {
            "socket_timeout": self._bound,
            "socket_connect_timeout": self._bound,
            # Who is tried again is said by the breaker.
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
        if self._cluster:
            return self._library.RedisCluster.from_url(self._url, **options)
        return self._library.Redis.from_url(self._url, max_connections=4, **options)

    async def _let_go(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(self._library.RedisError, OSError, RuntimeError):
                async with asyncio.timeout(self._bound):
                    await client.aclose()

    def _arguments(self, wish: Wish) -> tuple[Any, ...]:
        keys = [self._prefix + ask.key for ask in wish.asks]
        given: list[Any] = ["back" if wish.back else "take"]
        for _, quota, cost in wish.asks:
            given += spoken(quota, cost)
        return (len(keys), *keys, *given)

    def _answer(self, wish: Wish, reply: Any) -> Answer | BucketsUnavailable:
        if isinstance(reply, BaseException):
            return BucketsUnavailable(f"Redis failed: {str(reply) or type(reply).__name__}")
        seconds, microseconds, _, *found = reply
        now_ns = int(seconds) * _SECOND_NS + int(microseconds) * 1000
        states = {
            ask.key: heard(state) for ask, state in zip(wish.asks, found, strict=True) if state
        }
        return () if wish.back else answer_of(wish.asks, states, now_ns)


def spoken(quota: Quota, cost: int) -> tuple[str | int, ...]:
    """Return a quota and a cost as the script takes them; a `ValueError` for what it cannot."""
    kind = kind_of(quota)
    if kind == "g":
        taken, most = cost * quota.interval_ns, quota.burst * quota.interval_ns
        return (kind, *divmod(taken, _SECOND_NS), *divmod(most, _SECOND_NS))
    if kind == "e":
        return (kind, quota.count, cost, *divmod(quota.period_ns, _SECOND_NS))
    if quota.period_ns % 1000:
        raise ValueError(
            f"a sliding quota in Redis is for whole microseconds, not for {quota.period_ns} ns"
        )
    return (kind, quota.count, cost, quota.period_ns // 1000, 0)


def heard(text: bytes) -> State | None:
    """Return the state that the script has written; None for what it has not."""
    kind, rest = text[:1], text[1:]
    if kind == b"s":
        return Spent(*map(int, rest.split(b":")))
    instants = tuple(int(rest[at : at + _DIGITS]) for at in range(0, len(rest), _DIGITS))
    if kind == b"g":
        return instants[0]
    return instants if kind == b"e" else None


def _target(url: str) -> tuple[str, bool]:
    """Return the URL as redis-py knows it, and whether it leads to a cluster."""
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise Misuse(
            f"a store of buckets in Redis has a URL like redis://host:6379/0 or "
            f"valkey://host:6379/0, not one that begins with '{parts.scheme}:'"
        )
    options = dict(parse_qsl(parts.query))
    cluster = options.pop("cluster", "") in {"1", "true", "yes"}
    return urlunsplit(parts._replace(scheme=scheme, query=urlencode(options))), cluster


def _unknown_script(reply: Any) -> bool:
    return isinstance(reply, Exception) and "NOSCRIPT" in f"{type(reply).__name__} {reply}".upper()
