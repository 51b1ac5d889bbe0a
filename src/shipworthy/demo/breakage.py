"""Break the demo's database on purpose, for a while: an action that people start to see it.

A server stands behind a proxy that falls silent and then refuses connections. A SQLite file has
its write lock taken, by a process of its own. Both end by themselves, and with the demo.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import URL, make_url

from shipworthy.errors import ShipworthyError
from shipworthy.faults import FaultProxy, Refuse, Silence
from shipworthy.operations import Action

ACTION = "break-database"
# The silence comes first: statements that were sent meet their deadline. Then nobody listens.
SILENT_RATIO = 0.3
PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
# With these in the URL, the server is not where its host and port say, or proves its name by TLS.
_ELSEWHERE = ("host", "hostaddr", "service", "unix_socket", "ssl", "tls")


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakable:
    """Where the service finds its database, and the action that breaks it, if there is one."""

    url: str = field(repr=False)
    actions: tuple[Action, ...]


@contextmanager
def breakable(given: str) -> Iterator[Breakable]:
    """Yield the database of URL `given` as one that can be broken; whole again after the block.

    A server that is reached through a socket file, or under TLS that the URL speaks of, is left
    alone: it is yielded as it is, with no action.
    """
    url = make_url(given)
    if url.get_backend_name() == "sqlite":
        lock = partial(hold_lock, str(url.database))
        sentence = "Another process takes the write lock: changes wait, reads go on."
        yield Breakable(url=given, actions=(_action(sentence, lock),))
    elif not url.host or any(option.startswith(_ELSEWHERE) for option in url.query):
        yield Breakable(url=given, actions=())
    else:
        port = url.port or PORTS[url.get_backend_name()]
        with FaultProxy.in_thread(url.host, port) as proxy:
            sentence = "The database falls silent, then refuses connections."
            yield Breakable(
                url=_through(proxy, url), actions=(_action(sentence, partial(harm, proxy)),)
            )


async def harm(proxy: FaultProxy, seconds: float) -> None:
    """Let the server behind `proxy` fall silent and then refuse, for `seconds` in all."""
    try:
        proxy.apply(Silence())
        await asyncio.sleep(seconds * SILENT_RATIO)
        proxy.apply(Refuse())
        proxy.cut_all()
        await asyncio.sleep(seconds * (1 - SILENT_RATIO))
    finally:
        proxy.clear()


async def hold_lock(file: str, seconds: float) -> None:
    """Hold the write lock of a SQLite file for `seconds`.

    Raises `ShipworthyError` when it could not be had.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "shipworthy.demo.lock",
        file,
        "--seconds",
        str(seconds),
        "--parent",
        str(os.getpid()),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        # Ctrl-C at the terminal is for the demo, which ends this one.
        start_new_session=True,
    )
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:
            # It has written nothing, and the lock goes with the process.
            process.kill()
            await process.wait()
    if code:
        raise ShipworthyError(f"the write lock of {file} could not be had; start it again")


def _action(sentence: str, perform: Callable[[float], Coroutine[Any, Any, None]]) -> Action:
    return Action(name=ACTION, sentence=sentence, perform=perform)


def _through(proxy: FaultProxy, url: URL) -> str:
    return url.set(host=proxy.host, port=proxy.port).render_as_string(hide_password=False)
