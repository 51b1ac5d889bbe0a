"""Bodies that are small and cost much, and what they do to a process that is asked to take them."""

import gzip
import os
import re
import socket
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import brotli
import httpx
from backports import zstd

from lateness import Lateness

MIB: Final = 1024 * 1024
# What one request may take: of JSON and forms the defaults, of others less than their 1 GiB, so
# that the application without a guard ends, too.
OTHER_BYTES: Final = 16 * MIB
LIMITS: Final = {"/json": 8 * MIB, "/form": 8 * MIB, "/upload": OTHER_BYTES, "/take": OTHER_BYTES}
SETTINGS: Final = '[body]\nother = "16MiB"\n'
_TYPES: Final = {
    "/json": "application/json",
    "/form": "application/x-www-form-urlencoded",
    "/upload": "multipart/form-data; boundary=XX",
    "/take": "application/octet-stream",
}
# How long a client goes on sending to whoever takes it.
PATIENCE_SECONDS: Final = 30.0
# What is sent without an end ends here, where nobody refuses it.
ENDLESS_BYTES: Final = 256 * MIB

Parts = Iterable[bytes]


@dataclass(frozen=True)
class Bomb:
    """A body, how it is sent, and what the guard answers."""

    name: str
    path: str
    body: Callable[[], bytes | Parts]
    status: int
    coding: str = ""
    content_type: str = ""
    promised: int | None = None
    expects: bool = False


@dataclass(frozen=True)
class Harm:
    """What bombs did: the answer, and the worst of what was seen until then.

    `status` is -1 where several were answered differently. Of a process that did not outlive them
    memory and lateness are not known, and are -1.
    """

    status: int
    rise_bytes: int
    late_seconds: float
    idle_seconds: float
    others: int
    slowest_seconds: float
    seconds: float
    sent_bytes: int


_ZEROS: Final = bytes(256 * MIB)


def raw_deflate(data: bytes) -> bytes:
    """Deflate without its container."""
    packing = zlib.compressobj(9, wbits=-15)
    return packing.compress(data) + packing.flush()


