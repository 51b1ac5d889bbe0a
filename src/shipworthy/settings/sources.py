"""Where settings are written: the file, its profiles, the environment, secret files, flags.

Everything here collects what was said, by whom and where; nothing is decided. Problems are
sentences added to a list, so that all of them are reported at once.
"""

import re
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from shipworthy.settings.convert import nearest
from shipworthy.settings.declare import ENVIRONMENTS, Environment, Kind, Option
from shipworthy.settings.lines import Keys, lines_of
from shipworthy.units import format_size

FILE_BYTES = 2**20
SECRET_BYTES = 2**16
# Sections of rooms that stand above `harden`: where those are not loaded, under another server,
# their keys are not ours to judge.
ELSEWHERE = frozenset({"monitoring", "operations", "outbound", "serve"})

# What Kubernetes sets for every service of a namespace, so also for one called "shipworthy".
_KUBERNETES = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")


@final
@dataclass(frozen=True, slots=True)
class Said:
    """One value as somebody wrote it: TOML's from a file, text from everywhere else."""

    key: str
    raw: Any
    origin: str
    is_text: bool


@final
@dataclass(frozen=True, slots=True)
class Document:
    """A settings file as read: its table of sections, the line of each path, its mode bits."""

    name: str
    table: Mapping[str, Any]
    lines: Mapping[Keys, int]
    prefix: Keys
    mode: int

    def place(self, path: Keys) -> str:
        """Return `shipworthy.toml:12`, the place of a path below our table."""
        return f"{self.name}:{self.lines[*self.prefix, *path]}"


def read_document(file: Path | None, directory: Path, problems: list[str]) -> Document | None:
    """Read `file`, else `shipworthy.toml` of `directory`, else its `pyproject.toml`."""
    if file is not None:
        return _parsed(file, str(file), problems, asked_for=True)
    for name in ("shipworthy.toml", "pyproject.toml"):
        if (directory / name).exists():
            return _parsed(directory / name, name, problems, asked_for=False)
    return None


