"""The proxy from the command line: `python -m shipworthy.faults 127.0.0.1:5432 --delay 200ms`."""

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Never, TypedDict, final

from typing_extensions import override

from shipworthy.errors import Misuse, StartFailed
from shipworthy.faults.fault import (
    Bandwidth,
    Cut,
    Delay,
    Direction,
    Fault,
    FaultInvalid,
    HalfClose,
    Refuse,
    Reset,
    Silence,
)
from shipworthy.faults.patterns import COMMIT
from shipworthy.faults.proxy import FaultProxy
from shipworthy.units import parse_duration, parse_size

_EXAMPLE = """\
Example, an answer to COMMIT that is lost once:
  python -m shipworthy.faults 127.0.0.1:5432 --listen 6432 --cut --answer-to @commit --times 1

Patterns are text with the escapes \\0, \\r, \\n and \\xff. @commit is any way to say COMMIT to
PostgreSQL, MariaDB and MySQL, and EXEC to Redis. They are not found under TLS.
"""

_PLACED = ("delay", "bandwidth", "silence", "half_close", "cut", "reset")
_WHERE = ("direction", "after", "at", "behind", "answer_to", "nth", "chance", "times")


@final
@dataclass(frozen=True, slots=True)
class _Order:
    """What was asked for on the command line."""

    server: tuple[str, int]
    listen: tuple[str, int]
    seed: int
    faults: tuple[Fault, ...]


class _Place(TypedDict, total=False):
    direction: Direction
    after_bytes: int
    at: tuple[bytes, ...]
    answer_to: tuple[bytes, ...]
    before: bool
    nth: int
    chance: float
    times: int


class _Parser(argparse.ArgumentParser):
    @override
    def error(self, message: str) -> Never:
        raise FaultInvalid(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the proxy until it is interrupted; returns the exit code: 0, 2 bad input, 3 no port."""
    try:
        asyncio.run(_serve(_order(sys.argv[1:] if argv is None else argv)))
    except KeyboardInterrupt:
        return 0
    except Misuse as wrong:
        _say(f"error: {wrong}")
        return 2
    except StartFailed as failed:
        _say(f"error: {failed}")
        return 3
    raise AssertionError("the proxy runs until it is interrupted")


async def _serve(order: _Order) -> None:
    listen_host, listen_port = order.listen
    proxy = FaultProxy(
        *order.server, seed=order.seed, listen_host=listen_host, listen_port=listen_port
    )
    proxy.apply(*order.faults)
    async with proxy:
        harm = "; ".join(map(str, order.faults)) or "no fault"
        host, port = order.server
        print(f"{proxy.host}:{proxy.port} -> {host}:{port}: {harm}", flush=True)  # noqa: T201
        try:
            await asyncio.Event().wait()
        finally:
            did = Counter(happening.what for happening in proxy.log)
            for what in ("opened", "closed"):
                del did[what]
            more = "".join(f", {count} {what}" for what, count in sorted(did.items()))
            _say(f"{proxy.accepted} connections{more}")


def _order(argv: Sequence[str]) -> _Order:
    given = _parser().parse_args(argv)
    placed = [name for name in _PLACED if getattr(given, name) not in (None, False)]
    where = [name for name in _WHERE if getattr(given, name) is not None]
    place = _place(given)
    if where and not placed:
        option = where[0].replace("_", "-")
        raise FaultInvalid(
            f"--{option} says where a fault begins; add one, as in --cut or --delay 1s"
        )
    if given.jitter is not None and given.delay is None:
        raise FaultInvalid("--jitter is added to a delay; add one, as in --delay 200ms")
    faults: list[Fault] = [Refuse()] if given.refuse else []
    if given.delay is not None:
        faults.append(Delay(given.delay, jitter_seconds=given.jitter or 0.0, **place))
    if given.bandwidth is not None:
        faults.append(Bandwidth(given.bandwidth, **place))
    faults += [
        kind(**place)
        for name, kind in (
            ("silence", Silence),
            ("half_close", HalfClose),
            ("cut", Cut),
            ("reset", Reset),
        )
        if name in placed
    ]
    return _Order(given.server, given.listen, given.seed, tuple(faults))


def _place(given: argparse.Namespace) -> _Place:
    place = _Place()
    if given.direction is not None:
        place["direction"] = Direction(given.direction)
    if given.after is not None:
        place["after_bytes"] = given.after
    if given.at is not None:
        place["at"] = given.at
    if given.behind is not None:
        if given.at is not None:
            raise FaultInvalid("--at and --behind name two places; a fault has one")
        place["at"], place["before"] = given.behind, False
    if given.answer_to is not None:
        place["answer_to"] = given.answer_to
    if given.nth is not None:
        place["nth"] = given.nth
    if given.chance is not None:
        place["chance"] = given.chance
    if given.times is not None:
        place["times"] = given.times
    return place


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m shipworthy.faults",
        description="A TCP proxy that harms what passes through it, the same way each time.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("server", metavar="HOST:PORT", type=_address, help="the server behind the proxy")
    add("--listen", metavar="[HOST:]PORT", type=_listen, default=("127.0.0.1", 0),
        help="where clients connect; by default any free port of 127.0.0.1")  # fmt: skip
    add("--seed", metavar="N", type=int, default=0, help="what --chance and --jitter draw from")
    fault = parser.add_argument_group("faults").add_argument
    fault("--refuse", action="store_true", help="refuse every connect")
    fault("--delay", metavar="TIME", type=_duration, help="every byte arrives so much later")
    fault("--jitter", metavar="TIME", type=_duration, help="and up to so much more per connection")
    fault("--bandwidth", metavar="SIZE", type=_size, help="so many bytes in a second, as in 64KiB")
    fault("--silence", action="store_true", help="nothing passes, and nobody is told")
    fault("--half-close", action="store_true", help="one direction ends; by default down")
    fault("--cut", action="store_true", help="close the connection in order")
    fault("--reset", action="store_true", help="tear the connection down")
    where = parser.add_argument_group("where they begin (by default at once)").add_argument
    where("--direction", choices=("up", "down", "both"), help="up is from client to server")
    where("--after", metavar="SIZE", type=_size, help="after so many bytes")
    where("--at", metavar="PATTERN", type=_patterns, help="so that nobody has the pattern whole")
    where("--behind", metavar="PATTERN", type=_patterns, help="right behind the pattern")
    where("--answer-to", metavar="PATTERN", type=_patterns, help="with the answer to the pattern")
    where("--nth", metavar="N", type=int, help="on the Nth connection only")
    where("--chance", metavar="SHARE", type=float, help="on that share of the connections")
    where("--times", metavar="N", type=int, help="on at most N connections")
    return parser


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no address; write HOST:PORT")
    return host, int(port)


def _listen(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if colon else "127.0.0.1"
    if not (host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port; write PORT or HOST:PORT")
    return host, int(port)


def _duration(text: str) -> float:
    try:
        return parse_duration(text)
    except Misuse as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from wrong


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except Misuse as wrong:
        raise argparse.ArgumentTypeError(str(wrong)) from wrong


def _patterns(text: str) -> tuple[bytes, ...]:
    if text == "@commit":
        return COMMIT
    try:
        # Through latin-1, so that \xff is that byte; what is no ASCII goes out as UTF-8.
        pattern = text.encode().decode("unicode_escape").encode("latin-1")
    except (UnicodeDecodeError, UnicodeEncodeError) as wrong:
        raise argparse.ArgumentTypeError(f"{text!r} has an escape that is no byte") from wrong
    if not pattern:
        raise argparse.ArgumentTypeError("an empty pattern is everywhere; write some bytes")
    return (pattern,)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
