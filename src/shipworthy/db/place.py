"""Where in the service's own code something was asked for: the line that a report names."""

import sys
import sysconfig
from contextlib import suppress
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, final

from typing_extensions import override

_OURS = str(Path(__file__).parents[1])
# Not ours to hide: the demo is an application like any other.
_DEMO = str(Path(__file__).parents[1] / "demo")
_LIBRARY = sysconfig.get_path("stdlib")
_FRAMES = 60

# Whether a file is the service's own: asked on every checkout, so it is found out once for each.
_own: dict[str, bool] = {}


@final
class Place:
    """A line of code, made into text only when somebody reads it."""

    __slots__ = ("_code", "_line")

    def __init__(self, code: CodeType | None, line: int) -> None:
        self._code = code
        self._line = line

    @override
    def __str__(self) -> str:
        if self._code is None:
            return "no line of the service"
        path = Path(self._code.co_filename)
        with suppress(OSError, ValueError):  # a folder that was removed; a file elsewhere
            path = path.relative_to(Path.cwd())
        return f"{path}:{self._line} in {self._code.co_name}"

    __repr__ = __str__


NOWHERE = Place(None, 0)


def here() -> Place:
    """Return the innermost line of the service's own code that led here.

    In an async engine SQLAlchemy runs in a greenlet of its own, so the service's frames are not on
    this stack but on that of the greenlet's parent.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - there is no other way to look up
    place = _first_own(frame)
    if place is None:
        parent = _parent_frame()
        place = None if parent is None else _first_own(parent)
    return place or NOWHERE


def stands(thread: int) -> Place:
    """Return the innermost line of the service's own code that `thread` runs now."""
    return _first_own(sys._current_frames().get(thread)) or NOWHERE  # noqa: SLF001


def _parent_frame() -> FrameType | None:
    greenlet: Any = sys.modules.get("greenlet")
    if greenlet is None:
        return None
    parent = greenlet.getcurrent().parent
    return None if parent is None else parent.gr_frame


def _first_own(frame: FrameType | None) -> Place | None:
    for _ in range(_FRAMES):
        if frame is None:
            return None
        code = frame.f_code
        name = code.co_filename
        own = _own.get(name)
        if own is None:
            own = _own[name] = _is_own(name)
        if own:
            return Place(code, frame.f_lineno)
        frame = frame.f_back
    return None


def _is_own(path: str) -> bool:
    if path.startswith(_DEMO):
        return True
    if "site-packages" in path or "dist-packages" in path or path.startswith((_OURS, "<")):
        return False
    return not path.startswith(_LIBRARY)
