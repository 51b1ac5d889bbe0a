"""Snapshots of several processes as one: sums, folds, examples, and what stays of the dead."""

from math import inf, isnan, nan

import orjson
import pytest
from hypothesis import given, strategies as st

from shipworthy.telemetry import Form, Series, Snapshot, exposition, folded, from_json, retired


def series(kind: str, sets: dict[str, list[float]], **more: object) -> Series:
    return {  # type: ignore[return-value]
        "kind": kind,
        "help": "Help.",
        "labels": ["name"],
        "buckets": [1.0] if kind == "histogram" else [],
        "fold": "sum",
        "sets": [([name], numbers) for name, numbers in sets.items()],
        **more,
    }


def sets(snapshot: Snapshot, name: str) -> dict[str, list[float]]:
    return {values[0]: numbers for values, numbers in snapshot[name]["sets"]}


COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 1000).map(lambda n: [float(n)]))


@given(st.lists(COUNTS, max_size=6), st.integers(1, 4), st.integers(1, 4))
def test_what_retires_keeps_its_sum_and_its_bound(
    processes: list[dict[str, list[float]]], per_metric: int, in_all: int
) -> None:
    """However many label sets the dead had: no more than may be, and nothing is lost or doubled."""
    kept: Snapshot = {}
    for counts in processes:
        kept = retired(
            [kept, {"x_total": series("counter", counts)}],
            sets_per_metric=per_metric,
            sets_in_all=in_all,
        )

    counted = [number for counts in processes for (number,) in counts.values()]
    found = sets(kept, "x_total") if processes else {}
    assert sum(number for (number,) in found.values()) == sum(counted)
    assert len(found) <= min(per_metric, in_all)


def test_only_counts_stay_of_the_dead() -> None:
    """A gauge is of the living, and an example of a trace is too old soon."""
    exemplar = (["a"], 0, "trace", 0.5, 10.0)
    kept = retired(
        [
            {
                "g": series("gauge", {"a": [1.0]}),
                "u": series("unknown", {"a": [1.0]}),
                "s": series("summary", {"a": [2.0, 3.0]}),
                "h": series("histogram", {"a": [1.0, 0.0, 0.5]}, exemplars=[exemplar]),
            }
        ]
    )

    assert set(kept) == {"s", "h"}
    assert "exemplars" not in kept["h"]


def test_of_the_examples_of_a_bucket_the_latest_is_shown() -> None:
    """Whichever process it is of; other buckets and label sets have their own."""
    first = [(["a"], 0, "new", 1, 20), (["b"], 0, "b", 1, 1)]
    second = [(["a"], 0, "old", 1, 10), (["a"], 1, "c", 2, 2)]

    together = folded([{"h": series("histogram", {}, exemplars=one)} for one in (first, second)])

    assert {one[2] for one in together["h"]["exemplars"]} == {"new", "b", "c"}


def test_a_different_declaration_is_left_out_and_named_once() -> None:
    """The first one holds; labels, kind, buckets and fold all make a difference."""
    one = series("gauge", {"a": [1.0]})
    others = [
        series("counter", {"a": [1.0]}),
        series("gauge", {"a": [1.0]}, fold="max"),
        series("gauge", {"a": [1.0]}, labels=["other"]),
        series("gauge", {"a": [1.0]}, buckets=[1.0]),
    ]
    remarks: list[str] = []

    together = folded([{"x": one}, *({"x": other} for other in others)], remarks)

    assert sets(together, "x") == {"a": [1.0]}
    assert remarks == ["x"]
    assert folded([{"x": one}, {"x": others[0]}]) == folded([{"x": one}])


@pytest.mark.parametrize("form", list(Form))
def test_a_number_that_is_none_survives_json(form: Form) -> None:
    """One observation that is not finite does not take the page of all processes with it."""
    examples = [(["a"], 0, "good", 0.5, 10.0), (["a"], 1, "endless", inf, 10.0)]
    told = {
        "s": series("summary", {"a": [1.0, nan], "b": [2.0, 3.0]}),
        "h": series("histogram", {"a": [1.0, 1.0, inf]}, exemplars=examples),
    }

    heard = from_json(orjson.loads(orjson.dumps(told)))

    assert isnan(sets(heard, "s")["a"][1])
    assert sets(heard, "s")["b"] == [2.0, 3.0]
    assert [one[2] for one in heard["h"]["exemplars"]] == ["good"]
    assert b's_sum{name="a"} NaN' in exposition([heard, heard], form)
