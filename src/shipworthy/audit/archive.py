"""Archives: batches of the log as files that can be checked without the database.

An archive is NDJSON, compressed with gzip (the one that every machine can read). The line of an
entry is the very text that its leaf in the ledger is the hash of, so to check an archive is to hash
its lines: they give the root of their batch, the headers give the root of the log, and that root is
signed. Beside it lies a manifest with its digest.

What opens the commitments to personal values is in a file for each person, apart from the entries:
it can be taken away without touching what is signed.
"""

import gzip
import json
import os
import zlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Final, final

from shipworthy.audit.ledger.batch import BatchHeader, LeavesInvalid
from shipworthy.audit.ledger.merkle import Frontier, leaf_hash, root_of
from shipworthy.audit.ledger.note import Checkpoint, Note, NoteInvalid, PublicKey
from shipworthy.audit.subjects import subject_digest
from shipworthy.errors import ShipworthyError

FORMAT: Final = 1
_OPENINGS: Final = "openings"
# What reading a file raises that has its digest, and is none of ours.
_NO_ARCHIVE: Final = (ValueError, LookupError, TypeError, AttributeError, EOFError, zlib.error)
_LEVEL: Final = 6


@final
class ArchiveUnusable(ShipworthyError):
    """A file that is no archive, or not the one its manifest tells of."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveManifest:
    """What lies beside an archive: which batches it has, how many entries, and its digest.

    `entries` counts lines; `written_microseconds` is the time of the newest. The file is named by
    `file`, without a folder.
    """

    format: int
    file: str
    digest: str
    bytes: int
    first_batch: int
    last_batch: int
    entries: int
    written_microseconds: int
    openings: int

    @property
    def text(self) -> str:
        """Return it as its file has it."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedBatch:
    """A batch to be written: its header as it was sealed, the lines of its entries in order, and
    what opens its commitments, as (subject, opening).
    """

    header: str
    lines: Sequence[bytes]
    openings: Sequence[tuple[str, Mapping[str, Any]]]
    written_microseconds: int


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveHead:
    """What an archive begins with: the log it is of, and the tree before its first batch."""

    origin: str
    size: int
    parts: tuple[bytes, ...]
    shapes: Mapping[int, tuple[int, str]]


def write_archive(
    folder: Path, head: ArchiveHead, batches: Iterable[ArchivedBatch], *, checkpoint: str
) -> ArchiveManifest:
    """Write batches that follow one another, and what tells of them; whole, or not at all.

    The files have their names only once they are on the disk. Openings are added to those of each
    person first: without an archive they open nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".writing-{head.size + 1}"
    last, entries, written, openings = head.size, 0, 0, 0
    with part.open("wb") as raw, gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as packed:
        _line(packed, _head_facts(head))
        for number, (table_id, facts) in head.shapes.items():
            _line(packed, {"shape": number, "table_id": table_id, "facts": facts})
        for batch in batches:
            last += 1
            _line(packed, {"batch": last, "header": batch.header, "entries": len(batch.lines)})
            for line in batch.lines:
                packed.write(line + b"\n")
            entries += len(batch.lines)
            openings += _add_openings(folder, batch.openings)
            written = max(written, batch.written_microseconds)
        _line(packed, {"end": last, "checkpoint": checkpoint})
    _on_disk(part)
    name = f"entries-{head.size + 1}-{last}.ndjson.gz"
    manifest = ArchiveManifest(
        format=FORMAT,
        file=name,
        digest=_digest(part),
        bytes=part.stat().st_size,
        first_batch=head.size + 1,
        last_batch=last,
        entries=entries,
        written_microseconds=written,
        openings=openings,
    )
    part.replace(folder / name)
    told = folder / f".writing-{name}.json"
    told.write_text(manifest.text, encoding="utf-8")
    _on_disk(told)
    told.replace(manifest_path(folder, name))
    _on_disk(folder)
    return manifest


def manifest_path(folder: Path, file: str) -> Path:
    """Return where the manifest of an archive lies."""
    return folder / f"{file.removesuffix('.ndjson.gz')}.json"


def read_manifest(folder: Path, file: str) -> ArchiveManifest:
    """Read the manifest of an archive; raises `ArchiveUnusable`."""
    path = manifest_path(folder, file)
    try:
        return ArchiveManifest(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ArchiveUnusable(f"{path.name} cannot be read: {type(error).__name__}") from None


def check_archive(
    folder: Path,
    file: str,
    *,
    keys: Sequence[PublicKey] = (),
    headers: Mapping[int, str] | None = None,
) -> list[str]:
    """Hash an archive again; return a sentence for whatever is not as it was sealed.

    `keys` are those whose signature under the checkpoint counts; `headers` are the batches as the
    database has them. With neither, the archive is only compared with itself.
    """
    try:
        manifest = read_manifest(folder, file)
        found = _digest(folder / file)
        if found != manifest.digest:
            return [f"{file} was changed: its digest is {found}, sealed was {manifest.digest}"]
        return _Check(file, keys, headers).run(folder / file)
    except ArchiveUnusable as error:
        return [str(error)]
    except OSError as error:
        return [f"{file} cannot be read: {error.strerror or type(error).__name__}"]
    except _NO_ARCHIVE as error:
        return [f"{file} is no archive of this format: {type(error).__name__}"]


def erase_archived(folder: Path, subject: str) -> int:
    """Take away what opens the commitments to a person's values; return how many there were."""
    path = _openings_path(folder, subject)
    try:
        count = path.read_bytes().count(b"\n")
        path.unlink()
    except FileNotFoundError:
        return 0
    _on_disk(path.parent)
    return count


