"""The backward fold, on entries written by hand and by a model of a table."""

import json

from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from shipworthy.audit.cells import write_image, write_key
from shipworthy.audit.fold import (
    Arrival,
    LiveRow,
    Source,
    arrival,
    last_written,
    names_at,
    row_before,
    rows_before,
)
from shipworthy.audit.model import CatalogColumn, CatalogTable, Entry, TableName

NAMES = {1: {"id": "id", "a": "a", "b": "b"}}


def entry(seq, op, key, old=None, new=None, *, shape=1):
    return Entry(
        seq=seq,
        position=seq,
        at_microseconds=seq,
        tx="x",
        table_id=1,
        shape_id=shape,
        op=op,
        key=None if key is None else write_key(key),
        old=None if old is None else write_image(old),
        new=None if new is None else write_image(new),
    )


def table(*columns):
    return CatalogTable(
        name=TableName(schema="", name="t"),
        columns=tuple(
            CatalogColumn(name=name, type=type_, number=number) for name, type_, number in columns
        ),
        primary_key=("id",),
    )


def before(key, log, live, *, names=NAMES, arrived=()):
    found = row_before(
        write_key(key),
        entries=lambda key, seq: [one for one in log if one.key == key and one.seq > seq],
        arrived=arrived,
        live=lambda key: live.get(key),
        primary_key=lambda shape_id: ("id",),
        names=names,
    )
    return None if found is None else {name: source.cell for name, source in found.items()}


def now(**image):
    return {write_key([image["id"]]): LiveRow(shape_id=1, image=image)}


def test_a_row_nobody_touched_is_the_live_row():
    """Nothing was written since: it is as it is."""
    assert before(["1"], [], now(id="1", a="x")) == {"id": "1", "a": "x"}
    assert before(["2"], [], now(id="1", a="x")) is None


def test_of_two_updates_the_older_one_tells_the_value():
    """What it was before the first update after the time is what it was at the time."""
    log = [
        entry(1, "U", ["1"], {"a": "first"}, {"a": "second"}),
        entry(2, "U", ["1"], {"a": "second", "b": "p"}, {"a": "third", "b": "q"}),
    ]
    assert before(["1"], log, now(id="1", a="third", b="q")) == {"id": "1", "a": "first", "b": "p"}


def test_a_row_inserted_since_was_not_there():
    """Also where it is deleted again, and where its number was used before."""
    log = [entry(1, "I", ["1"], None, {"id": "1"}), entry(2, "D", ["1"], {"id": "1"})]
    assert before(["1"], log, {}) is None


def test_a_row_deleted_since_comes_from_its_image():
    """Updates between the time and the deletion are undone on it; a row inserted later with the
    same key has no part in it.
    """
    log = [
        entry(1, "U", ["1"], {"a": "x"}, {"a": "y"}),
        entry(2, "D", ["1"], {"id": "1", "a": "y"}),
        entry(3, "I", ["1"], None, {"id": "1", "a": "other"}),
    ]
    assert before(["1"], log, now(id="1", a="other")) == {"id": "1", "a": "x"}


def test_a_row_is_followed_to_the_key_it_has_now():
    """And the key it has now was nobody's at the time, or somebody else's."""
    log = [
        entry(1, "D", ["2"], {"id": "2", "a": "other"}),
        entry(2, "U", ["1"], {"id": "1"}, {"id": "2"}),
        entry(3, "U", ["2"], {"a": "x"}, {"a": "y"}),
    ]
    live = now(id="2", a="y")
    assert before(["1"], log, live) == {"id": "1", "a": "x"}
    assert before(["2"], log, live, arrived=[2]) == {"id": "2", "a": "other"}
    assert before(["2"], log[1:], live, arrived=[2]) is None
    assert before(["3"], log, now(id="3"), arrived=[9]) is None


def test_a_gap_in_the_log_leaves_columns_out_and_invents_none():
    """A row that ended unseen before it was inserted again is known only by its old values."""
    log = [
        entry(1, "U", ["1"], {"a": "x"}, {"a": "y"}),
        entry(2, "I", ["1"], None, {"id": "1", "a": "other", "b": "other"}),
    ]
    assert before(["1"], log, now(id="1", a="other", b="other")) == {"a": "x"}
    assert before(["1"], log[:1], {}) == {"a": "x"}


