"""Declarations of metrics: what Prometheus would not take is refused where it is written."""

import pytest

from shipworthy.events import Metric


def test_a_declaration_is_data() -> None:
    """Two declarations with the same facts are equal, and none can be changed."""
    first = Metric("a_total", "counter", "What is counted.", ("kind",))
    second = Metric("a_total", "counter", "What is counted.", ("kind",))

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
        (("a", "gauge", "Help.", ("le",)), "'le' cannot be a label"),
        (("a", "gauge", "Help.", ("x-y",)), "'x-y' cannot be a label"),
        (("a", "gauge", "Help.", ("x", "x")), "named twice"),
        (("a", "gauge", "Help.", (), (1.0,)), "a histogram has buckets"),
        (("a_seconds", "histogram", "Help."), "a histogram has buckets"),
        (("a_seconds", "histogram", "Help.", (), (2.0, 1.0)), "ascend"),
        (("a_seconds", "histogram", "Help.", (), (1.0, 1.0)), "ascend"),
        (("a_seconds", "histogram", "Help.", (), (1.0, float("inf"))), "finite"),
        (("a_total", "counter", "Help.", (), (), "max"), "only a gauge is folded"),
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