def archived_openings(folder: Path, subject: str) -> Iterator[dict[str, Any]]:
    """Give what opens the commitments to a person's values, each once."""
    seen: set[tuple[int, str, str]] = set()
    path = _openings_path(folder, subject)
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        opening: dict[str, Any] = json.loads(line)
        place = (opening["seq"], opening["side"], opening["name"])
        if place not in seen:
            seen.add(place)
            yield opening


def forget_openings(folder: Path, seqs: Container[int]) -> int:
    """Take away what opens the commitments of these entries, whosever they are."""
    forgotten = 0
    for path in sorted((folder / _OPENINGS).glob("*/*.ndjson")):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["seq"] not in seqs]
        forgotten += len(lines) - len(kept)
        if not kept:
            path.unlink()
        elif len(kept) < len(lines):
            other = path.with_suffix(".writing")
            other.write_text("".join(kept), encoding="utf-8")
            _on_disk(other)
            other.replace(path)
    return forgotten


def read_lines(path: Path) -> Iterator[bytes]:
    """Give the lines of an archive, without their ends."""
    with gzip.open(path, "rb") as packed:
        for line in packed:
            yield line.rstrip(b"\n")


class _Check:
    """Reads an archive from its beginning to its end, hashing on the way."""

    def __init__(
        self, file: str, keys: Sequence[PublicKey], headers: Mapping[int, str] | None
    ) -> None:
        self._file = file
        self._keys = keys
        self._headers = headers
        self._problems: list[str] = []

    def run(self, path: Path) -> list[str]:
        lines = read_lines(path)
        head = json.loads(_one_of(lines))
        if head.get("format") != FORMAT:
            return [f"{self._file} has format {head.get('format')!r}; {FORMAT} is known here"]
        tree = Frontier.resumed(head["size"], [bytes.fromhex(part) for part in head["parts"]])
        ended = False
        for line in lines:
            facts = json.loads(line)
            if "batch" in facts:
                self._batch(tree, facts, [_one_of(lines) for _ in range(facts["entries"])])
            elif "end" in facts:
                ended = True
                self._end(tree, head["origin"], facts)
        if not ended:
            self._problems.append(f"{self._file} ends before its end")
        return self._problems

    def _batch(self, tree: Frontier, facts: Mapping[str, Any], lines: Sequence[bytes]) -> None:
        number, text = facts["batch"], facts["header"]
        before = tree.root().hex()
        tree.append(leaf_hash(text.encode()))
        try:
            header = BatchHeader.parse(text)
        except LeavesInvalid as error:
            self._problems.append(f"{self._file}: batch {number}: {error}")
            return
        where = f"{self._file}: batch {number}"
        if header.number != number or tree.size != number:
            self._problems.append(f"{where} does not stand at its place")
        if header.previous != before:
            self._problems.append(f"{where} names another log before itself")
        if root_of([leaf_hash(line) for line in lines]).hex() != header.root:
            self._problems.append(f"{where}: its {len(lines)} entries do not give its root")
        if self._headers is not None and self._headers.get(number) != text:
            self._problems.append(f"{where} is not the batch that the database has")

    def _end(self, tree: Frontier, origin: str, facts: Mapping[str, Any]) -> None:
        if not self._keys:
            return
        try:
            note = Note.parse(facts["checkpoint"])
            checkpoint = Checkpoint.of(note)
        except NoteInvalid as error:
            self._problems.append(f"{self._file}: its checkpoint cannot be read: {error}")
            return
        if not any(key.signed(note) for key in self._keys):
            self._problems.append(f"{self._file}: its checkpoint is signed by no key known here")
        if (checkpoint.origin, checkpoint.size, checkpoint.root) != (
            origin,
            tree.size,
            tree.root(),
        ):
            self._problems.append(f"{self._file}: its checkpoint is of another log")


def _one_of(lines: Iterator[bytes]) -> bytes:
    """Return the next line; raises `EOFError` where there is none."""
    line = next(lines, None)
    if line is None:
        raise EOFError
    return line


def _head_facts(head: ArchiveHead) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "origin": head.origin,
        "size": head.size,
        "parts": [part.hex() for part in head.parts],
    }


def _line(packed: gzip.GzipFile, facts: Mapping[str, Any]) -> None:
    packed.write(json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")


def _add_openings(folder: Path, openings: Sequence[tuple[str, Mapping[str, Any]]]) -> int:
    of_subject: dict[str, list[Mapping[str, Any]]] = {}
    for subject, opening in openings:
        of_subject.setdefault(subject, []).append(opening)
    for subject, found in of_subject.items():
        path = _openings_path(folder, subject)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            for opening in found:
                # Plain ASCII, so that whatever a value holds is one line.
                file.write(json.dumps(opening, separators=(",", ":")) + "\n")
            file.flush()
            os.fsync(file.fileno())
    return len(openings)


def _openings_path(folder: Path, subject: str) -> Path:
    digest = subject_digest(subject)
    return folder / _OPENINGS / digest[:2] / f"{digest}.ndjson"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return _digest_of(file)


def _digest_of(file: BinaryIO) -> str:
    found = sha256()
    while piece := file.read(1 << 20):
        found.update(piece)
    return found.hexdigest()


def _on_disk(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
