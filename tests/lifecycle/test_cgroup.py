"""What the control groups say, from trees as kernels and containers show them."""

from pathlib import Path

import pytest

from shipworthy.lifecycle.cgroup import Cgroup, CgroupUse, Limit

MIB = 2**20
NO_LIMIT_V1 = "9223372036854771712"
V2_MOUNT = "29 23 0:26 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def v1_mount(controller: str, root: str = "/") -> str:
    return (
        f"33 31 0:30 {root} /sys/fs/cgroup/{controller} rw,relatime - cgroup cgroup "
        f"rw,{controller}\n"
    )


class Tree:
    """A root directory that grows; `unread` is what the reader complained of."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.unread: list[tuple[str, str]] = []

    def write(self, path: str, text: str) -> "Tree":
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return self

    def group(self, **files: str) -> "Tree":
        """Write files of a cgroup folder: `memory_max="5"` under the last folder named `at`."""
        at = files.pop("at")
        for name, text in files.items():
            self.write(f"sys/fs/cgroup/{at}/{name.replace('_', '.', 1)}", f"{text}\n")
        return self

    def read(self) -> Cgroup:
        return Cgroup(self.root, unread=lambda file, why: self.unread.append((file, why)))


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.fixture
def nested(tree: Tree) -> Tree:
    """Version 2: a service within a slice, the slice has the smaller memory and CPU."""
    tree.write("proc/self/cgroup", "0::/web.slice/shop.service\n")
    tree.write("proc/self/mountinfo", V2_MOUNT)
    tree.group(
        at="web.slice",
        memory_max=str(400 * MIB),
        memory_high="max",
        memory_current=str(390 * MIB),
        memory_stat=f"anon 1\ninactive_file {30 * MIB}\n",
        cpu_max="150000 100000",
        cpu_stat="usage_usec 9\nnr_periods 200\nnr_throttled 30\nthrottled_usec 2500000",
        pids_max="max",
        pids_current="40",
    )
    tree.group(
        at="web.slice/shop.service",
        memory_max=str(1024 * MIB),
        memory_high=str(900 * MIB),
        memory_current=str(200 * MIB),
        memory_stat=f"inactive_file {10 * MIB}\n",
        memory_events="low 0\nhigh 3\nmax 7\noom 1\noom_kill 2\n",
        memory_pressure="some avg10=12.50 avg60=1.00 avg300=0.00 total=1\nfull avg10=1.00",
        cpu_max="max 100000",
        cpu_stat="usage_usec 9\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0",
        pids_max="100",
        pids_current="20",
    )
    return tree


def test_the_smallest_limit_of_all_ancestors_holds(nested: Tree) -> None:
    """L24, L27: the leaf allows more than the slice above it, and the slice decides."""
    group = nested.read()

    assert group.versions() == {"memory": 2, "cpu": 2, "pids": 2}
    slice_ = "/sys/fs/cgroup/web.slice"
    assert group.memory_limit() == Limit(value=400 * MIB, source=f"{slice_}/memory.max")
    assert group.cpu_limit() == Limit(value=1.5, source=f"{slice_}/cpu.max")
    assert group.pids_limit() == Limit(value=100, source=f"{slice_}/shop.service/pids.max")


def test_use_is_that_of_the_level_nearest_to_its_limit(nested: Tree) -> None:
    """A neighbour in the slice may have what we do not: the slice is full at 360 of 400 MiB."""
    assert nested.read().use() == CgroupUse(
        memory_bytes=360 * MIB,
        memory_limit_bytes=400 * MIB,
        pids=20,
        pids_limit=100,
        cpu_periods=200,
        cpu_throttled_periods=30,
        cpu_throttled_seconds=2.5,
        memory_limit_hits=7,
        oom_kills=2,
        memory_pressure_ratio=0.125,
        cpu_pressure_ratio=None,
    )


def test_memory_high_is_a_limit_too(tree: Tree) -> None:
    """Where the kernel slows us down, we are as good as full."""
    tree.write("proc/self/cgroup", "0::/shop\n").write("proc/self/mountinfo", V2_MOUNT)
    tree.group(at="shop", memory_max=str(500 * MIB), memory_high=str(300 * MIB))

    limit = tree.read().memory_limit()

    assert limit == Limit(value=300 * MIB, source="/sys/fs/cgroup/shop/memory.high")


@pytest.fixture
def old(tree: Tree) -> Tree:
    """Version 1, all controllers."""
    tree.write(
        "proc/self/cgroup", "4:memory:/shop\n3:cpu,cpuacct:/shop\n2:pids:/shop\n1:name=systemd:/\n"
    )
    tree.write(
        "proc/self/mountinfo",
        v1_mount("memory")
        + "34 31 0:31 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
        + v1_mount("pids"),
    )
    tree.group(
        at="memory/shop",
        memory_limit_in_bytes=str(300 * MIB),
        memory_usage_in_bytes=str(250 * MIB),
        memory_stat=f"cache 1\nhierarchical_memory_limit {200 * MIB}\n"
        f"inactive_file 5\ntotal_inactive_file {50 * MIB}\n",
        memory_failcnt="4",
        memory_oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    )
    tree.group(at="memory", memory_limit_in_bytes=NO_LIMIT_V1, memory_usage_in_bytes="1")
    tree.group(
        at="cpu,cpuacct/shop",
        cpu_cfs_quota_us="50000",
        cpu_cfs_period_us="100000",
        cpu_stat="nr_periods 10\nnr_throttled 4\nthrottled_time 1500000000\n",
    )
    tree.group(at="cpu,cpuacct", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    tree.group(at="pids/shop", pids_max="64", pids_current="8")
    return tree


def test_version_1_with_the_limit_of_a_parent(old: Tree) -> None:
    """`hierarchical_memory_limit` tells of ancestors that a container cannot see."""
    group = old.read()

    assert group.versions() == {"memory": 1, "cpu": 1, "pids": 1}
    assert group.memory_limit() == Limit(
        value=200 * MIB, source="/sys/fs/cgroup/memory/shop/memory.stat"
    )
    assert group.cpu_limit() == Limit(
        value=0.5, source="/sys/fs/cgroup/cpu,cpuacct/shop/cpu.cfs_quota_us"
    )
    assert group.use() == CgroupUse(
        memory_bytes=200 * MIB,
        memory_limit_bytes=200 * MIB,
        pids=8,
        pids_limit=64,
        cpu_periods=10,
        cpu_throttled_periods=4,
        cpu_throttled_seconds=1.5,
        memory_limit_hits=4,
        oom_kills=1,
    )


def test_hybrid_is_decided_for_each_controller(tree: Tree) -> None:
    """A host with memory in version 1 and the rest in version 2: each is read where it is."""
    tree.write("proc/self/cgroup", "4:memory:/\n0::/shop\n")
    tree.write(
        "proc/self/mountinfo",
        v1_mount("memory") + V2_MOUNT.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"),
    )
    tree.group(at="memory", memory_limit_in_bytes=str(64 * MIB), memory_usage_in_bytes="5")
    tree.group(at="unified/shop", cpu_max="200000 100000")

    group = tree.read()

    assert group.versions() == {"memory": 1, "cpu": 2, "pids": 2}
    assert group.memory_limit() == Limit(
        value=64 * MIB, source="/sys/fs/cgroup/memory/memory.limit_in_bytes"
    )
    assert group.cpu_limit() == Limit(value=2.0, source="/sys/fs/cgroup/unified/shop/cpu.max")
    assert group.pids_limit() is None


@pytest.mark.parametrize(
    ("own", "mounted"),
    [
        pytest.param("/", "/", id="a namespace of its own"),
        pytest.param("/docker/abc", "/docker/abc", id="the host's path, and its end is mounted"),
        pytest.param("/docker/abc", "/", id="the host's path, which is not to be seen"),
        pytest.param("/../../other", "/", id="outside of our namespace"),
        pytest.param("/docker/abc", "/../..", id="a mount from above our namespace"),
    ],
)
def test_within_a_container(tree: Tree, own: str, mounted: str) -> None:
    """Whatever path it is given, a container's limits are at the mount."""
    tree.write("proc/self/cgroup", f"0::{own}\n")
    tree.write("proc/self/mountinfo", V2_MOUNT.replace("0:26 / ", f"0:26 {mounted} "))
    tree.group(at=".", memory_max=str(128 * MIB), memory_current=str(32 * MIB))

    group = tree.read()

    assert group.memory_limit() == Limit(value=128 * MIB, source="/sys/fs/cgroup/memory.max")
    assert group.use().memory_bytes == 32 * MIB


