"""The peers' arms, each set up as its own manual shows."""

import asyncio

import pybreaker
import stamina
import tenacity
from calls import Arm, work, work_async
from circuitbreaker import circuit
from purgatory import AsyncCircuitBreakerFactory, SyncCircuitBreakerFactory


def fail() -> None:
    """Fail as a target that is away."""
    raise ConnectionRefusedError


def opened(call):
    """Call until the breaker is open."""
    for _ in range(10):
        try:
            call()
        except Exception:  # noqa: BLE001 - that is what it is for
            continue
    return call


def arms() -> dict[str, Arm]:
    """Return the calls to compare."""
    retry = tenacity.retry(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_random_exponential(0.05, 2),
        retry=tenacity.retry_if_exception_type(OSError),
    )
    stamina_retry = stamina.retry(on=OSError, attempts=3)
    purgatory = SyncCircuitBreakerFactory()
    purgatory_async = AsyncCircuitBreakerFactory()
    purgatory_circuit = asyncio.run(_entered(purgatory_async))
    return {
        "tenacity": Arm("sync", retry(work)),
        "stamina": Arm("sync", stamina_retry(work)),
        "pybreaker": Arm("sync", pybreaker.CircuitBreaker()(work)),
        "purgatory": Arm("sync", purgatory("sync")(work)),
        "circuitbreaker": Arm("sync", circuit()(work)),
        "tenacity around pybreaker": Arm("sync", retry(pybreaker.CircuitBreaker()(work))),
        "tenacity, async": Arm("async", retry(work_async)),
        "stamina, async": Arm("async", stamina_retry(work_async)),
        "purgatory, async": Arm("async", purgatory_circuit(work_async)),
        "circuitbreaker, async": Arm("async", circuit()(work_async)),
        "pybreaker, rejected": Arm("rejected", opened(pybreaker.CircuitBreaker()(fail))),
        "purgatory, rejected": Arm("rejected", opened(purgatory("away")(fail))),
        "circuitbreaker, rejected": Arm("rejected", opened(circuit()(fail))),
    }


async def _entered(factory):
    return factory("async")
