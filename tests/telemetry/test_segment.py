"""A worker's segment: read while it is written, after any death, and never beyond its room."""

import errno
import json
import logging
import os
from pathlib import Path

import pytest

from shipworthy.events import Declared, Metric
from shipworthy.telemetry import Registry, Segment, Snapshot, segment as module
from shipworthy.telemetry.segment import SLOTS_BYTES, SegmentReader

ORDERS = Metric("orders_total", "counter", "Orders.", {"channel": Declared()})
SECONDS = Metric("took_seconds", "histogram", "Seconds.", {"channel": Declared()}, (0.1, 1.0))
DEPTH = Metric("depth", "gauge", "Depth.")


def sets(snapshot: Snapshot, name: str) -> dict[tuple[str, ...], list[float]]:
    return {tuple(values): numbers for values, numbers in snapshot[name]["sets"]}


def test_what_a_worker_counts_is_read_at_once(tmp_path: Path) -> None:
    """Before and after it moved in, sets that are there and sets to come, without a word of his."""
    registry = Registry()
    orders, seconds = registry.counter(ORDERS), registry.histogram(SECONDS)
    orders.cell("web").add(2)
    segment = Segment.begin(tmp_path, "w")
    registry.keep_in(segment)
    reader = SegmentReader(tmp_path, "w")
    before = reader.counted()
    orders.cell("web").add()
    orders.cell("phone").add(5)
    seconds.cell("web").observe(0.5)
    after = reader.counted()

    assert sets(before, "orders_total") == {("web",): [2.0]}
    assert sets(after, "orders_total") == {("web",): [3.0], ("phone",): [5.0]}
    assert sets(after, "took_seconds") == {("web",): [0.0, 1.0, 0.0, 0.5]}
    assert after == {name: one for name, one in registry.snapshot().items() if one["sets"]} | {
        name: after[name] for name in after
    }
    reader.close()


def test_what_two_registries_count_by_one_name_is_added_up(tmp_path: Path) -> None:
    """The hull's and the application's, as in memory; what differs has slots of its own."""
    ours, theirs = Registry(), Registry()
    ours.join(theirs)
    ours.counter(ORDERS).cell("web").add(3)
    theirs.counter(ORDERS).cell("web").add(4)
    ours.histogram(SECONDS).cell("web").observe(0.5)
    theirs.histogram(Metric("took_seconds", "histogram", "Other.", {}, (9.0,))).cell().observe(1)
    theirs.counter(Metric("other_total", "counter", "Another.")).cell().add(1000)
    segment = Segment.begin(tmp_path, "w")

    ours.keep_in(segment)
    reader = SegmentReader(tmp_path, "w")
    ours.counter(ORDERS).cell("web").add()
    counted = reader.counted()

    assert sets(counted, "orders_total") == {("web",): [8.0]}
    assert len(counted["orders_total"]["sets"]) == 1
    assert sets(counted, "took_seconds") == {("web",): [0.0, 1.0, 0.0, 0.5]}
    assert sets(counted, "other_total") == {(): [1000.0]}
    reader.close()


def test_what_is_only_read_is_said_and_replaced_as_a_whole(tmp_path: Path) -> None:
    """Gauges and examples; the cells are not said twice."""
    registry = Registry()
    depth = 3.0
    registry.gauge(DEPTH, read=lambda: depth)
    registry.counter(ORDERS).cell("web").add()
    registry.histogram(SECONDS).cell("web").observe_traced(0.5, "trace")
    segment = Segment.begin(tmp_path, "w")
    registry.keep_in(segment)
    reader = SegmentReader(tmp_path, "w")

    assert reader.said() == {}
    segment.say(registry.rest())
    first = reader.said()
    depth = 4.0
    segment.say(registry.rest())

    assert sets(first, "depth") == {(): [3.0]}
    assert sets(reader.said(), "depth") == {(): [4.0]}
    assert set(first) == {"depth", "took_seconds"}
    assert first["took_seconds"]["sets"] == []
    assert first["took_seconds"]["exemplars"][0][2] == "trace"
    (tmp_path / "w.said").write_text("{half")
    assert reader.said() == {}


def test_the_lock_tells_the_living_from_the_dead(tmp_path: Path) -> None:
    """No process number is asked: one that was given to somebody else fools nobody."""
    segment = Segment.begin(tmp_path, "w")
    reader = SegmentReader(tmp_path, "w")

    alive = reader.dead()
    segment.close()

    assert (alive, reader.dead()) == (False, True)


