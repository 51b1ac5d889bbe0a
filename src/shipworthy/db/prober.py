"""Ask databases how they are, on connections of their own, so that no request has to find out.

A database that readiness depends on is asked all the time; any other only while its breaker is not
closed, so that the first call that is sent there again is not a request's. Each server is asked
once how many connections it has, when the first of its pools has been used.

Not here: whether a request may go (`breaking`), and what failing makes of readiness (`lifecycle`).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, cast, final
from weakref import WeakKeyDictionary

from shipworthy.clock import SYSTEM_CLOCK
from shipworthy.db.dialects.slots import server_slots
from shipworthy.db.install import protections_here, successors_here, workers_here
from shipworthy.db.slots import PoolOnServer, PoolsExceedServer, pool_excesses
from shipworthy.events import emit
from shipworthy.lifecycle import Check
from shipworthy.resilience import BreakerState

if TYPE_CHECKING:
    from shipworthy.db.guard import Protection

# A database that is gone turns readiness after two answers: 2 x (0.5 + 1) s, below 5 s.
INTERVAL_SECONDS = 0.5
TIMEOUT_SECONDS = 1.0
THREAD = "shipworthy-db-probe"
# How long to wait where a server did not say how many connections it has.
SLOTS_AGAIN_SECONDS = 30.0
# Set by hand, or by settings: what the prober finds changes nothing there.
_SETTLED = frozenset({BreakerState.CLOSED, BreakerState.DISABLED, BreakerState.METRICS_ONLY})


@final
class Prober:
    """Adds a health check for each database under guard, as they come; of one event loop.

    `required` are names of databases without which the service is not ready: one that nobody has
    made yet fails too. The others' checks decide nothing, and stand in `/health`.
    """

    def __init__(self, required: tuple[str, ...], add_check: Callable[[Check], None]) -> None:
        self._required = frozenset(required)
        self._add_check = add_check
        self._known: set[str] = set()
        self._asked: dict[str, _Asked] = {}
        # By protection: its server's connections and place once known, and when to ask again.
        self._slots: WeakKeyDictionary[Protection, tuple[int, str]] = WeakKeyDictionary()
        self._slots_at: WeakKeyDictionary[Protection, float] = WeakKeyDictionary()
        self._said: set[tuple[str, ...]] = set()
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look for databases."""
        for name in sorted(self._required):
            self._watch(name)
        self._looking = asyncio.create_task(self._look(), name="databases")

    async def stop(self) -> None:
        """Look no more, and let go of the connections."""
        if self._looking is not None:
            self._looking.cancel()
            # It may be asking; what it has opened is closed by it.
            await asyncio.wait({self._looking}, timeout=2 * TIMEOUT_SECONDS)
        for asked in self._asked.values():
            await asked.close()

    async def _look(self) -> None:
        while True:
            here = protections_here()
            for protection in here:
                self._watch(protection.name)
            for protection in here:
                if self._wants_slots(protection):
                    await self._ask_slots(protection)
                    self._compare()
            await asyncio.sleep(INTERVAL_SECONDS)

    def _wants_slots(self, protection: "Protection") -> bool:
        used = protection.name in self._required or protection.statistics().checkouts
        return bool(
            used
            and protection not in self._slots
            and server_slots(protection.dialect_name) is not None
            and self._slots_at.get(protection, 0.0) <= SYSTEM_CLOCK.now()
        )

    async def _ask_slots(self, protection: "Protection") -> None:
        """Ask how many connections its server has; one that does not say is asked again later."""
        self._slots_at[protection] = SYSTEM_CLOCK.now() + SLOTS_AGAIN_SECONDS
        counted = server_slots(protection.dialect_name)
        assert counted is not None  # whoever calls has looked
        asked = _Asked(protection)
        try:
            slots, place = await asked.values((counted.slots, counted.place))
            self._slots[protection] = (int(slots), f"{protection.dialect_name} {place}")
        except Exception:  # noqa: BLE001 - that it cannot be reached is for its check to say
            return
        finally:
            await asked.close()

    def _compare(self) -> None:
        """Say once of each row of pools that they may ask their server for too much."""
        known = {one: self._slots[one] for one in protections_here() if one in self._slots}
        pools = [
            PoolOnServer(
                name=one.name, capacity=one.statistics().capacity, slots=slots, place=place
            )
            for one, (slots, place) in known.items()
        ]
        excesses = pool_excesses(pools, workers_here(), besides=successors_here())
        for one in known:
            one.exceeds = next((it.because for it in excesses if one.name in it.names), "")
        for it in excesses:
            if it.names not in self._said:
                self._said.add(it.names)
                emit(
                    PoolsExceedServer,
                    database=", ".join(it.names),
                    wanted=it.wanted,
                    allowed=it.allowed,
                    workers=it.workers,
                    because=it.because,
                )

    def _watch(self, name: str) -> None:
        if name in self._known:
            return
        self._known.add(name)
        self._add_check(
            Check(
                f"database {name}",
                partial(self._ask, name),
                kinds=frozenset({"ready"} if name in self._required else ()),
                interval_seconds=INTERVAL_SECONDS,
                timeout_seconds=TIMEOUT_SECONDS + 0.5,  # the watchdog is first, and says more
            )
        )

    async def _ask(self, name: str) -> str | None:
        protection = next((one for one in protections_here() if one.name == name), None)
        required = name in self._required
        if protection is None:
            known = ", ".join(one.name for one in protections_here()) or "none"
            return f"no engine of that name was made; there is {known}" if required else None
        breaker = protection.breaking.breaker
        closed = breaker.state in _SETTLED
        if closed and not required:
            return None
        asked = self._asked.get(name)
        if asked is None or asked.protection is not protection:
            asked = self._asked[name] = _Asked(protection)
        try:
            await asked.ask()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            breaker.probe_failed()
            return f"{type(error).__name__}: {error}"
        breaker.probe_ok()
        if not required:
            await asked.close()
        return None if closed else f"it answers; its breaker is {breaker.state}"


class _Asked:
    """The connection of one database that is asked, kept between two questions."""

    def __init__(self, protection: "Protection") -> None:
        self.protection = protection
        self._connection: Any = None
        self._threads: ThreadPoolExecutor | None = None

    async def ask(self) -> None:
        """Ask, on a new connection if there is none; raises what the driver raises."""
        if self._connection is None:
            self._connection = self.protection.own_connection()
        try:
            await self._run(self._connection.ping, TIMEOUT_SECONDS)
        except BaseException:
            await self.close()
            raise

    async def values(self, statements: tuple[str, ...]) -> list[Any]:
        """Return what the server answers to each of them, on a new connection."""
        self._connection = self.protection.own_connection()
        found = await self._run(self._connection.ask, statements, TIMEOUT_SECONDS)
        return cast("list[Any]", found)

    async def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        try:
            if connection is not None:
                await self._run(connection.close)
        finally:  # also when who closes is cancelled: what it has begun, the thread ends
            if self._threads is not None:
                self._threads.shutdown(wait=False)
                self._threads = None

    async def _run(self, work: Callable[..., object], *args: Any) -> object:
        if self.protection.awaits:
            from sqlalchemy.util import greenlet_spawn

            return await greenlet_spawn(work, *args)
        # A thread of our own: the executor of the loop may be full of those that wait for us.
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix=THREAD)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, work, *args)
