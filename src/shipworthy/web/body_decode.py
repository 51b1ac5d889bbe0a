"""What a compressed body becomes, measured window by window and thrown away.

Nobody's memory holds more of it than one window for each coding. The application gets the body as
it came, and decompresses it by itself if it does.

Not here: how much it may become (`body`).
"""

import importlib
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol, final

WINDOW_BYTES: Final = 64 * 1024
# More than this no content coding may need (RFC 9659 for zstd).
ZSTD_WINDOW_LOG: Final = 23
# A block of four bytes becomes 128 KiB, and this library hands over all of a part at once.
_ZSTANDARD_PART_BYTES: Final = 32
_NO_ZSTD: Final = "this body is no zstd that needs a window of 8 MiB at most (RFC 9659)"
_ANY_CONTAINER: Final = 15 + 16
_RAW: Final = -15


class Undecodable(ValueError):
    """The decoder of a coding gave up where another might go on."""


class Decoder(Protocol):
    """Decompresses one coding; `became_bytes` is what came out so far."""

    became_bytes: int

    def feed(self, part: bytes) -> Iterator[bytes]:
        """Yield what comes out, in windows; also an empty one now and then, in long work.

        It must be taken to its end. What cannot be decompressed yields nothing any more.
        """
        ...


@final
class Inflating:
    """Decompresses gzip, of several members too, or deflate with its container or without."""

    def __init__(self, *, gzip: bool) -> None:
        self.became_bytes = 0
        self._gzip = gzip
        self._stream: Any = None
        self._begun = b""
        self._broken = False

    def feed(self, part: bytes) -> Iterator[bytes]:
        """Yield what comes out, in windows."""
        while part and not self._broken:
            if self._stream is None:
                part = self._begun + part
                if self._gzip:
                    part = part.lstrip(b"\0")  # which may stand between members
                if len(part) < 2:
                    self._begun = part
                    return
                self._begun = b""
                self._stream = zlib.decompressobj(_ANY_CONTAINER if self._gzip else _bits(part))
            try:
                window = self._stream.decompress(part, WINDOW_BYTES)
            except zlib.error:
                self._broken = True
                return
            self.became_bytes += len(window)
            yield window
            part = self._stream.unconsumed_tail
            if self._stream.eof:
                part = self._stream.unused_data
                self._broken, self._stream = not self._gzip, None


def _bits(begun: bytes) -> int:
    """Return what zlib calls the container of deflate: many clients send it without one."""
    is_zlib = begun[0] & 0x0F == 8 and (begun[0] << 8 | begun[1]) % 31 == 0
    return 15 if is_zlib else _RAW


@final
class BrotliDecoding:
    """Decompresses br, by brotli or brotlicffi of 1.2 and later."""

    def __init__(self, library: Any) -> None:
        self.became_bytes = 0
        self._stream = library.Decompressor()
        self._error: type[Exception] = library.error
        self._broken = False

    def feed(self, part: bytes) -> Iterator[bytes]:
        """Yield what comes out, in windows."""
        more = True
        while more and not self._broken:
            try:
                window = self._stream.process(part, output_buffer_limit=WINDOW_BYTES)
            except self._error:
                self._broken = True
                return
            part = b""
            # It can accept more while there is more to come out, too.
            more = bool(window) or not self._stream.can_accept_more_data()
            self.became_bytes += len(window)
            yield window


@final
class _Windows:
    """Keeps what a decoder writes until it is taken."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, window: bytes) -> int:
        self.written.append(bytes(window))
        return len(window)


@final
class ZstandardDecoding:
    """Decompresses zstd, by the package zstandard."""

    def __init__(self, library: Any) -> None:
        self.became_bytes = 0
        self._windows = _Windows()
        self._error: type[Exception] = library.ZstdError
        self._stream = library.ZstdDecompressor(max_window_size=1 << ZSTD_WINDOW_LOG).stream_writer(
            self._windows, write_size=WINDOW_BYTES, closefd=False
        )

    def feed(self, part: bytes) -> Iterator[bytes]:
        """Yield what comes out, in windows. Raises `Undecodable`."""
        for at in range(0, len(part), _ZSTANDARD_PART_BYTES):
            try:
                self._stream.write(part[at : at + _ZSTANDARD_PART_BYTES])
            except self._error as error:
                raise Undecodable(_NO_ZSTD) from error
            windows, self._windows.written = self._windows.written, []
            for window in windows:
                self.became_bytes += len(window)
                yield window


@final
class ZstdDecoding:
    """Decompresses zstd, by the standard library's `compression.zstd` or its backport."""

    def __init__(self, library: Any) -> None:
        self.became_bytes = 0
        self._library = library
        self._stream: Any = None

    def feed(self, part: bytes) -> Iterator[bytes]:
        """Yield what comes out, in windows. Raises `Undecodable`."""
        more = True
        while part or more:
            if self._stream is None:
                if not part:
                    return
                longest = self._library.DecompressionParameter.window_log_max
                self._stream = self._library.ZstdDecompressor(options={longest: ZSTD_WINDOW_LOG})
            try:
                window = self._stream.decompress(part, WINDOW_BYTES)
            except self._library.ZstdError as error:
                raise Undecodable(_NO_ZSTD) from error
            self.became_bytes += len(window)
            yield window
            part, more = b"", False
            if self._stream.eof:
                part, self._stream = self._stream.unused_data, None
            else:
                more = not self._stream.needs_input


NewDecoder = Callable[[], Decoder]


def decoders(load: Callable[[str], Any] = importlib.import_module) -> Mapping[str, NewDecoder]:
    """Return how each coding is measured for which there is a library in this process.

    Where there is none the application cannot decompress it either.
    """
    found: dict[str, NewDecoder] = {}
    for name in ("gzip", "x-gzip"):
        found[name] = partial(Inflating, gzip=True)
    found["deflate"] = partial(Inflating, gzip=False)
    for name in ("brotli", "brotlicffi"):
        library = _loaded(load, name)
        # Before 1.2 there was no end to what one call could give.
        if library is not None and hasattr(library.Decompressor, "can_accept_more_data"):
            found["br"] = partial(BrotliDecoding, library)
            break
    for name, make in (
        ("compression.zstd", ZstdDecoding),
        ("backports.zstd", ZstdDecoding),
        ("zstandard", ZstandardDecoding),
    ):
        library = _loaded(load, name)
        if library is not None:
            found["zstd"] = partial(make, library)
            break
    return found


def _loaded(load: Callable[[str], Any], name: str) -> Any:
    try:
        return load(name)
    except ImportError:
        return None


def decoded(chain: Sequence[Decoder], part: bytes) -> Iterator[bytes]:
    """Yield what `part` becomes once all of `chain` has decompressed it, the outermost first.

    An empty window is no end: somebody within the chain has worked. Raises `Undecodable`.
    """
    outer, rest = chain[0], chain[1:]
    for window in outer.feed(part):
        if not rest:
            yield window
            continue
        # So that what has no content within costs no more than a window at a time either.
        yield b""
        yield from decoded(rest, window)
