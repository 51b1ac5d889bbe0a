"""The first hour happens as the tutorial tells it: its files are written, its commands are run.

How a page is read: a captioned block is a file; in a console block `$` is a command and the lines
under it are looked for in its output, in order, with `...` for anything. `shipworthy run` and
commands ending in `&` go on in the background; `^C` interrupts the service, which must end with 0.
Ports 8000 and 9000 are replaced by free ones. A command is asked again for a while until its
output is as told, since the page's reader is slower than the test.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import services
from docs.documents import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
PAGE = ROOT / "docs" / "tutorial" / "first-hour.md"
PATIENCE_SECONDS = 20.0
_BLOCK = re.compile(
    r"^```(?:\{code-block\} \w+\n:caption: (?P<file>\S+)\n\n|console\n)(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_STEP = re.compile(r"^(?:\$ (?P<command>.+)|\^C)\n(?P<output>(?:(?!\$ |\^C$).*\n)*)", re.MULTILINE)


class Terminal:
    """A folder, an environment, and what runs in the background."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {port: str(services.free_port()) for port in ("8000", "9000")}
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("SHIPWORTHY_")},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "SHIPWORTHY_SERVE__PORT": self.ports["8000"],
            "SHIPWORTHY_OPERATIONS__PORT": self.ports["9000"],
        }
        self.service: subprocess.Popen[bytes] | None = None
        self.promised: list[tuple[str, subprocess.Popen[bytes], Path, list[str]]] = []

    def step(self, command: str, expected: list[str]) -> None:
        """Do what the page says, and see what it says one sees."""
        command, expected = self._moved(command), [self._moved(line) for line in expected]
        if not command:
            self.interrupt(expected)
        elif re.match(r"shipworthy run (?!.*--dry-run)", command):
            self.service, log = self._start(f"exec {command}", "service")
            self._until(command, expected, lambda: log.read_text())
        elif command.endswith("&"):
            process, log = self._start(f"exec {command.rstrip(' &')}", "background")
            self.promised.append((command, process, log, expected))
        else:
            self._until(command, expected, lambda: self._run(command))

    def interrupt(self, expected: list[str]) -> None:
        """Press Ctrl-C: the service ends with 0, and what was begun before has its answer."""
        assert self.service is not None
        self.service.send_signal(signal.SIGINT)
        log = (self.folder / "service.log").read_text
        assert self.service.wait(PATIENCE_SECONDS) == 0, log()
        assert unseen(expected, log()) == []
        for command, process, output, lines in self.promised:
            assert process.wait(PATIENCE_SECONDS) == 0, command
            assert unseen(lines, output.read_text()) == [], command

    def close(self) -> None:
        """End what the page left running, when it failed on the way."""
        for process in [self.service, *(entry[1] for entry in self.promised)]:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()

    def _moved(self, text: str) -> str:
        for told, free in self.ports.items():
            text = re.sub(rf"(127\.0\.0\.1:){told}\b", rf"\g<1>{free}", text)
        return text

    def _start(self, command: str, name: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["/bin/sh", "-c", command],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return process, log

    def _run(self, command: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        return done.stdout + done.stderr

    def _until(self, command: str, expected: list[str], look: Callable[[], str]) -> None:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while missing := unseen(expected, seen := look()):
            ended = self.service is not None and self.service.poll() is not None
            if ended or time.monotonic() > give_up:
                pytest.fail(f"$ {command}\n{seen}\nnot seen: {missing}", pytrace=False)
            time.sleep(0.1)


def unseen(expected: list[str], output: str) -> list[str]:
    """Return the lines from the first on that does not follow in the output; `...` is anything."""
    lines = iter(output.splitlines())
    for index, line in enumerate(expected):
        pattern = ".*".join(map(re.escape, line.split("...")))
        if not any(re.fullmatch(pattern, seen.rstrip()) for seen in lines):
            return expected[index:]
    return []


def steps(page: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield a file with its text, or nothing, a command ("" is Ctrl-C) and what it shows."""
    for block in _BLOCK.finditer(page):
        if block["file"]:
            yield block["file"], block["body"], []
            continue
        for step in _STEP.finditer(block["body"]):
            yield "", step["command"] or "", step["output"].splitlines()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_first_hour_happens_as_it_is_told(tmp_path):
    """Every command of the tutorial works, in its order, and shows what the page shows."""
    terminal = Terminal(tmp_path)

    try:
        for file, text, expected in steps(PAGE.read_text(encoding="utf-8")):
            if file:
                (tmp_path / file).write_text(text, encoding="utf-8")
            else:
                terminal.step(text, expected)
    finally:
        terminal.close()


def test_a_page_is_read_as_files_commands_and_what_they_show():
    """The reader sees the same: prompts, output, Ctrl-C and captions."""
    page = (
        "```{code-block} toml\n:caption: a.toml\n\nx = 1\n```\n"
        "```console\n$ one\nshows\nthis\n$ two &\n^C\n```\n"
    )

    assert list(steps(page)) == [
        ("a.toml", "x = 1\n", []),
        ("", "one", ["shows", "this"]),
        ("", "two &", []),
        ("", "", []),
    ]


def test_output_that_is_not_as_told_is_seen():
    """Lines are looked for in their order, whole, with `...` for anything."""
    assert unseen(["a...c", "d"], "x\nabc\ny\nd\n") == []
    assert unseen(["d", "abc"], "abc\nd\n") == ["abc"]
    assert unseen(["ab"], "abc\n") == ["ab"]
