"""What is too much inside of a body, found while its bytes pass, without parsing it. Pure.

Each scanner takes the parts of a body in their order, however they were cut, keeps some hundred
bytes of them at most, and does its work in C: what it costs is a small part of what a parser does.

Not here: what is compressed (`body_decode`), and what follows from what is found (`body`).
"""

import codecs
import json
import re
from itertools import accumulate
from typing import Final, NamedTuple, Protocol, final

from shipworthy.units import format_size

# As long may a boundary be (RFC 2046, 5.1.1).
BOUNDARY_BYTES: Final = 70

_DIGITS: Final = b"0123456789"
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_STEPS: Final = {ord("["): 1, ord("]"): -1}
# Fewer levels than these are not counted in pieces of so many brackets, but bracket by bracket.
_ROOM: Final = 64
_EXACT: Final = 1024
_LEADING: Final = re.compile(rb"[0-9]*")
# Parsers differ in what ends a line, so all that any of them takes does.
_HEAD_END: Final = re.compile(rb"\r\n\r\n|\n\r?\n|\r\r")


class Finding(NamedTuple):
    """What is too much: the rule that says so, and why in words for the client."""

    rule: str
    because: str


class Scanner(Protocol):
    """Looks at a body in parts."""

    def feed(self, part: bytes) -> Finding | None:
        """Look at the next part; what was found once is found again, or not: feed it no more."""
        ...


@final
class JsonScanner:
    """Finds JSON that is nested deeper than `depth`, or has more than `digits` digits in a row.

    It says nothing of what is no JSON: a parser does. UTF-16 and UTF-32 are read too, because
    Python's parser does.
    """

    def __init__(self, *, depth: int, digits: int) -> None:
        self._limit = depth
        self._digits_max = digits
        self._depth = 0
        self._in_string = False
        # A backslash that ended the last part: the next byte belongs to it.
        self._escapes = False
        # Digits at the end of what was seen, outside of strings.
        self._run = 0
        self._begun = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._plain = False

    def feed(self, part: bytes) -> Finding | None:
        """Look at the next part."""
        if not self._plain:
            part = self._recoded(part)
        if self._escapes and part:
            part = part.removeprefix(b"\\") if part[0] == 0x5C else part.removeprefix(b'"')
            self._escapes = False
        if b"\\" in part:
            # In pairs from the left, as a parser takes them.
            part = part.replace(b"\\\\", b"").replace(b'\\"', b"")
            self._escapes = part.endswith(b"\\")
        if not part:
            return None
        return self._too_long(part) or self._too_deep(part)

    def _recoded(self, part: bytes) -> bytes:
        """Return what came so far as UTF-8, nothing while its first bytes do not say what it is."""
        if self._decoder is None:
            self._begun += part
            if len(self._begun) < 4:
                return b""
            part, self._begun = self._begun, b""
            encoding = json.detect_encoding(part)
            if encoding.startswith("utf-8"):
                self._plain = True
                return part
            self._decoder = codecs.getincrementaldecoder(encoding)("replace")
        return self._decoder.decode(part).encode("utf-8", "replace")

    def _too_deep(self, part: bytes) -> Finding | None:
        # What stands in a string goes with its quotes; most have no bracket between them.
        marks = part.translate(_ONE_KIND, _NO_BRACKETS).replace(b'""', b"")
        if b'"' in marks:
            pieces = marks.split(b'"')
            marks = b"".join(pieces[self._in_string :: 2])
            self._in_string ^= len(pieces) % 2 == 0
        elif self._in_string:
            return None
        at = 0
        while at < len(marks):
            room = self._limit - self._depth
            piece = marks[at : at + (room if room >= _ROOM else _EXACT)]
            # So few brackets cannot be too deep, in whatever order they come.
            if len(piece) > room:
                deepest = max(accumulate(map(_STEPS.__getitem__, piece), initial=self._depth))
                if deepest > self._limit:
                    return Finding(
                        "json-depth", f"this JSON is nested more than {self._limit} deep"
                    )
            # More ends than beginnings are no JSON.
            self._depth = max(0, self._depth + 2 * piece.count(b"[") - len(piece))
            at += len(piece)
        return None

    def _too_long(self, part: bytes) -> Finding | None:
        """Look for a run of digits, at every so many bytes: a longer one cannot miss all of them.

        It must be called before `_too_deep`, which changes what is known of strings.
        """
        limit = self._digits_max
        leading = len(_LEADING.match(part)[0])  # type: ignore[index]  # it matches nothing, too
        found = not self._in_string and self._run + leading > limit
        at = limit
        while not found and at < len(part):
            if part[at] in _DIGITS:
                start = len(part[:at].rstrip(_DIGITS))
                end = _LEADING.match(part, at).end()  # type: ignore[union-attr]
                found = end - start > limit and not self._ends_in_string(part[:start])
            at += limit
        if found:
            return Finding("json-digits", f"a number of this JSON has more than {limit} digits")
        trailing = len(part) - len(part.rstrip(_DIGITS))
        if not trailing or self._ends_in_string(part):
            self._run = 0
        else:
            self._run = self._run + trailing if trailing == len(part) else trailing
        return None

    def _ends_in_string(self, part: bytes) -> bool:
        return self._in_string ^ (part.count(b'"') % 2 == 1)


