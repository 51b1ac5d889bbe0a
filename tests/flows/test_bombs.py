"""Bodies that cost much and are small, against a real process; all of them are `evidence/bombs`."""

from pathlib import Path

import httpx
import pytest

from flows.bombs import BOMBS, LIMITS, MIB, SETTINGS, explode
from lateness import PROMISED_SECONDS
from serve.launch import brisk, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

APP = f"{Path(__file__).parent / 'apps' / 'bombed.py'}:app"
# What is quickly made; one of each kind.
QUICK = (
    "zstd",
    "JSON, 100,000 deep behind 6 MiB of text",
    "JSON, a number of 1,000,000 digits",
    "a form of 1,000,000 fields",
    "an upload of 100,000 parts",
    "no end, in chunks",
    "a length of 10 GiB that waits to be asked",
)


def test_bombs_cost_no_more_than_a_body_and_others_are_served(tmp_path):
    """Each is refused; memory stays within the limit and 2 MiB, the loop within its 50 ms."""
    chosen = [bomb for bomb in BOMBS if bomb.name in QUICK]
    assert len(chosen) == len(QUICK)
    with started(APP, directory=tmp_path, settings=brisk() + SETTINGS) as service:
        service.until_ready()
        pid = service.worker_pid()
        assert httpx.post(f"{service.url}/json", json=[1, 2, 3]).json() == 3
        found = {bomb: explode(service.url, pid, bomb) for bomb in chosen}
        service.until(lambda: service.events("web.request_blocked"))
        assert service.worker_pid() == pid
        counts = service.metrics()
    assert {bomb.name: harm.status for bomb, harm in found.items()} == {
        bomb.name: bomb.status for bomb in chosen
    }
    for bomb, harm in found.items():
        assert harm.rise_bytes <= LIMITS[bomb.path] + 2 * MIB, (bomb.name, harm)
        assert harm.late_seconds <= PROMISED_SECONDS + harm.idle_seconds, (bomb.name, harm)
        assert harm.others > 0
    assert 'shipworthy_blocked_total{guard="body",rule="size",mode="enforce"} 2' in counts
