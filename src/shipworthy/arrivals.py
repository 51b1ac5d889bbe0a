"""Notice that a library has been imported, without importing it: what `run` guards comes later.

An application is imported after us, and brings what we guard with it. Who never uses a library
must not pay for its import.
"""

import importlib.util
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, final

from typing_extensions import override


@final
class Arrivals(MetaPathFinder):
    """Tells `tell` once for each module of `names`: at `begin` if it is there, else on import.

    It is told in the thread that imports, when the module has been executed; what `tell` raises is
    raised by that import, so it had better not. A module whose import fails is waited for again.
    """

    def __init__(self, names: Iterable[str], tell: Callable[[ModuleType], None]) -> None:
        self._awaited = set(names)
        self._asking: set[tuple[str, int]] = set()
        self._tell = tell

    def begin(self) -> None:
        """Tell of what is imported already, and wait for the rest."""
        here = sorted(self._awaited & sys.modules.keys())
        self._awaited -= set(here)
        sys.meta_path.insert(0, self)
        for name in here:
            self._tell(sys.modules[name])

    def end(self) -> None:
        """Wait for nothing any more; twice is once."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    @override
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find nothing: only look who is asked for."""
        asking = (fullname, threading.get_ident())
        if fullname not in self._awaited or asking in self._asking:
            return None
        self._asking.add(asking)  # so that the question below does not come back to us
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._asking.discard(asking)
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            # The loader itself stays what it is: only this one call of it is followed. That of a
            # zip file is the same for each question, and for all modules in there.
            loader.__dict__.pop("exec_module", None)
            execute(module)
            # Only now: whoever asks for the spec need not import it.
            if module.__name__ == fullname and fullname in self._awaited:
                self._awaited.discard(fullname)
                self._tell(module)

        loader.exec_module = exec_module
        return spec