def test_a_line_that_was_cut_by_death_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    """The kernel may stop a write anywhere; what follows is read when it is whole."""
    registry = Registry()
    registry.keep_in(Segment.begin(tmp_path, "w"))
    registry.counter(ORDERS).cell("web").add()
    whole = (tmp_path / "w.cells").read_bytes()
    cut = tmp_path / "cut.cells"
    cut.write_bytes(whole)
    for length in range(len(whole), SLOTS_BYTES - 1, -1):
        os.truncate(cut, length)
        reader = SegmentReader(tmp_path, "cut")
        seen = reader.counted().get("orders_total", {"sets": []})["sets"]
        assert seen == ([(["web"], [1.0])] if length == len(whole) else [])
        reader.close()


def test_a_full_disk_or_a_full_segment_costs_no_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New sets are counted in memory and said with the gauges; it is logged once."""
    registry = Registry()
    segment = Segment.begin(tmp_path, "w")
    registry.keep_in(segment)
    orders = registry.counter(ORDERS)
    orders.cell("web").add()
    monkeypatch.setattr(module, "SLOTS_BYTES", segment._taken * 8 + 8)
    orders.cell("phone").add()
    for name in ("post", "fax"):
        orders.cell(name).add(7)
    monkeypatch.undo()
    reader = SegmentReader(tmp_path, "w")

    assert sets(registry.rest(), "orders_total") == {("post",): [7.0], ("fax",): [7.0]}
    assert len(registry.snapshot()["orders_total"]["sets"]) == 4
    (said,) = [one for one in caplog.records if "no room for more metrics" in one.getMessage()]
    assert said.levelno == logging.ERROR
    assert set(sets(reader.counted(), "orders_total")) == {("web",), ("phone",)}


def test_the_room_is_taken_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store into a hole of a full disk would end the process; so the disk is asked first."""
    segment = Segment.begin(tmp_path, "w")

    def full(fd: int, start: int, length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    registry = Registry()
    registry.keep_in(segment)
    registry.counter(ORDERS).cell("web").add()

    assert segment._taken == 0
    assert registry.counter(ORDERS).cell("web").value == 1


def test_a_directory_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    """And nothing is left behind."""
    with pytest.raises(FileNotFoundError):
        Segment.begin(tmp_path / "none", "w")
    (tmp_path / "w.cells").mkdir()
    (tmp_path / "w.cells" / "x").touch()
    with pytest.raises(OSError, match=r"w\.cells"):
        Segment.begin(tmp_path, "w")
    assert [path.name for path in tmp_path.iterdir()] == ["w.cells"]


def test_nobody_takes_the_place_of_one_who_counts(tmp_path: Path) -> None:
    """A name that is in use is an error, and the living one counts on."""
    registry = Registry()
    registry.keep_in(Segment.begin(tmp_path, "w"))
    with pytest.raises(FileExistsError):
        Segment.begin(tmp_path, "w")
    registry.counter(ORDERS).cell("web").add()
    reader = SegmentReader(tmp_path, "w")

    assert sets(reader.counted(), "orders_total") == {("web",): [1.0]}
    assert [path.name for path in tmp_path.iterdir()] == ["w.cells"]
    reader.close()


def test_what_is_no_segment_is_refused(tmp_path: Path) -> None:
    """Of another format, or shorter than one can be."""
    Segment.begin(tmp_path, "w").close()
    head = bytes(SLOTS_BYTES)
    (tmp_path / "w.cells").write_bytes(head + json.dumps({"format": 99}).encode() + b"\n")
    (tmp_path / "short.cells").write_bytes(b"x")

    with pytest.raises(ValueError, match="format 99"):
        SegmentReader(tmp_path, "w").counted()
    with pytest.raises(ValueError):
        SegmentReader(tmp_path, "short")


def test_a_child_that_is_forked_counts_for_itself_and_holds_nothing(tmp_path: Path) -> None:
    """What it adds is not the parent's, and the parent's death is seen though it lives."""
    registry = Registry()
    orders = registry.counter(ORDERS).cell("web")
    segment = Segment.begin(tmp_path, "w")
    registry.keep_in(segment)
    orders.add()
    go, went = os.pipe()
    there, came = os.pipe()
    child = os.fork()
    if child == 0:
        orders.add(100)
        os.write(came, b"x")
        os.read(go, 1)
        os._exit(int(orders.value) % 100)
    os.read(there, 1)
    reader = SegmentReader(tmp_path, "w")
    counted = sets(reader.counted(), "orders_total")
    segment.close()
    dead = reader.dead()
    os.write(went, b"x")
    status = os.waitpid(child, 0)[1]
    for fd in (go, went, there, came):
        os.close(fd)

    assert counted == {("web",): [1.0]}
    assert dead
    assert os.waitstatus_to_exitcode(status) == 1
