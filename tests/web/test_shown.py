"""What is shown of requests, and the objectives made of them."""

import pytest

from shipworthy.events import Metric, metrics_of
from shipworthy.web import door, replay, request_metrics
from shipworthy.web.shown import WEB_SHOWN, availability, latency


def test_every_metric_of_the_room_is_shown() -> None:
    """What nobody sees need not be counted."""
    shown = {metric.name for thing in WEB_SHOWN for metric in metrics_of(thing)}
    declared = [
        thing
        for module in (door, replay, request_metrics)
        for thing in vars(module).values()
        if isinstance(thing, Metric)
    ]

    assert len(declared) > 10
    assert {metric.name for metric in declared} <= shown


def test_what_is_good_of_requests_is_counted_by_status_and_by_time() -> None:
    """A status of 500 or more is a failure of ours; one of 400 is the client's."""
    bad = availability(0.999, 30.0).bad
    assert bad is not None
    statuses = bad.where["http_response_status_code"]
    assert {"500", "503", "5xx"} <= {*statuses}
    assert not {"404", "499"} & {*statuses}
    assert latency(0.99, 0.5, 30.0).within_seconds == 0.5
    with pytest.raises(ValueError, match=r"no bucket that ends at 0\.4, .* the nearest is 0\.5"):
        latency(0.99, 0.4, 30.0)