def test_columns_go_by_the_name_they_had_then():
    """One renamed since has its old name, one added since is not there."""
    names = {1: {"id": "id", "a": "a"}, 2: {"id": "id", "renamed": "a"}}
    live = {write_key(["1"]): LiveRow(shape_id=2, image={"id": "1", "renamed": "z", "added": "0"})}
    log = [entry(1, "U", ["1"], {"renamed": "y"}, {"renamed": "z"}, shape=2)]
    assert before(["1"], log, live, names=names) == {"id": "1", "a": "y"}
    assert before(["1"], [], live, names=names) == {"id": "1", "a": "z"}


def test_a_dropped_column_has_the_value_written_last():
    """Looked for backward from the time, no further than the row's insert."""
    log = [
        entry(5, "U", ["1"], {"b": "x"}, {"b": "y"}),
        entry(4, "I", ["1"], None, {"id": "1", "a": "1", "b": "x"}),
        entry(3, "D", ["1"], {"id": "1"}),
    ]
    found = last_written(log, ["a", "b", "c"], NAMES)
    assert found["b"] == Source(cell="y", shape_id=1, column="b", seq=5, side="n")
    assert found["a"].cell == "1"
    assert "c" not in found
    assert last_written(log[2:], ["a"], NAMES) == {}
    # The row is older than the log.
    assert last_written(log[:1], ["a"], NAMES) == {}
    assert last_written(log, [], NAMES) == {}


def test_an_update_of_the_key_is_an_arrival():
    """One that sets the key to what it is, or touches it not at all, is none."""
    moving = entry(7, "U", ["1", "2"], {"b": "2"}, {"b": "3"})
    assert arrival(moving, ("a", "b")) == Arrival(
        seq=7, left=write_key(["1", "2"]), key=write_key(["1", "3"])
    )
    assert arrival(entry(7, "U", ["1"], {"a": "2"}, {"a": "3"}), ("id",)) is None
    assert arrival(entry(7, "D", ["1"], {"a": "2"}), ("id",)) is None
    assert arrival(entry(7, "U", None, {"a": "2"}, {"a": "3"}), ()) is None


def test_rows_without_a_key_are_counted():
    """Equal rows are as many as they were."""
    log = [
        entry(1, "I", None, None, {"a": "1"}),
        entry(2, "U", None, {"a": "2"}, {"a": "3"}),
        entry(3, "D", None, {"a": "4"}),
        entry(4, "D", None, {"a": "4"}),
    ]
    live = [{"a": "1"}, {"a": "1"}, {"a": "3"}, {"a": "5"}]
    found = sorted(image["a"] for image in rows_before(live, log))
    assert found == ["1", "2", "4", "4", "5"]


def test_a_column_is_known_by_its_number_where_that_stays():
    """A column dropped and another added under its name are two; one renamed is one."""
    then = table(("id", "int", 1), ("a", "int", 2), ("b", "text", 3))
    other = table(("id", "int", 1), ("a", "int", 4), ("c", "text", 3))
    assert names_at({1: then, 2: other}, 1, numbers_stay=True)[2] == {"id": "id", "c": "b"}
    assert names_at({1: then, 2: other}, 2, numbers_stay=True)[1] == {"id": "id", "b": "c"}


def test_a_column_is_known_by_its_name_elsewhere():
    """And by its place where that is the only thing that can have happened to it."""
    then = table(("id", "int", 1), ("a", "int", 2), ("b", "text", 3))

    def names(*columns):
        return names_at({1: then, 2: table(*columns)}, 1, numbers_stay=False)[2]

    renamed = [("id", "int", 1), ("a", "int", 2), ("c", "text", 3)]
    assert names(*renamed) == {"id": "id", "a": "a", "c": "b"}
    assert names(*renamed, ("d", "int", 4)) == {"id": "id", "a": "a", "c": "b"}
    assert names(("id", "int", 1), ("a", "int", 2), ("c", "int", 3)) == {"id": "id", "a": "a"}
    assert names(("id", "int", 1), ("b", "text", 2)) == {"id": "id", "b": "b"}
    # Something was dropped: what stands at the place of `b` now may be anything.
    assert names(("id", "int", 1), ("a", "int", 3), ("x", "text", 2)) == {"id": "id", "a": "a"}


