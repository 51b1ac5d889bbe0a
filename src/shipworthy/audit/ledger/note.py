"""Signed notes and checkpoints as text, as C2SP has them (signed-note, tlog-checkpoint).

A note is a text that people can read, an empty line, and a line for each signature of Ed25519. A
checkpoint is a note whose text names a log, its size and its root. Any program that knows these
formats can check what is written here; nothing in it is ours but the name of the log.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self, final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from typing_extensions import override

from shipworthy.errors import ShipworthyError

# The one kind of signature there is here, as the formats number it.
_ED25519: Final = b"\x01"
_PRIVATE: Final = "PRIVATE+KEY+"
_SIGNED_BY: Final = "\u2014 "  # an em dash: the format's beginning of a signature line
_ROOT_BYTES: Final = 32
# Far more than a checkpoint with the signatures of many witnesses has.
NOTE_CHARACTERS: Final = 100_000


@final
class NoteInvalid(ShipworthyError):
    """A text that is no note, checkpoint or key; the message says what is wrong with it."""


@final
@dataclass(frozen=True, slots=True)
class NoteSignature:
    """A signature line as it stands under a note; `key_id` are 4 bytes that hint at the key."""

    name: str
    key_id: bytes
    signature: bytes

    @override
    def __str__(self) -> str:
        return f"{_SIGNED_BY}{self.name} {_encoded(self.key_id + self.signature)}\n"


@final
@dataclass(frozen=True, slots=True)
class PublicKey:
    """What signatures of a key are checked with; as text it may be shown to anybody."""

    name: str
    raw: bytes

    @property
    def key_id(self) -> bytes:
        """The 4 bytes that stand before its signatures."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.raw).digest()[:4]

    @override
    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_encoded(_ED25519 + self.raw)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` gives; raises `NoteInvalid`."""
        name, key_id, rest = _parts(text.strip(), "public key")
        found = cls(name, _key_bytes(rest, "public key"))
        if found.key_id.hex() != key_id.lower():
            raise NoteInvalid(
                f"a public key of '{name}' whose id {key_id} is not that of its bytes"
            )
        return found

    def signed(self, note: "Note") -> bool:
        """Say whether one of the note's signatures is of this key."""
        key_id = self.key_id
        return any(
            self._verifies(one.signature, note.text)
            for one in note.signatures
            if one.name == self.name and one.key_id == key_id
        )

    def _verifies(self, signature: bytes, text: str) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, text.encode())
        except (InvalidSignature, ValueError):
            return False
        return True


@final
class PrivateKey:
    """What signs notes; it does not show itself, `reveal` gives the text to keep."""

    __slots__ = ("_key", "public")

    def __init__(self, name: str, seed: bytes) -> None:
        _check_name(name)
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(name, self._key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls, name: str) -> Self:
        """Make a new one."""
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `reveal` gives; raises `NoteInvalid`, whose message repeats nothing of it."""
        text = text.strip()
        if not text.startswith(_PRIVATE):
            raise NoteInvalid(f"a signing key begins with {_PRIVATE}, and this does not")
        name, key_id, rest = _parts(text.removeprefix(_PRIVATE), "signing key")
        found = cls(name, _key_bytes(rest, "signing key"))
        if found.public.key_id.hex() != key_id.lower():
            raise NoteInvalid(f"a signing key of '{name}' whose id is not that of its bytes")
        return found

    def reveal(self) -> str:
        """Return it as text, for the one place that keeps it."""
        seed = _encoded(_ED25519 + self._key.private_bytes_raw())
        return f"{_PRIVATE}{self.public.name}+{self.public.key_id.hex()}+{seed}"

    def sign(self, text: str) -> NoteSignature:
        """Sign the text of a note."""
        return NoteSignature(self.public.name, self.public.key_id, self._key.sign(text.encode()))

    @override
    def __repr__(self) -> str:
        return f"<PrivateKey of {self.public}>"


@final
@dataclass(frozen=True, slots=True)
class Note:
    """A text and its signatures; that they are good is for `PublicKey.signed` to say."""

    text: str
    signatures: tuple[NoteSignature, ...]

    @override
    def __str__(self) -> str:
        return self.text + "\n" + "".join(map(str, self.signatures))

    @classmethod
    def signed_by(cls, text: str, keys: Iterable[PrivateKey]) -> Self:
        """Make a note of `text`, which ends with a line break, signed by each of `keys`."""
        _check_text(text)
        return cls(text, tuple(key.sign(text) for key in keys))

    @classmethod
    def parse(cls, note: str) -> Self:
        """Read what `str` gives; raises `NoteInvalid`."""
        if len(note) > NOTE_CHARACTERS:
            raise NoteInvalid(f"a note of {len(note)} characters; {NOTE_CHARACTERS} are the most")
        text, found, below = note.rpartition("\n\n")
        if not found or not below.endswith("\n"):
            raise NoteInvalid("no note: a text, an empty line and signature lines were expected")
        text += "\n"
        _check_text(text)
        return cls(text, tuple(_signature(line) for line in below[:-1].split("\n")))


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a log was at one moment: how many leaves it had, and the root over them."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        """The text of its note."""
        return f"{self.origin}\n{self.size}\n{_encoded(self.root)}\n"

    def signed_by(self, keys: Iterable[PrivateKey]) -> Note:
        """Return it as a note that each of `keys` has signed."""
        return Note.signed_by(self.text, keys)

    @classmethod
    def of(cls, note: Note) -> Self:
        """Read it from a note; lines after the third are others' and left out."""
        lines = note.text.split("\n")
        if len(lines) < 4 or not lines[0]:
            raise NoteInvalid("no checkpoint: a name, a size and a root were expected, a line each")
        size = lines[1]
        if not (size.isascii() and size.isdecimal()) or (size[0] == "0" and size != "0"):
            raise NoteInvalid(f"no checkpoint: its size is {size[:40]!r}, not a whole number")
        root = _decoded(lines[2], "the root of a checkpoint")
        if len(root) != _ROOT_BYTES:
            raise NoteInvalid(f"no checkpoint: its root has {len(root)} bytes, not {_ROOT_BYTES}")
        return cls(origin=lines[0], size=int(size), root=root)


def read_notes(text: str) -> Sequence[Note]:
    """Read a file of notes, one after the other; a last one that was cut off is an error.

    Raises `NoteInvalid`.
    """
    found: list[Note] = []
    lines: list[str] = []
    below = False
    for line in text.splitlines(keepends=True):
        # A note ends before the first line after its signatures that is none.
        if below and not line.startswith(_SIGNED_BY):
            found.append(Note.parse("".join(lines)))
            lines, below = [], False
            if line == "\n":
                continue
        if not lines and line == "\n":
            continue
        lines.append(line)
        below = line.startswith(_SIGNED_BY)
    if lines:
        found.append(Note.parse("".join(lines)))
    return found


def _signature(line: str) -> NoteSignature:
    name, found, rest = line.removeprefix(_SIGNED_BY).partition(" ")
    if not line.startswith(_SIGNED_BY) or not found or not name:
        raise NoteInvalid(f"no signature line: {line[:80]!r}")
    raw = _decoded(rest, f"the signature of '{name}'")
    if len(raw) < 5:
        raise NoteInvalid(f"the signature of '{name}' has {len(raw)} bytes, which is too few")
    return NoteSignature(name, raw[:4], raw[4:])


def _check_name(name: str) -> None:
    if not name or "+" in name or any(letter.isspace() for letter in name):
        raise NoteInvalid(f"a key has a name without blanks and plus signs, not {name!r}")


def _check_text(text: str) -> None:
    if not text.endswith("\n") or any(letter < " " and letter != "\n" for letter in text):
        raise NoteInvalid("the text of a note ends with a line break and has no control characters")


def _parts(text: str, what: str) -> tuple[str, str, str]:
    parts = text.split("+", 2)
    if len(parts) != 3 or not all(parts):
        raise NoteInvalid(f"no {what}: a name, an id and the key were expected, with + between")
    _check_name(parts[0])
    return parts[0], parts[1], parts[2]


def _key_bytes(text: str, what: str) -> bytes:
    raw = _decoded(text, f"a {what}")
    if raw[:1] != _ED25519 or len(raw) != 33:
        raise NoteInvalid(f"a {what} that is not of Ed25519")
    return raw[1:]


def _encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decoded(text: str, what: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NoteInvalid(f"{what} is not base64") from None