@final
class FieldScanner:
    """Finds a form (urlencoded) of more than `fields` fields."""

    def __init__(self, *, fields: int) -> None:
        self._limit = fields
        self._seen = 1

    def feed(self, part: bytes) -> Finding | None:
        """Look at the next part."""
        self._seen += part.count(b"&")
        if self._seen <= self._limit:
            return None
        return Finding("fields", f"this form has more than {self._limit} fields")


@final
class PartScanner:
    """Finds an upload (multipart) of more than `parts` parts, or a part with a longer head.

    What begins a line and is the boundary begins a part, whichever of the ends of lines that
    parsers know is before it.
    """

    def __init__(self, boundary: bytes, *, parts: int, head_bytes: int) -> None:
        self._delimiter = b"--" + boundary
        self._parts_max = parts
        self._head_bytes_max = head_bytes
        self._seen = 0
        # How much of the head was seen already, None outside of one.
        self._head_bytes: int | None = None
        # What may be the beginning of what is looked for. A body begins with a line.
        self._kept = b"\n"

    def feed(self, part: bytes) -> Finding | None:
        """Look at the next part."""
        data = self._kept + part
        # Before a delimiter there is a byte that is looked at.
        at = 1 if self._head_bytes is None else 0
        while True:
            if self._head_bytes is None:
                begins = self._begins(data, at)
                if begins < 0:
                    self._kept = data[max(at - 1, len(data) - len(self._delimiter) - 2) :]
                    return None
                at = begins + len(self._delimiter)
                if data.startswith(b"--", at):
                    continue  # the last one, which has no head
                self._seen += 1
                if self._seen > self._parts_max:
                    return Finding("parts", f"this upload has more than {self._parts_max} parts")
                self._head_bytes = 0
            end = _HEAD_END.search(data, at)
            # The last three bytes may belong to its end.
            until = end.start() if end else max(at, len(data) - 3)
            self._head_bytes += until - at
            if self._head_bytes > self._head_bytes_max:
                because = (
                    f"a part of this upload has a head of over {format_size(self._head_bytes_max)}"
                )
                return Finding("part-head", because)
            if end is None:
                self._kept = data[until:]
                return None
            # The end of the head is the end of a line, too.
            self._head_bytes, at = None, end.end()

    def _begins(self, data: bytes, at: int) -> int:
        """Return where the next delimiter is of which all is there that tells what it is."""
        size = len(self._delimiter)
        while True:
            begins = data.find(self._delimiter, at)
            if begins < 0 or begins + size + 2 > len(data):
                return -1
            if data[begins - 1] in b"\r\n":
                return begins
            at = begins + 1
