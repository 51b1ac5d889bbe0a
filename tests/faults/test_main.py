"""The command line: what it says, what it does, and what it refuses to begin."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ends import PATIENCE_SECONDS, ends, read

from shipworthy.faults import (
    COMMIT,
    Bandwidth,
    Cut,
    Delay,
    Direction,
    HalfClose,
    Refuse,
    Reset,
    Silence,
)
from shipworthy.faults.__main__ import _order, main


@pytest.mark.slow
def test_it_says_where_it_listens_and_harms_until_it_is_interrupted(echo: int) -> None:
    """The first line of output is address and faults; at the end stands what was done."""
    with running(f"127.0.0.1:{echo}", "--cut", "--after", "2B", "--direction", "down") as process:
        said = process.stdout.readline().decode()
        address, arrow, server, faults = said.split(maxsplit=3)
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as client:
            client.settimeout(PATIENCE_SECONDS)
            client.sendall(b"hello")
            assert read(client, 100) == b"he"
            assert ends(client) == "closed"

        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE_SECONDS)

    assert (arrow, server, faults) == ("->", f"127.0.0.1:{echo}:", "cut, down, after 2B\n")
    assert errors == b"1 connections, 1 cut\n"
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "faults"),
    [
        ("", ()),
        ("--refuse", (Refuse(),)),
        ("--delay 200ms --jitter 50ms --nth 2", (Delay(0.2, jitter_seconds=0.05, nth=2),)),
        ("--bandwidth 64KiB --direction up", (Bandwidth(65536, direction=Direction.UP),)),
        ("--silence --chance 0.5 --half-close --direction down",
         (Silence(chance=0.5, direction=Direction.DOWN),
          HalfClose(chance=0.5, direction=Direction.DOWN))),
        (r"--reset --at \xff\0\r\n", (Reset(at=(b"\xff\0\r\n",)),)),
        ("--cut --behind über", (Cut(at=("über".encode(),), before=False),)),
        ("--cut --answer-to @commit --times 1", (Cut(answer_to=COMMIT, times=1),)),
        ("--delay 1s --cut --after 1KiB", (Delay(1.0, after_bytes=1024), Cut(after_bytes=1024))),
    ],
)  # fmt: skip
def test_options_are_faults(arguments: str, faults: tuple) -> None:
    """Each option of a fault is one, and those of the place hold for all of them."""
    assert _order(["127.0.0.1:5432", *arguments.split()]).faults == faults


@pytest.mark.parametrize(
    ("arguments", "server", "listen"),
    [
        ("db.internal:5432", ("db.internal", 5432), ("127.0.0.1", 0)),
        ("[::1]:5432 --listen [::1]:6000", ("::1", 5432), ("::1", 6000)),
        ("127.0.0.1:1 --listen 6000", ("127.0.0.1", 1), ("127.0.0.1", 6000)),
    ],
)
def test_addresses_are_read(arguments: str, server: tuple, listen: tuple) -> None:
    """With names and both kinds of IP; without --listen any free port of loopback."""
    order = _order(arguments.split())

    assert (order.server, order.listen) == (server, listen)


@pytest.mark.parametrize(
    ("arguments", "because"),
    [
        ("", "the following arguments are required: HOST:PORT"),
        ("localhost", "'localhost' is no address; write HOST:PORT"),
        ("localhost:0", "'localhost:0' is no address; write HOST:PORT"),
        ("h:1 --listen 70000", "'70000' is no port; write PORT or HOST:PORT"),
        ("h:1 --listen x", "'x' is no port; write PORT or HOST:PORT"),
        ("h:1 --delay 200", "'200' has no unit: write 200ms"),
        ("h:1 --delay 0", "Delay waits 0 seconds, so it does nothing"),
        ("h:1 --bandwidth 64", "'64' has no unit"),
        ("h:1 --bandwidth 0B", "Bandwidth passes 0 bytes per second; for none at all use Silence"),
        ("h:1 --jitter 1s", "--jitter is added to a delay; add one, as in --delay 200ms"),
        ("h:1 --after 1KiB", "--after says where a fault begins; add one, as in --cut"),
        ("h:1 --refuse --times 1", "--times says where a fault begins; add one"),
        ("h:1 --behind x", "--behind says where a fault begins; add one"),
        ("h:1 --cut --at x --behind y", "--at and --behind name two places; a fault has one"),
        ("h:1 --cut --at x --after 1B", "Cut has after_bytes and at; a fault has one place"),
        (r"h:1 --cut --at \u2026", "has an escape that is no byte"),
        (r"h:1 --cut --at \x1", "has an escape that is no byte"),
        ("h:1 --cut --at=", "an empty pattern is everywhere; write some bytes"),
        ("h:1 --cut --nth 0", "Cut names connection 0; they count from 1"),
        ("h:1 --cut --nth one", "invalid int value: 'one'"),
        ("h:1 --cut --chance 2", "Cut has the chance 2.0; it is above 0 and at most 1"),
        ("h:1 --cut --direction sideways", "invalid choice: 'sideways'"),
        ("h:1 --half-close --direction both", "HalfClose takes one direction, up or down"),
        ("h:1 --cutt", "unrecognized arguments: --cutt"),
        ("h:1 --seed x", "invalid int value: 'x'"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(
    arguments: str, because: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """On standard error, with what would work; nothing is started."""
    assert main(arguments.split()) == 2

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert because in err
    assert err.count("\n") == 1


def test_a_server_without_an_address_is_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    """Said before anything listens."""
    assert main(["nowhere.invalid:1"]) == 2

    assert "no address for the server nowhere.invalid:1" in capsys.readouterr().err


def test_a_port_that_is_taken_is_exit_3(echo: int, capsys: pytest.CaptureFixture[str]) -> None:
    """As everywhere in the product, and the option is named."""
    assert main([f"127.0.0.1:{echo}", "--listen", str(echo)]) == 3

    assert f"127.0.0.1:{echo} is in use" in capsys.readouterr().err


def test_help_has_an_example_that_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    """It is what the parser itself takes."""
    with pytest.raises(SystemExit) as left:
        main(["--help"])

    assert left.value.code == 0
    [example] = [
        line.strip()
        for line in capsys.readouterr().out.splitlines()
        if line.startswith("  python -m shipworthy.faults")
    ]
    assert _order(example.split()[3:]).faults == (Cut(answer_to=COMMIT, times=1),)


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "shipworthy.faults", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
