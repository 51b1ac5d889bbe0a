"""Workers that hold more and more are replaced in time, and nobody notices (L24).

To limit the memory of a real control group takes rights that tests do not have. So the limit is the
worker's own, or the files of the group are written by the test, and only the service sees them.
"""

import subprocess
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from serve.launch import Load, brisk, started
from shipworthy.lifecycle.cgroup import Cgroup

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

LEAKING = f"{Path(__file__).parent / 'apps' / 'leaking.py'}:app"


def test_a_leak_of_megabytes_a_second_is_recycled_and_nothing_is_lost(tmp_path: Path) -> None:
    """L24: each worker in its turn, two successors at least, and every request answered."""
    # A worker begins with some 50 MiB; one that began above the limit would not be recycled.
    settings = brisk() + (
        '[serve]\nworkers = 2\nrecycle_interval = "100ms"\n[resources]\nworker_memory = "160MiB"\n'
    )
    with started(LEAKING, directory=tmp_path, settings=settings) as service:
        service.until_ready()
        service.until(lambda: len(service.serving()) == 2)
        first = set(service.serving())
        with Load(service) as load:
            service.until(lambda: not first & {w["pid"] for w in service.status()["workers"]})
        recycled = service.events("serve.worker_recycled")
        service.signal()
        code = service.ended()

    assert load.failures == []
    assert len(recycled) >= 2
    assert all("resources.worker_memory" in event["because"] for event in recycled)
    assert any(
        event["resource"] == "worker_memory"
        for event in service.events("lifecycle.resource_changed")
    )
    assert code == 0


@pytest.fixture
def group(tmp_path: Path) -> tuple[Path, list[str]]:
    """A folder that stands in for our control group, and the command that puts it there.

    In a mount namespace of its own, so nobody else sees it; the process ends with it.
    """
    cgroup = Cgroup()
    folders = cgroup._folders("memory")
    if not folders:
        pytest.skip("there is no control group of memory here")
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mount namespace may be made here")
    fake = tmp_path / "group"
    fake.mkdir()
    put = f'mount --bind {fake} {folders[-1]} && exec "$@"'
    return fake, [*command, "sh", "-c", put, "sh"]


def uses(folder: Path, mib: int, *, limit_mib: int) -> None:
    """Write what the group uses, as both versions say it."""
    for current, most in (
        ("memory.current", "memory.max"),
        ("memory.usage_in_bytes", "memory.limit_in_bytes"),
    ):
        (folder / most).write_text(f"{limit_mib * 2**20}\n")
        (folder / current).write_text(f"{mib * 2**20}\n")


def test_a_single_worker_without_room_for_another_leaves_with_75(
    tmp_path: Path, group: tuple[Path, list[str]]
) -> None:
    """L24: it drains, and what stands above the service starts it anew; the reason is said."""
    folder, before = group
    uses(folder, 10, limit_mib=1000)
    with started(LEAKING, directory=tmp_path, settings=brisk(), before=before) as service:
        service.until_ready()
        service.until(lambda: service.status()["resources"][0]["used"] == 10 * 2**20)
        fresh = service.status()["workers"][0]["rss_bytes"]
        # Most of it is the worker's, and what is free is less than a new one takes.
        uses(folder, used := int(fresh * 1.9) // 2**20, limit_mib=used * 100 // 93)
        # It leaves when it has grown, from whatever size it had when it was first looked at.
        with httpx.Client(base_url=service.url) as client, suppress(httpx.HTTPError):
            service.until(lambda: client.get("/") and service.process.poll() is not None)
        code = service.ended()

    assert code == 75
    assert (
        f"{used} MiB of the {used * 100 // 93} MiB of the control group are in use" in service.err
    )
    assert "there is no room for a new worker beside it" in service.err