def test_a_mount_point_with_a_blank(tree: Tree) -> None:
    r"""The kernel writes a blank in a path as `\040`."""
    tree.write("proc/self/cgroup", "0::/\n")
    tree.write("proc/self/mountinfo", V2_MOUNT.replace("/sys/fs/cgroup", "/sys/my\\040groups"))
    tree.write("sys/my groups/memory.max", "1024\n")

    limit = tree.read().memory_limit()

    assert limit is not None
    assert limit.value == 1024


def test_without_control_groups(tree: Tree) -> None:
    """macOS, or a jail without /proc: nothing is known, and nobody complains."""
    group = tree.read()

    assert group.versions() == {}
    assert (group.memory_limit(), group.cpu_limit(), group.pids_limit()) == (None, None, None)
    assert group.use() == CgroupUse()
    assert tree.unread == []


def test_without_groups_the_pressure_is_that_of_the_machine(tree: Tree) -> None:
    """Version 1 has no pressure of its own; the machine's is better than none."""
    tree.write("proc/pressure/cpu", "some avg10=3.00 avg60=0.00 avg300=0.00 total=1\n")

    assert tree.read().use().cpu_pressure_ratio == pytest.approx(0.03)


def test_what_cannot_be_read_is_said_once(nested: Tree) -> None:
    """A file that is a directory cannot be read, not even by root; the other numbers are there."""
    file = nested.root / "sys/fs/cgroup/web.slice/shop.service/memory.current"
    file.unlink()
    file.mkdir()
    group = nested.read()

    first, second = group.use(), group.use()

    assert first == second
    assert first.memory_bytes == 360 * MIB
    assert nested.unread == [
        ("/sys/fs/cgroup/web.slice/shop.service/memory.current", "Is a directory")
    ]


