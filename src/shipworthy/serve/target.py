"""From the text after `run` to an application object, with one clear sentence for what is wrong."""

import importlib
import sys
import tomllib
import traceback
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import CoroutineType, ModuleType, TracebackType
from typing import Any

from shipworthy.errors import StartFailed, TargetInvalid

FORMS = "module:app, module:create_app() or path/to/file.py:app"
DEFAULT_NAMES = ("app", "application")


@dataclass(frozen=True, slots=True)
class Target:
    """What to import: a module or a file, the attribute in it, and whether to call it."""

    text: str
    module: str
    file: Path | None
    attribute: str
    factory: bool


class AppRaised(StartFailed):
    """The app's own code raised while it was imported or made; `trace` starts at its first line."""

    def __init__(self, message: str, trace: str) -> None:
        self.trace = trace
        super().__init__(message)


def parse_target(text: str) -> Target:
    """Read `module:app`, `module:create_app()`, `module` or `path/to/file.py:app`.

    Raises `TargetInvalid` for anything else; touches no file and imports nothing.
    """
    place, colon, attribute = text.rpartition(":")
    if not colon:
        place, attribute = text, ""
    factory = attribute.endswith("()")
    attribute = attribute.removesuffix("()")
    if not place or (colon and not attribute):
        raise TargetInvalid(f"'{text}' names no application; write {FORMS}")
    if attribute and not all(part.isidentifier() for part in attribute.split(".")):
        raise TargetInvalid(f"'{attribute}' in '{text}' is no name in Python; write {FORMS}")
    if place.endswith(".py"):
        return Target(text, Path(place).stem, Path(place), attribute, factory)
    if "/" in place or not all(part.isidentifier() for part in place.split(".")):
        raise TargetInvalid(f"'{place}' in '{text}' is no module name; write {FORMS}")
    return Target(text, place, None, attribute, factory)


def entrypoint(directory: Path) -> str:
    """Return `[tool.fastapi] entrypoint` of the pyproject.toml in `directory`.

    Raises `TargetInvalid` when there is none: then the target must be named.
    """
    wanted = f"no application was named: write `shipworthy run {FORMS.split(',', maxsplit=1)[0]}`"
    file = directory / "pyproject.toml"
    try:
        document = tomllib.loads(file.read_text())
    except FileNotFoundError:
        raise TargetInvalid(f"{wanted} (there is no pyproject.toml in {directory})") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TargetInvalid(f"{wanted} ({file} cannot be read: {error})") from error
    found = document.get("tool", {}).get("fastapi", {}).get("entrypoint")
    if not isinstance(found, str):
        raise TargetInvalid(f"{wanted} ({file} has no [tool.fastapi] entrypoint)")
    return found


def load_target(target: Target) -> Any:
    """Import the module in this process and return the object that `target` names.

    Raises `TargetInvalid` when there is no such module, file or attribute, with the nearest right
    name; `AppRaised` when the code that was found raises.
    """
    module = _import(target)
    if not target.attribute:
        for name in DEFAULT_NAMES:
            if hasattr(module, name):
                return getattr(module, name)
        raise TargetInvalid(
            f"module '{module.__name__}' has no '{DEFAULT_NAMES[0]}' or '{DEFAULT_NAMES[1]}'; "
            f"name the application: {target.text}:NAME"
        )
    found: Any = module
    for part in target.attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise TargetInvalid(
                f"'{target.text}': {_describe(found)} has no attribute '{part}'{_near(part, found)}"
            ) from None
    if not target.factory:
        return found
    if not callable(found):
        raise TargetInvalid(f"'{target.text}': '{target.attribute}' cannot be called")
    try:
        made = found()
    except (Exception, SystemExit) as error:
        raise AppRaised(
            f"'{target.attribute}()' raised {_sentence(error)}",
            _trace(error, sys.modules[__name__]),
        ) from error
    if isinstance(made, CoroutineType):
        made.close()
        raise TargetInvalid(
            f"'{target.text}': '{target.attribute}' is a coroutine function; what makes the "
            f"application must return it when it is called, so write it without async"
        )
    return made


def _import(target: Target) -> ModuleType:
    name = target.module
    if target.file is not None:
        name = _enter_file(target.file)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module that was asked for is missing, or one that it imports itself: only the first
        # is a slip of the pen on the command line.
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise TargetInvalid(
                f"there is no module '{error.name}' (looked in {Path.cwd()} and the environment "
                f"of {sys.executable}){_near_module(name)}"
            ) from error
        raise AppRaised(
            f"importing '{name}' raised {_sentence(error)}", _trace(error, sys.modules[__name__])
        ) from error
    except (Exception, SystemExit) as error:
        raise AppRaised(
            f"importing '{name}' raised {_sentence(error)}", _trace(error, sys.modules[__name__])
        ) from error


def _enter_file(file: Path) -> str:
    """Put the file's root on sys.path and return the dotted name it is imported by."""
    if not file.is_file():
        raise TargetInvalid(f"there is no file {file} in {Path.cwd()}")
    file = file.resolve()
    names = [file.stem]
    folder = file.parent
    while (folder / "__init__.py").exists():
        names.insert(0, folder.name)
        folder = folder.parent
    sys.path.insert(0, str(folder))
    return ".".join(names)


def _trace(error: BaseException, ours: ModuleType) -> str:
    """Render the traceback from the app's first frame on; ours and importlib's say nothing."""
    shown: TracebackType | None = error.__traceback__
    while shown is not None and (
        shown.tb_frame.f_globals is ours.__dict__
        or "importlib" in shown.tb_frame.f_code.co_filename
    ):
        shown = shown.tb_next
    return "".join(traceback.format_exception(type(error), error, shown))


def _sentence(error: BaseException) -> str:
    text = str(error).strip().split("\n", 1)[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _describe(found: object) -> str:
    if isinstance(found, ModuleType):
        return f"module '{found.__name__}'"
    return f"the {type(found).__name__} before it"


def _near(part: str, found: object) -> str:
    names = get_close_matches(part, [n for n in dir(found) if not n.startswith("_")], n=1)
    if names:
        return f"; did you mean '{names[0]}'?"
    if isinstance(found, ModuleType):
        factories = [n for n in ("create_app", "make_app", "get_app") if hasattr(found, n)]
        if factories:
            return f"; it has a factory, write {found.__name__}:{factories[0]}()"
    return ""


def _near_module(name: str) -> str:
    here = [p.stem for p in Path.cwd().glob("*.py")]
    here += [p.parent.name for p in Path.cwd().glob("*/__init__.py")]
    names = get_close_matches(name.split(".", maxsplit=1)[0], here, n=1)
    return f"; did you mean '{names[0]}'?" if names else ""