def mixed(size: int, every: int = 64 * 1024, noise: int = 512) -> bytes:
    """Zeros with some noise, so that the ratio stays below what is refused."""
    return b"".join(os.urandom(noise) + bytes(every - noise) for _ in range(size // every))


def endless(part: bytes) -> Parts:
    """The same again and again."""
    for _ in range(ENDLESS_BYTES // len(part)):
        yield part


_PART: Final = b'--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'
_WIDE = {zstd.CompressionParameter.window_log: 27}

BOMBS: Final = (
    Bomb("gzip, 256 MiB of zeros", "/take", lambda: gzip.compress(_ZEROS), 413, "gzip"),
    Bomb(
        "gzip, 256 MiB at a ratio below 200",
        "/take",
        lambda: gzip.compress(mixed(256 * MIB)),
        413,
        "gzip",
    ),
    Bomb(
        "gzip, 200,000 members", "/take", lambda: gzip.compress(bytes(1024)) * 200_000, 413, "gzip"
    ),
    Bomb("gzip that says it is x-gzip", "/json", lambda: gzip.compress(_ZEROS), 413, "x-gzip"),
    Bomb("deflate", "/take", lambda: zlib.compress(_ZEROS), 413, "deflate"),
    Bomb("deflate without its container", "/take", lambda: raw_deflate(_ZEROS), 413, "deflate"),
    Bomb("br", "/take", lambda: brotli.compress(_ZEROS, quality=5), 413, "br"),
    Bomb(
        "br at a ratio below 200, largest window",
        "/take",
        lambda: brotli.compress(mixed(256 * MIB), quality=5, lgwin=24),
        413,
        "br",
    ),
    Bomb("zstd", "/take", lambda: zstd.compress(_ZEROS), 413, "zstd"),
    Bomb(
        "zstd at a ratio below 200", "/take", lambda: zstd.compress(mixed(256 * MIB)), 413, "zstd"
    ),
    Bomb(
        "zstd that needs a window of 128 MiB",
        "/take",
        lambda: zstd.compress(mixed(256 * MIB), options=_WIDE),
        415,
        "zstd",
    ),
    Bomb("gzip in gzip", "/take", lambda: gzip.compress(gzip.compress(_ZEROS)), 413, "gzip, gzip"),
    Bomb(
        "gzip in br",
        "/take",
        lambda: brotli.compress(gzip.compress(_ZEROS), quality=5),
        413,
        "gzip, br",
    ),
    Bomb(
        "gzip three times",
        "/take",
        lambda: gzip.compress(gzip.compress(gzip.compress(_ZEROS))),
        415,
        "gzip, gzip, gzip",
    ),
    Bomb("JSON, 100,000 deep", "/json", lambda: b"[" * 100_000 + b"]" * 100_000, 400),
    Bomb(
        "JSON, 100,000 deep behind 6 MiB of text",
        "/json",
        lambda: b'["' + b"a[" * 3 * MIB + b'",' + b'{"a":' * 100_000,
        400,
    ),
    Bomb(
        "JSON, 100,000 deep, in UTF-16",
        "/json",
        lambda: ('["\u2200",' + "[" * 100_000).encode("utf-16-le"),
        400,
    ),
    Bomb(
        "JSON, 100,000 deep, in gzip", "/json", lambda: gzip.compress(b"[" * 100_000), 400, "gzip"
    ),
    Bomb(
        "JSON, a number of 1,000,000 digits", "/json", lambda: b"[" + b"9" * 1_000_000 + b"]", 400
    ),
    Bomb("JSON, 64 MiB, by its length", "/json", lambda: b"[" + b"1," * 32 * MIB + b"1]", 413),
    Bomb(
        "a form of 1,000,000 fields",
        "/form",
        lambda: b"&".join(b"a%d=1" % n for n in range(10**6 - 1))[: 8 * MIB],
        400,
    ),
    Bomb("an upload of 100,000 parts", "/upload", lambda: _PART * 100_000 + b"--XX--\r\n", 400),
    Bomb(
        "100,000 headers in a part",
        "/upload",
        lambda: b"--XX\r\n" + b"a: b\r\n" * 100_000 + b"\r\nx\r\n--XX--\r\n",
        400,
    ),
    Bomb(
        "a name of 1 MiB in a part",
        "/upload",
        lambda: (
            b'--XX\r\nContent-Disposition: form-data; name="'
            + b"a" * MIB
            + b'"\r\n\r\nx\r\n--XX--\r\n'
        ),
        400,
    ),
    Bomb(
        "a boundary of 8 KiB",
        "/upload",
        lambda: b"--" + b"b" * 8192 + b"\r\n" * MIB,
        400,
        content_type="multipart/form-data; boundary=" + "b" * 8192,
    ),
    Bomb(
        "two boundaries",
        "/upload",
        lambda: _PART * 100_000,
        400,
        content_type='multipart/form-data; boundary=YY; boundary="XX"',
    ),
    Bomb("no end, in chunks", "/take", lambda: endless(b"a" * 64 * 1024), 413),
    Bomb("JSON without an end, in chunks", "/json", lambda: endless(b"[1]," * 16 * 1024), 413),
    Bomb("an upload without an end", "/upload", lambda: endless(b"--XY\r\n" * 4096), 413),
    Bomb(
        "a length of 10 GiB, and nothing after", "/take", lambda: b"", 413, promised=10 * 1024 * MIB
    ),
    Bomb(
        "a length of 10 GiB that waits to be asked",
        "/take",
        lambda: b"",
        413,
        promised=10 * 1024 * MIB,
        expects=True,
    ),
)


def send(url: str, bomb: Bomb, body: bytes | Parts) -> int:
    """Send a bomb over a socket of its own; return the status, 0 where there was no answer."""
    host, port = url.removeprefix("http://").split(":")
    head = [
        f"POST {bomb.path} HTTP/1.1",
        "Host: bombs",
        f"Content-Type: {bomb.content_type or _TYPES[bomb.path]}",
    ]
    if bomb.coding:
        head.append(f"Content-Encoding: {bomb.coding}")
    if bomb.expects:
        head.append("Expect: 100-continue")
    whole = isinstance(body, bytes)
    length = len(body) if whole else 0
    said = f"Content-Length: {bomb.promised or length}" if whole else "Transfer-Encoding: chunked"
    head += [said, "", ""]
    with socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as connection:
        try:
            connection.sendall("\r\n".join(head).encode())
            if whole:
                connection.sendall(body)
            else:
                for part in body:
                    connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))
                connection.sendall(b"0\r\n\r\n")
        except OSError:
            pass  # it is told no more; the answer is read all the same
        try:
            answer = connection.recv(65536)
        except OSError:
            return 0
    found = re.match(rb"HTTP/1.1 (\d+)", answer)
    return int(found[1]) if found else 0


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process had since `forget_peak`, -1 of one that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return -1
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


def forget_peak(pid: int) -> None:
    """Let the kernel count the peak of a process from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def explode(url: str, pid: int, *bombs: Bomb) -> Harm:
    """Send bombs, all at once, while others are served, and say what they did together."""
    bodies = [bomb.body() for bomb in bombs]
    over: list[bool] = []
    with ThreadPoolExecutor(1 + len(bombs)) as clients:
        httpx.get(f"{url}/late", timeout=PATIENCE_SECONDS)
        forget_peak(pid)
        before = peak_bytes(pid)
        with Lateness() as idle:
            asked = clients.submit(_ask_meanwhile, url, over)
            began = time.monotonic()
            statuses = list(clients.map(send, [url] * len(bombs), bombs, bodies))
            seconds = time.monotonic() - began
            over.append(True)
            served, slowest = asked.result()
        peak = peak_bytes(pid)
        late = -1.0
        if peak >= 0:
            late = float(httpx.get(f"{url}/late", timeout=PATIENCE_SECONDS).text)
    return Harm(
        status=statuses[0] if len(set(statuses)) == 1 else -1,
        rise_bytes=peak - before if peak >= 0 else -1,
        late_seconds=late,
        idle_seconds=idle.seconds,
        others=served,
        slowest_seconds=slowest,
        seconds=seconds,
        sent_bytes=sum(len(body) if isinstance(body, bytes) else ENDLESS_BYTES for body in bodies),
    )


def _ask_meanwhile(url: str, over: Sequence[bool]) -> tuple[int, float]:
    """Ask again and again until it is over; return how often, and how long the slowest took."""
    served, slowest = 0, 0.0
    with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
        while not over or served == 0:
            began = time.monotonic()
            with suppress(httpx.TransportError):
                client.get("/livez")
            slowest = max(slowest, time.monotonic() - began)
            served += 1
            time.sleep(0.01)
    return served, slowest
