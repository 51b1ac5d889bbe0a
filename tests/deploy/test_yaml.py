"""YAML that people read and machines read the same."""

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from shipworthy.deploy.yaml import yaml_text

_texts = st.text(max_size=20).filter(lambda text: text < "\ud800" or True) | st.sampled_from(
    (
        "yes",
        "NULL",
        "1.5",
        "2026-01-01",
        "a: b",
        "- x",
        "# no",
        "it's",
        '"',
        "a\nb",
        "",
        " a ",
        "{a}",
    )
)
_scalars = _texts | st.integers(-1000, 1000) | st.booleans() | st.none() | st.just(0.25)
_nodes = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@settings(max_examples=60)
@given(node=st.dictionaries(_texts, _nodes, min_size=1, max_size=4) | st.lists(_nodes, min_size=1))
def test_a_reader_of_yaml_gets_what_was_written(node: object) -> None:
    """Whatever looks like a number, a date, a switch or a sign of YAML stays the text it is."""
    assert yaml.safe_load(yaml_text(node, head="written\nby us")) == node  # type: ignore[arg-type]


def test_it_is_written_in_blocks_with_its_head() -> None:
    """People see one value on a line, with quotes only where they are needed."""
    node = {"rules": [{"alert": "Down", "expr": 'up{job="x"} == 0', "labels": {}}], "count": 1}
    assert yaml_text(node, head="by us") == (
        "# by us\nrules:\n  - alert: Down\n    expr: 'up{job=\"x\"} == 0'\n"
        "    labels: {}\ncount: 1\n"
    )