def test_a_column_is_followed_through_every_shape():
    """Renamed twice, it is found; another one that took its name is not it."""
    shapes = {
        1: table(("id", "int", 1), ("a", "int", 2)),
        2: table(("id", "int", 1), ("b", "int", 2)),
        3: table(("id", "int", 1), ("c", "int", 2), ("a", "int", 3)),
    }
    found = names_at(shapes, 1, numbers_stay=False)
    assert found[3] == {"id": "id", "c": "a"}
    assert names_at(shapes, 3, numbers_stay=False)[1] == {"id": "id", "a": "c"}


KEYS = st.sampled_from(["1", "2", "3"])
CELLS = st.sampled_from(["x", "y", None])


class Folded(RuleBasedStateMachine):
    """A table, its log, and a copy of the table after each write."""

    def __init__(self):
        super().__init__()
        self.rows = {}
        self.log = []
        self.copies = [{}]

    def wrote(self, op, key, old, new):
        self.log.append(entry(len(self.log) + 1, op, [key], old, new))
        self.copies.append({key: dict(row) for key, row in self.rows.items()})

    @rule(key=KEYS, a=CELLS, b=CELLS)
    def insert(self, key, a, b):
        if key not in self.rows:
            self.rows[key] = {"id": key, "a": a, "b": b}
            self.wrote("I", key, None, dict(self.rows[key]))

    @rule(key=KEYS, a=CELLS)
    def update(self, key, a):
        if key in self.rows and self.rows[key]["a"] != a:
            old = {"a": self.rows[key]["a"]}
            self.rows[key]["a"] = a
            self.wrote("U", key, old, {"a": a})

    @rule(key=KEYS, to=KEYS)
    def move(self, key, to):
        if key in self.rows and to not in self.rows:
            self.rows[to] = {**self.rows.pop(key), "id": to}
            self.wrote("U", key, {"id": key}, {"id": to})

    @rule(key=KEYS)
    def delete(self, key):
        if key in self.rows:
            self.wrote_image = self.rows.pop(key)
            self.wrote("D", key, self.wrote_image, None)

    @invariant()
    def every_copy_is_found_again(self):
        live = {write_key([key]): LiveRow(shape_id=1, image=row) for key, row in self.rows.items()}
        for seq, copy in enumerate(self.copies):
            after = self.log[seq:]
            moves = [found for one in after if (found := arrival(one, ("id",)))]
            for key in ("1", "2", "3"):
                arrived = [move.seq for move in moves if move.key == write_key([key])]
                assert before([key], after, live, arrived=arrived) == copy.get(key)


Folded.TestCase.settings = settings(max_examples=60, stateful_step_count=14, deadline=None)
TestFolded = Folded.TestCase


@given(st.lists(st.tuples(st.sampled_from("IUD"), st.sampled_from("ab"), st.sampled_from("ab"))))
def test_any_writes_to_rows_without_a_key_are_undone(writes):
    """Whatever was written, the rows before it are found, as many of each."""
    rows, log = [{"c": "a"}, {"c": "b"}], []
    first = list(rows)
    for op, one, other in writes:
        if op == "I":
            rows.append({"c": one})
            log.append(entry(len(log) + 1, "I", None, None, {"c": one}))
        elif {"c": one} in rows:
            rows.remove({"c": one})
            if op == "D":
                log.append(entry(len(log) + 1, "D", None, {"c": one}))
            else:
                rows.append({"c": other})
                log.append(entry(len(log) + 1, "U", None, {"c": one}, {"c": other}))
    found = [json.dumps(image) for image in rows_before(rows, log)]
    assert sorted(found) == sorted(map(json.dumps, first))
