"""Watching the code for `--reload`."""

from collections.abc import AsyncIterator
from pathlib import Path

from watchfiles import Change, PythonFilter, awatch


async def code_changes(directory: Path) -> AsyncIterator[set[tuple[Change, str]]]:
    """Yield each batch of changed Python files under `directory`; ends only when cancelled."""
    async for batch in awatch(directory, watch_filter=PythonFilter(), debounce=200, step=50):
        yield batch
