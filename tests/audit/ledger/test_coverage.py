"""One digest of what is captured: any trigger that is other, off or gone gives another."""

from dataclasses import replace

import pytest

from shipworthy.audit.dialects import TriggerState
from shipworthy.audit.ledger.coverage import digest_of
from shipworthy.audit.model import TableName

ONE = TriggerState(table=TableName(schema="", name="t"), name="a", text="x")
TWO = replace(ONE, name="b")


def test_the_order_does_not_matter():
    assert digest_of([(1, "d"), (2, "e")], [ONE, TWO]) == digest_of(
        [(2, "e"), (1, "d")], [TWO, ONE]
    )


@pytest.mark.parametrize(
    ("shapes", "triggers"),
    [
        ([(1, "d")], [ONE]),
        ([(1, "e")], [ONE, TWO]),
        ([(1, "d")], [ONE, replace(TWO, enabled=False)]),
        ([(1, "d")], [ONE, replace(TWO, text="y")]),
    ],
)
def test_anything_else_does(shapes, triggers):
    assert digest_of(shapes, triggers) != digest_of([(1, "d")], [ONE, TWO])
