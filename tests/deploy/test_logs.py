"""Lines are kept for as long as the policy says, by the programs that keep them."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from shipworthy.deploy.logs import log_files
from shipworthy.telemetry import RetentionSettings

Debian = Callable[[str, str], str]
KEPT = RetentionSettings(access_lines_seconds=36 * 3600.0)


def test_every_kind_of_line_has_a_way_and_an_age() -> None:
    """What Vector parts, logrotate ages; no file is written that none takes away."""
    files = log_files(KEPT, job="shop")
    vector = yaml.safe_load(files["logs/vector.yaml"])
    paths = {sink["path"] for sink in vector["sinks"].values()}
    assert paths == {f"/var/log/shop/{part}.log" for part in ("access", "security", "app")}
    assert all(f"{path} {{" in files["logs/logrotate.conf"] for path in paths)
    routes = {"service", "parts._unmatched", *(f"parts.{one}" for one in ("access", "security"))}
    asked = {name for sink in vector["sinks"].values() for name in sink["inputs"]}
    assert asked | set(vector["transforms"]["parts"]["inputs"]) == routes


def test_a_name_of_any_kind_is_a_folder_of_its_own() -> None:
    """No name leads out of it, and none ends the path in a file of logrotate."""
    for job, folder in (("a shop/../x {", "a_shop_.._x_"), ("..", "service")):
        text = log_files(KEPT, job=job)["logs/logrotate.conf"]
        assert f"\n/var/log/{folder}/access.log {{" in text


def test_logrotate_takes_away_what_is_older_and_nothing_else(
    tmp_path: Path, debian: Debian
) -> None:
    """The real one: a day and a half is two days; 90 and 400 are as they are."""
    logs, text = tmp_path / "logs", log_files(KEPT, job="shop")["logs/logrotate.conf"]
    logs.mkdir(mode=0o700)
    config = tmp_path / "logrotate.conf"
    config.write_text(text.replace("/var/log/shop", str(logs)))
    config.chmod(0o600)
    now = time.time()
    for part in ("access", "security", "app"):
        (logs / f"{part}.log").write_text("line\n")
        for days in (1, 30, 100, 500):
            old = logs / f"{part}.log-{time.strftime('%Y%m%d', time.gmtime(now - days * 86400))}.gz"
            old.write_text("lines")
            os.utime(old, (now - days * 86400,) * 2)
    done = subprocess.run(
        [debian("logrotate", "logrotate"), "--force", "-s", str(tmp_path / "state"), str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ages = {
        part: sorted(
            round((now - path.stat().st_mtime) / 86400) for path in logs.glob(f"{part}.log-*.gz")
        )
        for part in ("access", "security", "app")
    }
    assert ages == {"access": [1], "security": [1, 30, 100], "app": [1, 30]}
