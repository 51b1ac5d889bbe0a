"""Ask databases how they are, on connections of their own, so that no request has to find out.

A database that readiness depends on is asked all the time; any other only while its breaker is not
closed, so that the first call that is sent there again is not a request's.

Not here: whether a request may go (`breaking`), and what failing makes of readiness (`lifecycle`).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, final

from shipworthy.db.install import protections_here
from shipworthy.lifecycle import Check
from shipworthy.resilience import BreakerState

if TYPE_CHECKING:
    from shipworthy.db.guard import Protection

# A database that is gone turns readiness after two answers: 2 x (0.5 + 1) s, below 5 s.
INTERVAL_SECONDS = 0.5
TIMEOUT_SECONDS = 1.0
THREAD = "shipworthy-db-probe"
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
        for asked in self._asked.values():
            await asked.close()

    async def _look(self) -> None:
        while True:
            for protection in protections_here():
                self._watch(protection.name)
            await asyncio.sleep(INTERVAL_SECONDS)

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

    async def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._run(connection.close)
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None

    async def _run(self, work: Callable[..., None], *args: Any) -> None:
        if self.protection.awaits:
            from sqlalchemy.util import greenlet_spawn

            await greenlet_spawn(work, *args)
            return
        # A thread of our own: the executor of the loop may be full of those that wait for us.
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix=THREAD)
        await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)
