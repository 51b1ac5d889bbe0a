"""What the log says of a row, entry by entry."""

from shipworthy.audit.ledger.replay import GONE, replayed

ONE, TWO = '["i1"]', '["i2"]'


def states(*entries):
    rows = [(seq, 1, *entry) for seq, entry in enumerate(entries, start=1)]
    return {
        key: ("gone" if it.cells is GONE else {n: c.cell for n, c in it.cells.items()}, it.older)
        for key, it in replayed(rows, ["id"]).items()
    }


def test_a_row_is_what_was_inserted_and_then_changed():
    insert, update = ("I", ONE, '{"id":"i1","a":"t1","b":null}'), ("U", ONE, '{"a":"t2"}')
    assert states(insert, update) == {ONE: ({"id": "i1", "a": "t2", "b": None}, False)}


def test_of_a_row_older_than_the_log_only_what_was_written_is_known():
    assert states(("U", ONE, '{"a":"t2"}')) == {ONE: ({"a": "t2"}, True)}
    assert states(("D", ONE, None)) == {ONE: ("gone", True)}


def test_a_row_goes_where_its_key_goes():
    insert, move = ("I", ONE, '{"id":"i1","a":"t1"}'), ("U", ONE, '{"id":"i2"}')
    assert states(insert, move) == {ONE: ("gone", False), TWO: ({"id": "i2", "a": "t1"}, False)}
    assert states(move) == {ONE: ("gone", True), TWO: ({"id": "i2"}, False)}


def test_a_key_that_is_given_again_is_another_row():
    """That it was there before the log is not forgotten by that."""
    assert states(("D", ONE, None), ("I", ONE, '{"id":"i1"}')) == {ONE: ({"id": "i1"}, True)}
    gone, again = ("D", ONE, None), ("U", ONE, '{"a":"t1"}')
    assert states(gone, again) == {ONE: ({"a": "t1"}, True)}
    moved = ("I", TWO, '{"id":"i2"}'), ("U", TWO, '{"id":"i1"}')
    assert states(gone, *moved) == {ONE: ({"id": "i1"}, True), TWO: ("gone", False)}


def test_marks_and_rows_without_a_key_say_nothing():
    assert states(("T", None, None), ("I", None, '{"a":"t1"}')) == {}
