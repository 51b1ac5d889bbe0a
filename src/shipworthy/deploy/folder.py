"""A folder of generated files: the same input gives the same bytes, and nobody's work is lost.

A list in the folder says what was written. What differs from it was changed by hand, and is not
overwritten unasked. Each file is put in place whole; ended half-way, the next run goes on.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

from shipworthy.errors import Misuse, ShipworthyError

LIST_NAME: Final = ".shipworthy-generated.json"


class ChangedByHand(ShipworthyError):
    """Files would be overwritten that somebody changed; `paths` names them."""

    def __init__(self, folder: Path, paths: tuple[str, ...]) -> None:
        self.paths = paths
        super().__init__(
            f"{folder}: changed by hand since they were written: {', '.join(paths)}; nothing was "
            "written. Keep the changes elsewhere (settings, declarations), or overwrite them with "
            "--force"
        )


class FolderUnusable(Misuse):
    """The folder is somebody else's, or cannot be written to."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of the files of a folder, by path."""

    folder: str
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    unchanged: tuple[str, ...]

    @property
    def anything(self) -> bool:
        """Return whether the folder is not as it was."""
        return bool(self.added or self.changed or self.removed)


def write_folder(
    folder: Path, files: Mapping[str, str], *, force: bool = False, dry_run: bool = False
) -> Written:
    """Make a folder hold these files, and no others of those that were generated before.

    `dry_run` only says what would be done. Raises `ChangedByHand`, having written nothing, unless
    `force`; `FolderUnusable` for a folder with files that are not ours, or that cannot be written.
    """
    try:
        return _write(folder, files, force=force, dry_run=dry_run)
    except OSError as error:
        raise FolderUnusable(
            f"{error.filename or folder}: {(error.strerror or str(error)).lower()}; name a folder "
            "that can be made or written"
        ) from error


def _write(folder: Path, files: Mapping[str, str], *, force: bool, dry_run: bool) -> Written:
    known = _known(folder)
    there = {path: _digest_there(_inside(folder, path)) for path in {*files, *known}}
    wanted = {path: _digest(text.encode()) for path, text in files.items()}
    strange = tuple(
        sorted(
            path
            for path, digest in there.items()
            if digest is not None and digest not in {*known.get(path, ()), wanted.get(path)}
        )
    )
    if strange and not force:
        raise ChangedByHand(folder, strange)
    written = Written(
        folder=str(folder),
        added=tuple(sorted(path for path in files if there[path] is None)),
        changed=tuple(sorted(path for path in files if there[path] not in (None, wanted[path]))),
        removed=tuple(sorted(path for path in known if path not in files and there[path])),
        unchanged=tuple(sorted(path for path in files if there[path] == wanted[path])),
    )
    if not dry_run:
        _carry_out(folder, files, written, known, wanted)
    return written


def _carry_out(
    folder: Path,
    files: Mapping[str, str],
    written: Written,
    known: Mapping[str, tuple[str, ...]],
    wanted: Mapping[str, str],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    final = {path: [digest] for path, digest in sorted(wanted.items())}
    if written.anything:
        # Both are ours until all are in place: ended half-way, none looks changed by hand.
        both = {
            path: sorted({*known.get(path, ()), *final.get(path, ())}) for path in {*known, *final}
        }
        _put(folder / LIST_NAME, _list(both))
    for path in (*written.added, *written.changed):
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        _put(place, files[path].encode())
    for path in written.removed:
        (folder / path).unlink()
    if _list(final) != _read(folder / LIST_NAME):
        _put(folder / LIST_NAME, _list(final))


def _known(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return what was written before, by path: each digest that is ours."""
    text = _read(folder / LIST_NAME)
    if text is not None:
        try:
            listed: dict[str, Any] = json.loads(text)["files"]
            return {path: tuple(map(str, digests)) for path, digests in listed.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FolderUnusable(
                f"{folder / LIST_NAME} cannot be read, so nobody knows what is ours there; write "
                "to a new folder"
            ) from error
    if folder.is_dir() and any(folder.iterdir()):
        raise FolderUnusable(
            f"{folder} holds files and no {LIST_NAME}, so it was not written by us; name a new "
            "folder, or an empty one"
        )
    return {}


def _inside(folder: Path, path: str) -> Path:
    """Return the place of a path, which no link and no list leads out of the folder."""
    place = folder / path
    if not place.parent.resolve().is_relative_to(folder.resolve()):
        raise FolderUnusable(f"{place.parent} leads out of {folder}; take the link away")
    return place


def _put(place: Path, content: bytes) -> None:
    """Put a file in place whole, readable for all as what is configuration is."""
    handle, name = tempfile.mkstemp(prefix=".", suffix=".new", dir=place.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(place)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _list(files: Mapping[str, list[str]]) -> bytes:
    return (json.dumps({"files": dict(sorted(files.items()))}, indent=2) + "\n").encode()


def _read(place: Path) -> bytes | None:
    try:
        return place.read_bytes()
    except FileNotFoundError:
        return None


def _digest_there(place: Path) -> str | None:
    content = _read(place)
    return None if content is None else _digest(content)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
