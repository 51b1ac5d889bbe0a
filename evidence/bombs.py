"""Bodies that are small and cost much, against `shipworthy run`, with the guard and without.

One service (`tests/flows/apps/bombed.py`) that reads bodies the way people write it, run with the
guard of bodies as it is by default, and with `body.mode = "off"`, anew for each body. Only the
limit of what is no JSON and no form is 16 MiB and not 1 GiB, so that both can be compared. Each
body is sent over a socket of its own, while another client asks `/livez` again and again. *Memory*
is how far the worker's peak (`VmHWM`, set back before it) rose above what it had. *Late* is the
most that the worker's event loop was late meanwhile, told by a task in it that sleeps for 5 ms at a
time; *idle* is what a timer in a process without work was late in the same seconds, which is the
machine's share. The claim: memory rises by no more than the limit of the body and 2 MiB, and the
loop is late by no more than 50 ms and the idle timer's share. *Worker ended* is one whose loop
stood so long that the supervisor put another in its place. 0 as an answer is a connection without
one.
"""

import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COVERS = (
    "src/shipworthy/web/body.py",
    "src/shipworthy/web/body_decode.py",
    "src/shipworthy/web/body_plan.py",
    "src/shipworthy/web/body_scan.py",
    "src/shipworthy/web/line.py",
    "tests/flows/bombs.py",
    "tests/flows/apps/bombed.py",
    "evidence/bombs.py",
)
PACKAGES = ("uvicorn", "starlette", "brotli", "backports.zstd", "multipart")
LATE_SECONDS = 0.05
# Ten times each, all in the same moment.
AT_ONCE = ("gzip, 256 MiB of zeros", "gzip, 200,000 members")
# Of what is scanned in a benchmark.
SAMPLE_BYTES = 8_000_000
PIECE_BYTES = 16 * 1024
ROUNDS = 5


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Send every bomb to both, and return the table."""
    sys.path[:0] = [str(ROOT / "tests")]
    from flows.bombs import BOMBS, LIMITS, MIB, SETTINGS, Harm, explode  # type: ignore[import-not-found]
    from serve.launch import brisk, started  # type: ignore[import-not-found]

    app = f"{ROOT / 'tests' / 'flows' / 'apps' / 'bombed.py'}:app"
    found: dict[str, list[Harm]] = {}
    together: dict[str, Harm] = {}
    for mode in ("enforce", "off"):
        settings = f'{brisk()}{SETTINGS}mode = "{mode}"\n'
        found[mode] = []
        at_once = [bomb for bomb in BOMBS if bomb.name in AT_ONCE] * 10
        for number, bombs in enumerate([*([bomb] for bomb in BOMBS), at_once]):
            place = folder / f"{mode}-{number}"
            place.mkdir()
            # Each meets a process of its own: memory that another has given back hides nothing.
            with started(app, directory=place, settings=settings) as service:
                service.until_ready()
                found[mode].append(explode(service.url, service.worker_pid(), *bombs))
            print(f"  {mode}: {bombs[0].name}: {found[mode][-1].status}", flush=True)
        together[mode] = found[mode].pop()
    rows = []
    kept = 0
    for bomb, guarded, bare in zip(BOMBS, found["enforce"], found["off"], strict=True):
        holds = (
            guarded.status == bomb.status
            and guarded.rise_bytes <= LIMITS[bomb.path] + 2 * MIB
            and guarded.late_seconds <= LATE_SECONDS + guarded.idle_seconds
        )
        kept += holds
        rows.append(
            f"| {bomb.name} | {_size(guarded.sent_bytes)} | {guarded.status} | "
            f"{guarded.rise_bytes / MIB:.1f} | {guarded.late_seconds * 1000:.0f} | "
            f"{guarded.idle_seconds * 1000:.0f} | {'yes' if holds else '**no**'} | {bare.status} | "
            f"{_of(bare)} | {bare.idle_seconds * 1000:.0f} |"
        )
    worst = max(harm.slowest_seconds for harm in found["enforce"])
    asked = sum(harm.others for harm in found["enforce"])
    worst_bare = max(harm.slowest_seconds for harm in found["off"])
    head = (
        f"{kept} of {len(BOMBS)} as claimed. With the guard the other client was answered {asked} "
        f"times meanwhile, the slowest in {worst * 1000:.0f} ms; without it the slowest took "
        f"{worst_bare * 1000:.0f} ms. Memory in MiB, late and idle in ms; the last four columns "
        f"are without the guard.\n\n"
        "| body | sent | answer | memory | late | idle | as claimed "
        "| answer | memory | late | idle |\n"
        "|---|---|---|---|---|---|---|---|---|---|---|\n"
    )
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    both = (
        f"{_of(harm)} | {harm.idle_seconds * 1000:.0f} | {harm.seconds:.1f}"
        for harm in together.values()
    )
    crowd = (
        "\n\n## Twenty at once\n\n"
        f"Ten each of {' and '.join(f'*{name}*' for name in AT_ONCE)}, in the same moment.\n\n"
        "| guard | memory | late | idle | over in s |\n|---|---|---|---|---|\n"
        f"| enforce | {next(both)} |\n| off | {next(both)} |\n"
    )
    return head + "\n".join(rows) + crowd + _looks(), versions


def _looks() -> str:
    """Return what a look costs beside what a parser does, side by side in one process."""
    import gzip
    import zlib
    from urllib.parse import parse_qsl

    import orjson

    from shipworthy.web.body_decode import decoded, decoders
    from shipworthy.web.body_scan import FieldScanner, JsonScanner, PartScanner

    many = 10**9
    row = {"id": 17, "name": "a name of some length", "note": 'with "quotes"', "at": [1.5, None]}
    text = json.dumps([row] * (SAMPLE_BYTES // len(json.dumps(row)))).encode()
    form = b"&".join([b"name=a+value+of+some+length"] * (SAMPLE_BYTES // 28))
    part = b'--XX\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"x" * 4000 + b"\r\n"
    upload = part * (SAMPLE_BYTES // len(part))
    packed = gzip.compress(text)

    def undone() -> None:
        chain = [decoders()["gzip"]()]
        for at in range(0, len(packed), PIECE_BYTES):
            for _ in decoded(chain, packed[at : at + PIECE_BYTES]):
                pass

    looks: dict[str, tuple[bytes, Callable[[], object]]] = {
        "JSON: the look": (text, lambda: _fed(JsonScanner(depth=1000, digits=4300), text)),
        "JSON: `json.loads`": (text, lambda: json.loads(text)),
        "JSON: `orjson.loads`": (text, lambda: orjson.loads(text)),
        "JSON of brackets alone: the look": (
            b"[{}]" * (SAMPLE_BYTES // 4),
            lambda: _fed(JsonScanner(depth=1000, digits=4300), b"[{}]" * (SAMPLE_BYTES // 4)),
        ),
        "JSON of brackets alone, 999 deep: the look": (
            b"[" * 998 + b"{}" * (SAMPLE_BYTES // 2),
            lambda: _fed(
                JsonScanner(depth=1000, digits=4300), b"[" * 998 + b"{}" * (SAMPLE_BYTES // 2)
            ),
        ),
        "form: the look": (form, lambda: _fed(FieldScanner(fields=many), form)),
        "form: `parse_qsl`": (form, lambda: parse_qsl(form.decode())),
        "upload: the look": (
            upload,
            lambda: _fed(PartScanner(b"XX", parts=many, head_bytes=8192), upload),
        ),
        "gzip of the JSON above: the look": (text, undone),
        "gzip of the JSON above: `gzip.decompress`": (text, lambda: zlib.decompress(packed, 31)),
    }
    lines = ["", "## What a look costs", "", "| what | MB/s |", "|---|---|"]
    for name, (body, look) in looks.items():
        lines.append(f"| {name} | {len(body) / _best_seconds(look) / 1e6:,.0f} |")
    lines += [
        "",
        f"The best of {ROUNDS} rounds over {SAMPLE_BYTES / 1e6:.0f} MB, in parts of 16 KiB.",
    ]
    return "\n".join(lines)


def _fed(scanner: Any, body: bytes) -> None:
    for at in range(0, len(body), PIECE_BYTES):
        if scanner.feed(body[at : at + PIECE_BYTES]) is not None:
            raise AssertionError("nothing of this is too much")


def _best_seconds(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - began)
    return best


def _of(harm: Any) -> str:
    """Return memory and lateness; a worker that outlived it has both."""
    if harm.rise_bytes < 0:
        return "worker ended | worker ended"
    return f"{harm.rise_bytes / 1024 / 1024:.1f} | {harm.late_seconds * 1000:.0f}"


def _size(size: int) -> str:
    for unit, of in (("MiB", 1024 * 1024), ("KiB", 1024)):
        if size >= of:
            return f"{size / of:.0f} {unit}"
    return f"{size} B"
