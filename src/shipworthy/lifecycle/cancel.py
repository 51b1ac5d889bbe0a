"""Cancel a task as a process that leaves does it: once, and never inside a COMMIT."""

import asyncio
from collections.abc import Hashable
from typing import Any
from weakref import WeakSet

from shipworthy.lifecycle.fence import refuse_commits

# A second cancellation would strike what the task does because of the first: its rollback, say.
_cancelled: WeakSet[asyncio.Task[Any]] = WeakSet()


def cancel_outside_commits(task: "asyncio.Task[Any]", *works: Hashable) -> bool:
    """Cancel `task` unless a COMMIT of `works` is under way; False while one is: ask again.

    A task is cancelled once, however often this is called and by whom. After True no COMMIT of
    `works` begins any more, not in a thread of theirs either, until they are forgotten
    (`fence.forget`). From any thread.
    """
    if not refuse_commits(*works):
        return False
    if task not in _cancelled:
        _cancelled.add(task)
        loop = task.get_loop()
        if loop is asyncio._get_running_loop():  # noqa: SLF001 - get_running_loop raises
            task.cancel("shutdown")
        elif not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel, "shutdown")
    return True