@pytest.mark.parametrize(
    "rubbish",
    [
        "",
        "\0\xff",
        "none of it",
        "-5",
        "0 0",
        "max max",
        "1e9",
        "9" * 5000,
        "9" * 5000 + " 1",
        "0::/\0/a",
    ],
)
def test_rubbish_is_no_limit(tree: Tree, rubbish: str) -> None:
    """Whatever a file says: no exception, and no limit out of nothing."""
    for file in ("memory.max", "memory.current", "memory.stat", "cpu.max", "cpu.stat", "pids.max"):
        tree.write(f"sys/fs/cgroup/{file}", rubbish)
    tree.write("proc/self/cgroup", f"{rubbish}\n0::/\n{rubbish}\n::\n")
    tree.write("proc/self/mountinfo", f"{rubbish}\n{V2_MOUNT}1 2 - cgroup\n - \ncgroup - cgroup2")

    group = tree.read()

    assert (group.memory_limit(), group.cpu_limit(), group.pids_limit()) == (None, None, None)
    assert group.use() == CgroupUse()


def test_here() -> None:
    """On the machine of the test it reads something or nothing, and never fails."""
    group = Cgroup()
    limit = group.memory_limit()

    assert limit is None or limit.value > 0
    assert set(group.versions()) <= {"memory", "cpu", "pids"}
    assert group.use() is not None