def table_names(
    option: Option,
    document: Document | None,
    environment: Environment,
    environ: Mapping[str, str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the tables that `option` accepts, and those of other environments only.

    In the order in which they are written: by default, in the file, its profile, in variables.
    """
    path = option.key.split(".")
    tables = document.table if document else {}
    profiles = _below(tables, "profile")
    begins = f"{option.variable}__"
    chosen = [
        *option.default,
        *_below(tables, *path),
        *_below(profiles, environment, *path),
        *(
            name.removeprefix(begins).partition("__")[0].lower()
            for name in sorted(environ)
            if name.startswith(begins)
        ),
    ]
    others = [name for other in ENVIRONMENTS for name in _below(profiles, other, *path)]
    return tuple(dict.fromkeys(chosen)), tuple(set(others) - set(chosen))


def _below(table: Any, *path: str) -> Mapping[str, Any]:
    """Return the tables below a path, none where there is something else."""
    for name in path:
        table = table.get(name) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        return {}
    return {name: value for name, value in table.items() if isinstance(value, dict)}


def said_in_document(
    document: Document,
    environment: Environment,
    options: Mapping[str, Option],
    problems: list[str],
) -> tuple[list[Said], list[Said]]:
    """Return what the file says, in the order it holds, and what its other profiles say.

    What the other profiles say counts for nothing today, and is checked all the same.
    """
    tables = dict(document.table)
    profiles = tables.pop("profile", {})
    chosen = list(_said(document, (), tables, options, problems))
    others: list[Said] = []
    if not isinstance(profiles, dict):
        problems.append(
            f"profile: expected tables such as [profile.production.serve] "
            f"(from {document.place(('profile',))})"
        )
        profiles = {}
    for name, table in profiles.items():
        path = ("profile", name)
        if name not in ENVIRONMENTS:
            problems.append(
                f"[profile.{name}]: no such environment{nearest(name, ENVIRONMENTS)}; there are "
                f"{', '.join(ENVIRONMENTS)} (from {document.place(path)})"
            )
        elif not isinstance(table, dict):
            problems.append(
                f"profile.{name}: expected tables such as [profile.{name}.serve] "
                f"(from {document.place(path)})"
            )
        else:
            (chosen if name == environment else others).extend(
                _said(document, path, table, options, problems)
            )
    return chosen, others


def said_in_environment(
    environ: Mapping[str, str], options: Mapping[str, Option], problems: list[str]
) -> tuple[list[Said], list[str]]:
    """Return what `SHIPWORTHY_*` variables say, and notes about the secret files they name."""
    by_variable = {option.variable: option for option in options.values()}
    elsewhere = ELSEWHERE - {key.rpartition(".")[0] for key in options}
    foreign = tuple(f"SHIPWORTHY_{name.upper()}__" for name in elsewhere)
    said: list[Said] = []
    notes: list[str] = []
    for variable in sorted(name for name in environ if name.startswith("SHIPWORTHY_")):
        text = environ[variable]
        if option := by_variable.get(variable):
            # Compose files pass on a variable that is not set as an empty one.
            if text or option.kind is not Kind.SECRET:
                said.append(Said(option.key, text, variable, is_text=True))
        elif option := by_variable.get(variable.removesuffix("_FILE")):
            said += _said_in_secret_file(option, variable, environ, problems, notes)
        elif not (variable.startswith(foreign) or _is_known_elsewhere(variable, text)):
            known = [*by_variable, "SHIPWORTHY_ENV"]
            problems.append(f"{variable}: no such setting{nearest(variable, known)}")
    return said, notes


def said_on_command_line(
    overrides: Mapping[str, str], options: Mapping[str, Option], problems: list[str]
) -> list[Said]:
    """Return what flags say; `overrides` maps keys to text."""
    problems += [
        f"{key}: no such setting{nearest(key, options)}" for key in overrides if key not in options
    ]
    return [
        Said(key, text, options[key].flag, is_text=True)
        for key, text in overrides.items()
        if key in options
    ]


def open_to_all(mode: int) -> str:
    """Return what is to be said of a file with a secret in it that everybody may read, or ''."""
    if not mode & stat.S_IROTH:
        return ""
    return f"every user of this machine can read it (mode {stat.S_IMODE(mode):o}): chmod 600"


def _parsed(file: Path, name: str, problems: list[str], *, asked_for: bool) -> Document | None:
    content, mode, text = b"", 0, ""
    try:
        content, mode = _content(file, FILE_BYTES)
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
        table, lines = tomllib.loads(text), lines_of(text)
    except _Unusable as unusable:
        problems.append(f"settings file {name}: {unusable}")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.append(f"{name}:{line}: not UTF-8 text; save the file as UTF-8")
    except tomllib.TOMLDecodeError as error:
        problems.append(_syntax(name, text, str(error)))
    except (ValueError, RecursionError) as error:
        # Valid TOML that Python cannot hold: a number of 5,000 digits, arrays 1,000 deep.
        problems.append(f"settings file {name}: cannot be read: {error}")
    else:
        if file.name != "pyproject.toml":
            return Document(name, table, lines, (), mode)
        tool = table.get("tool")
        ours = tool.get("shipworthy") if isinstance(tool, dict) else None
        if isinstance(ours, dict):
            return Document(name, ours, lines, ("tool", "shipworthy"), mode)
        if ours is not None or asked_for:
            problems.append(f"settings file {name}: has no table [tool.shipworthy]")
    return None


def _syntax(name: str, text: str, message: str) -> str:
    what, _, where = message.partition(" (at ")
    place = re.match(r"line (\d+), column (\d+)", where)
    line = int(place[1]) if place else text.count("\n") + 1
    column = f" (column {place[2]})" if place else " (at the end)"
    return f"{name}:{line}: no valid TOML: {what[:1].lower()}{what[1:]}{column}"


def _said(
    document: Document,
    path: Keys,
    table: Mapping[str, Any],
    options: Mapping[str, Option],
    problems: list[str],
) -> Iterator[Said]:
    known = {key.rpartition(".")[0] for key in options}
    foreign = ELSEWHERE - known
    strange: set[str] = set()
    for leaf, raw in _leaves((), table):
        key, above = ".".join(leaf), ".".join(leaf[:-1])
        origin = document.place((*path, *leaf))
        if key in options:
            yield Said(key, raw, origin, is_text=False)
        elif leaf[0] in foreign or leaf[0] in strange or (raw == {} and _opens(key, known)):
            continue
        elif key in known:
            problems.append(
                f"{key}: is a section; write its settings below [{key}] (from {origin})"
            )
        elif any(_opens(name, {above}) for name in known) or not (above or raw == {}):
            problems.append(f"{key}: no such setting{nearest(key, options)} (from {origin})")
        else:
            # One sentence for a misspelt section, not one for each of its settings.
            strange.add(leaf[0])
            place = document.place((*path, leaf[0]))
            problems.append(f"[{leaf[0]}]: no such section{nearest(leaf[0], known)} (from {place})")


def _opens(path: str, names: Iterable[str]) -> bool:
    """Is `path` one of `names`, or does one of them lie below it?"""
    return any(f"{name}.".startswith(f"{path}.") for name in names)


def _leaves(path: Keys, table: Mapping[str, Any]) -> Iterator[tuple[Keys, Any]]:
    for name, value in table.items():
        if isinstance(value, dict) and value:
            yield from _leaves((*path, name), value)
        else:
            yield (*path, name), value


class _Unusable(Exception):
    """A file whose content cannot be had; the text says why."""


def _content(file: Path, limit_bytes: int) -> tuple[bytes, int]:
    try:
        mode = file.stat().st_mode
        # A pipe or a device could keep us waiting for ever.
        if not stat.S_ISREG(mode):
            raise _Unusable("is not a regular file")
        with file.open("rb") as stream:
            content = stream.read(limit_bytes + 1)
    except FileNotFoundError:
        raise _Unusable("does not exist") from None
    except OSError as error:
        raise _Unusable(f"cannot be read: {error.strerror}") from None
    if len(content) > limit_bytes:
        raise _Unusable(f"is larger than {format_size(limit_bytes)}")
    return content, mode


def _said_in_secret_file(
    option: Option,
    variable: str,
    environ: Mapping[str, str],
    problems: list[str],
    notes: list[str],
) -> list[Said]:
    path = environ[variable]
    file = f"{option.key}: secret file {path}"
    if option.kind is not Kind.SECRET:
        problems.append(f"{variable}: only secrets are read from files; set {option.variable}")
        return []
    if environ.get(option.variable):
        problems.append(f"{option.key}: set by {option.variable} and by {variable}; unset one")
    try:
        content, mode = _content(Path(path), SECRET_BYTES)
        # Editors end a file with a line break that is no part of the secret.
        text = content.decode().rstrip("\r\n")
    except _Unusable as unusable:
        problems.append(f"{file} {unusable} (from {variable})")
        return []
    except UnicodeDecodeError:
        problems.append(f"{file} is not UTF-8 text (from {variable})")
        return []
    if not text:
        problems.append(f"{file} is empty (from {variable})")
    if remark := open_to_all(mode):
        notes.append(f"{file}: {remark}")
    return [Said(option.key, text, variable, is_text=True)]


def _is_known_elsewhere(variable: str, text: str) -> bool:
    return (
        variable == "SHIPWORTHY_ENV"
        or _KUBERNETES.fullmatch(variable) is not None
        or (variable.endswith("_PORT") and text.startswith(("tcp://", "udp://", "sctp://")))
    )
