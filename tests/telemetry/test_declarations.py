"""What an application declares arrives in the supervisor as it was, and nothing else does."""

import orjson
import pytest
from hypothesis import given, strategies as st

from shipworthy.events import (
    Absent,
    Alert,
    Board,
    Both,
    Catalogue,
    Compared,
    Declared,
    Metric,
    Number,
    OneOf,
    Panel,
    Quantile,
    Rate,
    Routes,
    Selection,
    Unless,
    Urgency,
    Within,
    ratio,
)
from shipworthy.serve.shown import service_catalogue
from shipworthy.telemetry.declarations import (
    DECLARATIONS_MAX,
    plain_declarations,
    read_declarations,
)

SOLD = Metric("t_sold_total", "counter", "Sold.", {"what": OneOf("pen", "ink"), "at": Declared(7)})
TOOK = Metric("t_took_seconds", "histogram", "Took.", {"route": Routes()}, buckets=(0.1, 1.0))
BAD = Selection(metric=SOLD, by=("at",), where={"what": ("pen", "ink")}, unless={"what": "ink"})
PANEL = Panel(
    title="Sold",
    help="What is sold.",
    board=Board.BUSINESS,
    shows=(
        ("{at}", ratio(Rate(BAD), Rate(Selection(metric=SOLD, by=("at",)), 60.0))),
        ("p95", Quantile(0.95, Selection(metric=TOOK))),
    ),
    unit="ratio",
)
ALERT = Alert(
    name="SoldOut",
    when=Both(
        Unless(
            Compared(Within(0.1, Selection(metric=TOOK)), "<", Number(0.5)),
            Compared(Rate(Selection(metric=TOOK)), ">", Number(1.0)),
        ),
        Absent(Selection(metric=SOLD)),
        on=(),
    ),
    for_seconds=60.0,
    urgency=Urgency.TICKET,
    summary="nothing is sold",
    cause="c",
    look="l",
    act="a",
    drill="d",
)


def _told(*things: Panel | Alert) -> Catalogue:
    catalogue = Catalogue()
    catalogue.add(*things)
    return catalogue


def test_panels_and_alerts_arrive_as_they_were() -> None:
    """Through JSON, with their metrics, domains, buckets and windows."""
    told = orjson.loads(orjson.dumps(plain_declarations(_told(PANEL, ALERT))))
    found = read_declarations(told)
    assert found.panels == {"Sold": PANEL}
    assert found.alerts == {"SoldOut": ALERT}
    assert found.metrics == {metric.name: metric for metric in (SOLD, TOOK)}
    for name in ("t_sold_total", "t_took_seconds"):
        ours = {"t_sold_total": SOLD, "t_took_seconds": TOOK}[name]
        assert dict(found.metrics[name].labels) == dict(ours.labels)
        assert found.metrics[name].buckets == ours.buckets


def test_all_that_we_declare_ourselves_arrives() -> None:
    """So every construct of the algebra that is used anywhere is known."""
    ours = service_catalogue()
    found = read_declarations(orjson.loads(orjson.dumps(plain_declarations(ours))))
    assert found.panels == ours.panels
    assert found.alerts == ours.alerts


NONSENSE = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["Rate", "OneOf"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["is", "of", "values", "metric", "name"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.lists(NONSENSE, min_size=1, max_size=3))
def test_nonsense_is_refused_and_breaks_nothing(plain: list[object]) -> None:
    """Whatever a worker says, what comes of it is `ValueError`."""
    with pytest.raises(ValueError):
        read_declarations(plain)


def _deep() -> object:
    plain: object = 1.0
    for _ in range(100):
        plain = [plain]
    return plain


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ([{"is": "Path", "x": "/etc"}], "nothing that is declared is a 'Path'"),
        ([{"is": "Number", "value": 1.0}], "no metric, panel or alert"),
        ([{"is": "Number", "other": 1.0}], "this is no Number"),
        ([_deep()], "deep"),
        ([{"is": "Metric", "name": "t", "kind": "counter", "help": "x"}], "_total"),
    ],
)
def test_it_is_said_what_is_wrong(plain: list[object], says: str) -> None:
    """For whoever reads the log."""
    with pytest.raises(ValueError, match=says):
        read_declarations(plain)


def test_there_is_a_bound() -> None:
    """An application that declares without end does not fill another process."""
    plain = plain_declarations(_told(PANEL))
    with pytest.raises(ValueError, match=f"more than {DECLARATIONS_MAX}"):
        read_declarations(plain * (DECLARATIONS_MAX + 1))
