"""Declarations of metrics: what Prometheus would not take is refused where it is written."""

import pytest

from shipworthy.events import Declared, Metric, OneOf


def test_a_declaration_is_data() -> None:
    """Two declarations with the same facts are equal, and none can be changed."""
    first = Metric("a_total", "counter", "What is counted.", {"kind": OneOf("a", "b")})
    second = Metric("a_total", "counter", "What is counted.", {"kind": OneOf("a", "b")})

    assert first == second
    with pytest.raises(AttributeError):
        first.name = "b_total"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("A-total", "counter", "Help."), "lower case letters"),
        (("a", "counter", "Help."), "ends in _total"),
        (("a_total", "gauge", "Help."), "ends in _total"),
        (("a", "gauge", " "), "no help"),
        (("a", "gauge", "Help.", {"le": Declared()}), "'le' cannot be a label"),
        (("a", "gauge", "Help.", {"x-y": Declared()}), "'x-y' cannot be a label"),
        (("a", "gauge", "Help.", {"x": ("a", "b")}), "'x' has no domain"),
        (("a", "gauge", "Help.", ("x",)), "mapping of names to domains"),
        (("a", "gauge", "Help.", {}, (1.0,)), "a histogram has buckets"),
        (("a_seconds", "histogram", "Help."), "a histogram has buckets"),
        (("a_seconds", "histogram", "Help.", {}, (2.0, 1.0)), "ascend"),
        (("a_seconds", "histogram", "Help.", {}, (1.0, 1.0)), "ascend"),
        (("a_seconds", "histogram", "Help.", {}, (1.0, float("inf"))), "finite"),
        (("a_total", "counter", "Help.", {}, (), "max"), "only a gauge is folded"),
    ],
)
def test_what_prometheus_would_not_take_is_refused(arguments: tuple, problem: str) -> None:
    """The error names the metric and what is wrong with it."""
    with pytest.raises(ValueError, match=problem) as refused:
        Metric(*arguments)

    assert repr(arguments[0]) in str(refused.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    """Two mistakes are two sentences of one error."""
    with pytest.raises(ValueError, match=r"ends in _total.*; it has no help"):
        Metric("a", "counter", "")


@pytest.mark.parametrize(
    ("name", "kind", "unit"),
    [
        ("wait_seconds_total", "counter", "seconds"),
        ("resident_memory_bytes", "gauge", "bytes"),
        ("used_ratio", "gauge", "ratio"),
        ("started_timestamp_seconds", "gauge", "seconds"),
        ("calls_total", "counter", ""),
        ("seconds", "gauge", "seconds"),
    ],
)
def test_the_unit_is_what_the_name_ends_in(name: str, kind: str, unit: str) -> None:
    """Nobody says it twice, so the two cannot differ."""
    assert Metric(name, kind, "Help.").unit == unit  # type: ignore[arg-type]


def test_labels_cannot_be_changed_and_a_metric_may_be_a_key() -> None:
    """Whoever handed in the mapping may go on with it."""
    labels = {"kind": OneOf("a", "b")}
    metric = Metric("a_total", "counter", "What is counted.", labels)

    labels["other"] = OneOf("c")

    assert list(metric.labels) == ["kind"]
    with pytest.raises(TypeError):
        metric.labels["kind"] = OneOf("c")  # type: ignore[index]
    assert {metric: 1}[Metric("a_total", "counter", "What is counted.", {"kind": OneOf("a", "b")})]


def test_zeros_are_there_where_all_label_sets_are_known() -> None:
    """Any name may be a pool's, so there is none before there is a pool."""
    kind, state = OneOf("a", "b"), OneOf("x")

    assert Metric("n", "gauge", "N.").zeros() == {(): 0.0}
    both = Metric("n", "gauge", "N.", {"kind": kind, "state": state})
    assert both.zeros() == {("a", "x"): 0.0, ("b", "x"): 0.0}
    assert Metric("n", "gauge", "N.", {"kind": kind, "pool": Declared()}).zeros() == {}
