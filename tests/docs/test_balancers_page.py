"""The balancers themselves read what the page tells the reader to write."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import services
from shipworthy.lifecycle import LifecycleSettings
from shipworthy.serve import ServeSettings

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "drain-behind-a-balancer.md").read_text()
HAPROXY, NGINX = re.findall(r"(?ms)^```text\n((?:defaults|upstream).*?)```", PAGE)

pytestmark = pytest.mark.slow


def said(*command: str) -> tuple[int, str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_haproxy_accepts_both_modes(
    debian: Callable[[str, str], str], tmp_path: Path, mode: str
) -> None:
    """A warning is a word too many; a directive that is none is seen."""
    config = tmp_path / "haproxy.cfg"
    config.write_text(re.sub(r"mode http( .*)?$", f"mode {mode}", HAPROXY, flags=re.MULTILINE))
    code, words = said(debian("haproxy", "haproxy"), "-c", "-q", "-f", str(config))

    assert (code, words) == (0, "")


def test_nginx_accepts_its_part(debian: Callable[[str, str], str], tmp_path: Path) -> None:
    """In an `http` block, where it belongs."""
    config = tmp_path / "nginx.conf"
    listening = NGINX.replace("listen 80", f"listen 127.0.0.1:{services.free_port()}")
    config.write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/error.log;\nevents {{}}\n"
        f"http {{ access_log off; {listening} }}\n"
    )
    tool = debian("nginx", "nginx")
    code, words = said(tool, "-t", "-q", "-e", f"{tmp_path}/error.log", "-c", str(config))

    assert (code, words) == (0, "")


def test_the_numbers_of_the_page_are_our_defaults() -> None:
    """What is said to be enough for the check, and for nginx, is."""
    production = LifecycleSettings(lame_duck_seconds=5.0)
    inter, fall = re.findall(r"check inter (\d)s fall (\d)", HAPROXY)[0]

    assert f"{ServeSettings().keep_alive_seconds:g} s; nginx keeps it for 60 s" in PAGE
    assert ServeSettings().keep_alive_seconds > 60
    assert int(inter) * int(fall) + 1 <= production.lame_duck_seconds
    assert f"({production.idle_grace_seconds:g} s)" in PAGE
