"""The units of the page are units that systemd accepts, and keep to the times of our defaults."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shipworthy.lifecycle import Exit, LifecycleSettings

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "run-under-systemd.md"
UNITS = dict(
    re.findall(
        r"^ *```ini\n *# /etc/systemd/system/(\S+)\n(.*?)```",
        PAGE.read_text(),
        re.MULTILINE | re.DOTALL,
    )
)
SERVICE = UNITS["orders.service"]


def value(key: str) -> str:
    (found,) = re.findall(rf"^ *{key}=(.*)$", SERVICE, re.MULTILINE)
    return str(found)


def verify(tool: str, folder: Path, **changed: str) -> str:
    """Write the units, with a program that is there, and return what systemd says of them."""
    folder.mkdir(exist_ok=True)
    for name, text in {**UNITS, **changed}.items():
        there = text.replace("/opt/orders/bin/shipworthy", sys.executable)
        (folder / name).write_text(re.sub(r"^ +", "", there, flags=re.MULTILINE))
    done = subprocess.run(
        [tool, "verify", "--man=no", *(str(folder / name) for name in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr + (f"exit {done.returncode}" if done.returncode else "")


@pytest.mark.slow
def test_systemd_accepts_the_units_without_a_word(
    debian: Callable[[str, str], str], tmp_path: Path
) -> None:
    """It exits with 0 for a key it does not know, so any word is a failure, as a sample shows."""
    tool = debian("systemd-analyze", "systemd")
    wrong = {"orders.service": SERVICE.replace("WatchdogSec", "WatchdogSecs")}

    assert set(UNITS) == {"orders.socket", "orders.service", "orders-operations.socket"}
    assert verify(tool, tmp_path / "right") == ""
    assert "WatchdogSecs" in verify(tool, tmp_path / "wrong", **wrong)


def test_the_times_of_the_unit_are_longer_than_ours() -> None:
    """Whoever is above us must wait longer than we do, or it kills what ends by itself."""
    ours = LifecycleSettings()

    assert float(value("TimeoutStopSec")) == ours.grace_seconds + 5
    assert float(value("TimeoutStartSec")) == ours.start_seconds + 10


def test_the_code_that_is_not_started_again_is_the_one_that_would_come_again() -> None:
    """A misuse. A crash loop ends as settings do that cannot work, and it may be over later: no
    service stays down because of one bad minute, and what does not pass meets the limit of starts.
    """
    assert value("RestartPreventExitStatus").split() == [str(int(Exit.MISUSE))]
    assert int(value("StartLimitBurst")) == 5
    assert "78 is not in it" in PAGE.read_text()
