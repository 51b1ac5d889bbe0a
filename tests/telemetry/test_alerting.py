"""An alert fires when it should, tells whom it should, and is over when it is over."""

from dataclasses import replace
from itertools import accumulate

import pytest
from hypothesis import given, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shipworthy.clock import ManualClock
from shipworthy.events import (
    Alert,
    Compared,
    Declared,
    Metric,
    Number,
    Rate,
    Selection,
    Urgency,
    Value,
)
from shipworthy.telemetry.alerting import (
    OVER_KEPT_SECONDS,
    RAISED_MAX,
    Alerts,
    AlertState,
    Dispatch,
    Message,
    Raised,
    about,
    inhibited,
)
from shipworthy.telemetry.evaluate import Values

POOL = Metric("t_pool", "gauge", "Used.", {"pool": Declared(), "kind": Declared()})
OTHER = Metric("t_other_total", "counter", "Others.", {"pool": Declared()})


def _alert(
    name: str = "PoolFull",
    *,
    urgency: Urgency = Urgency.TICKET,
    for_seconds: float = 0.0,
    keep_seconds: float = 0.0,
    by: tuple[str, ...] = ("pool",),
    metric: Metric = POOL,
) -> Alert:
    selection = Selection(metric=metric, by=by)
    of = Value(selection) if metric.kind == "gauge" else Rate(selection)
    summary = "it is full" + "".join(f" at {{{label}}}" for label in by) + ": {value}"
    return Alert(
        name=name,
        when=Compared(of, ">", Number(0.9)),
        for_seconds=for_seconds,
        keep_seconds=keep_seconds,
        urgency=urgency,
        summary=summary,
        cause="c",
        look="l",
        act="a",
        drill="d",
    )


@given(
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 30)), min_size=1, max_size=60),
    for_seconds=st.sampled_from([0.0, 15.0, 60.0]),
    keep_seconds=st.sampled_from([0.0, 20.0, 60.0]),
)
def test_the_state_is_what_the_past_says(
    steps: list[tuple[bool, int]], for_seconds: float, keep_seconds: float
) -> None:
    """It fires after it held long enough, goes on while it is kept, then is over."""
    alert = _alert(for_seconds=for_seconds, keep_seconds=keep_seconds)
    alerts, times = Alerts(), list(accumulate((float(wait) for _, wait in steps)))
    held_since: float | None = None
    missed_since: float | None = None
    firing = False
    over_at: float | None = None
    for (held, _), now in zip(steps, times, strict=True):
        changed = alerts.advance(alert, {("a",): 1.0} if held else {}, now)
        before = firing
        if held:
            if held_since is None:
                held_since, over_at = now, None
            missed_since = None
            firing = firing or now - held_since >= for_seconds
        elif firing:
            missed_since = now if missed_since is None else missed_since
            if now - missed_since >= keep_seconds:
                firing, held_since, over_at = False, None, now
        else:
            held_since = None
            if over_at is not None and now - over_at >= OVER_KEPT_SECONDS:
                over_at = None
        one = next(iter(alerts.raised), None)
        assert (one is not None and one.state is AlertState.FIRING) == firing
        assert [c.state for c in changed] == (
            [] if firing == before else [AlertState.FIRING if firing else AlertState.RESOLVED]
        )
        if one is None:
            assert held_since is None
            assert over_at is None
        elif one.state is AlertState.RESOLVED:
            assert one.over_at == over_at
        else:
            assert one.since == held_since


def test_label_sets_stand_for_themselves() -> None:
    """One fires, one is pending, one is over; each with its own value and sentence."""
    alert, alerts = _alert(for_seconds=10.0), Alerts()
    alerts.advance(alert, {("a",): 1.0, ("b",): 2.0}, 0.0)
    alerts.advance(alert, {("a",): 1.5, ("b",): 2.0}, 10.0)
    alerts.advance(alert, {("a",): 1.5, ("c",): 3.0}, 20.0)
    states = {one.labels: (one.state, one.summary) for one in alerts.raised}
    assert states == {
        ("a",): (AlertState.FIRING, "it is full at a: 1.5"),
        ("b",): (AlertState.RESOLVED, "it is full at b: 2"),
        ("c",): (AlertState.PENDING, "it is full at c: 3"),
    }
    assert [one.labels for one in about(alerts.raised, AlertState.FIRING)] == [("a",)]


def test_what_is_over_is_forgotten_after_an_hour() -> None:
    """The list of alerts does not grow with the age of the service."""
    alert, alerts = _alert(), Alerts()
    alerts.advance(alert, {("a",): 1.0}, 0.0)
    alerts.advance(alert, {}, 10.0)
    alerts.advance(alert, {}, 10.0 + OVER_KEPT_SECONDS - 1)
    assert len(alerts.raised) == 1
    alerts.advance(alert, {}, 10.0 + OVER_KEPT_SECONDS)
    assert alerts.raised == []


def test_one_alert_has_no_more_label_sets_than_somebody_can_read() -> None:
    """The others are counted; those that are there go on."""
    alert, alerts = _alert(), Alerts()
    many: Values = {(f"{n:04}",): 1.0 for n in range(RAISED_MAX + 10)}
    alerts.advance(alert, many, 0.0)
    alerts.advance(alert, many, 10.0)
    assert len(alerts.raised) == RAISED_MAX
    assert alerts.untaken == 20


def test_what_another_process_left_goes_on() -> None:
    """After a restart it fires on without a second beginning, and one that is gone is dropped."""
    alert, gone, before = _alert(for_seconds=60.0), _alert("Gone"), Alerts()
    before.advance(alert, {("a",): 1.0}, 0.0)
    before.advance(alert, {("a",): 1.0}, 60.0)
    before.advance(gone, {("a",): 1.0}, 60.0)
    after = Alerts()
    after.restore(before.raised)
    after.keep_only([alert.name])
    assert after.advance(alert, {("a",): 1.0}, 100.0) == []
    assert [(one.state, one.since) for one in after.raised] == [(AlertState.FIRING, 0.0)]


def _raised(
    alert: Alert, *labels: str, state: AlertState = AlertState.FIRING, since: float = 0.0
) -> Raised:
    return Raised(alert=alert, labels=labels, state=state, value=1.0, since=since)


PAGE = _alert("PoolExhausted", urgency=Urgency.PAGE)
TICKET = _alert("PoolBusy", by=("pool", "kind"))


@pytest.mark.parametrize(
    ("ticket", "page", "silent"),
    [
        (_raised(TICKET, "a", "x"), _raised(PAGE, "a"), True),
        (_raised(TICKET, "b", "x"), _raised(PAGE, "a"), False),  # another pool
        (_raised(TICKET, "a", "x"), _raised(PAGE, "a", state=AlertState.PENDING), False),
        (_raised(_alert("PoolAny", by=())), _raised(PAGE, "a"), True),  # no label tells them apart
        (_raised(_alert("Else", metric=OTHER), "a"), _raised(PAGE, "a"), False),  # another metric
    ],
)
def test_a_page_silences_the_tickets_about_the_same_thing(
    ticket: Raised, page: Raised, *, silent: bool
) -> None:
    """Who is awake already need not be told that it is also a little bad."""
    assert inhibited([ticket, page]) == ({ticket.key} if silent else set())
    other = _alert("PoolGone", urgency=Urgency.PAGE)
    assert inhibited([page, _raised(other, "a")]) == set()


def _dispatch(*urgencies: Urgency) -> Dispatch:
    return Dispatch(
        urgencies or (Urgency.PAGE, Urgency.TICKET),
        wait_seconds=10.0,
        change_seconds=60.0,
        repeat_seconds=3600.0,
    )


class Conversation(RuleBasedStateMachine):
    """A receiver that fails at times, and hears of three label sets of two alerts."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.alerts = Alerts()
        self.dispatch = _dispatch()
        self.declared = (_alert("One"), _alert("Two", metric=OTHER))
        self.holds: dict[str, set[str]] = {"One": set(), "Two": set()}
        # What the receiver believes, and when it was last told anything of an alert.
        self.believed: dict[str, set[str]] = {"One": set(), "Two": set()}
        self.told_at: dict[str, float] = {}

    @rule(alert=st.sampled_from(["One", "Two"]), label=st.sampled_from("abc"))
    def change(self, alert: str, label: str) -> None:
        self.holds[alert] ^= {label}

    @rule(seconds=st.sampled_from([1.0, 15.0, 61.0, 1000.0]), answers=st.booleans())
    def round(self, seconds: float, *, answers: bool) -> None:
        self.clock.advance(seconds)
        now = self.clock.now()
        for alert in self.declared:
            found: Values = {(label,): 1.0 for label in self.holds[alert.name]}
            self.alerts.advance(alert, found, now)
        for _ in self.declared:
            message = self.dispatch.due(self.alerts.raised, now)
            if message is None or not answers:
                break
            name = message.alert.name
            firing = {one.labels[0] for one in message.firing}
            over = {one.labels[0] for one in message.over}
            assert firing == self.holds[name]
            assert over <= self.believed[name]  # nothing is over that was not told
            assert firing | over
            if name in self.told_at and self.believed[name]:
                since = now - self.told_at[name]
                assert since >= (60.0 if firing != self.believed[name] else 3600.0)
            self.believed[name] = firing
            self.told_at[name] = now
            self.dispatch.told(message, now)

    @precondition(lambda self: any(self.holds.values()) or any(self.believed.values()))
    @rule()
    def a_receiver_that_answers_knows_the_truth_in_time(self) -> None:
        for _ in range(6):
            self.round(30.0, answers=True)
        assert self.believed == self.holds

    @invariant()
    def what_is_remembered_is_bounded(self) -> None:
        assert len(self.dispatch._groups) <= 2


TestConversation = Conversation.TestCase


def test_the_most_urgent_is_told_first() -> None:
    """Pages before tickets, and of two pages the older."""
    dispatch, ticket = _dispatch(), _alert("Ticket", metric=OTHER)
    later = replace(PAGE, name="LaterPage")
    raised = [_raised(ticket, "a"), _raised(PAGE, "a")]
    assert dispatch.due(raised, 0.0) is None
    raised.append(_raised(later, "a"))
    dispatch.due(raised, 5.0)
    names = []
    while (message := dispatch.due(raised, 20.0)) is not None:
        names.append(message.alert.name)
        dispatch.told(message, 20.0)
    assert names == ["PoolExhausted", "LaterPage", "Ticket"]


def test_a_receiver_hears_only_what_it_is_for() -> None:
    """Who is woken by pages is not woken by tickets."""
    dispatch = _dispatch(Urgency.PAGE)
    raised = [_raised(TICKET, "a", "x")]
    assert dispatch.due(raised, 0.0) is None
    assert dispatch.due(raised, 1000.0) is None


def test_a_ticket_under_a_page_is_told_when_the_page_is_over() -> None:
    """If it still fires then; while the page fires it is not told."""
    dispatch = _dispatch()
    ticket, page = _raised(TICKET, "a", "x"), _raised(PAGE, "a")
    for now in (0.0, 20.0):
        message = dispatch.due([ticket, page], now)
        if message is not None:
            assert message == Message(alert=PAGE, firing=(page,), over=())
            dispatch.told(message, now)
    over = replace(page, state=AlertState.RESOLVED, over_at=100.0)
    heard = []
    for now in (100.0, 120.0, 140.0):
        while (message := dispatch.due([ticket, over], now)) is not None:
            heard.append((message.alert.name, bool(message.firing)))
            dispatch.told(message, now)
    assert heard == [("PoolExhausted", False), ("PoolBusy", True)]


def test_one_that_falls_silent_beside_one_that_ends_is_told_to_be_over_as_well() -> None:
    """A page speaks for it meanwhile; nobody is left with a ticket that never ends."""
    dispatch = _dispatch()
    one, two, page = _raised(TICKET, "a", "x"), _raised(TICKET, "b", "x"), _raised(PAGE, "b")
    dispatch.due([one, two], 0.0)
    first = dispatch.due([one, two], 20.0)
    assert first == Message(alert=TICKET, firing=(one, two), over=())
    dispatch.told(first, 20.0)
    ended = replace(one, state=AlertState.RESOLVED, over_at=100.0)
    second = dispatch.due([ended, two, page], 100.0)
    assert second == Message(alert=TICKET, firing=(), over=(ended,))
    dispatch.told(second, 100.0)
    also = replace(two, state=AlertState.RESOLVED, over_at=200.0)
    assert dispatch.due([ended, also], 200.0) == Message(alert=TICKET, firing=(), over=(also,))


def test_a_dispatch_goes_on_where_another_has_ended() -> None:
    """What was told is told to be over, and not to fire again; what was not told begins anew."""
    first, told = _dispatch(), _raised(PAGE, "a")
    first.due([told], 0.0)
    message = first.due([told], 20.0)
    assert message is not None
    first.told(message, 20.0)
    assert first.known == {told.key}
    second, untold = _dispatch(), _raised(_alert("Untold", metric=OTHER), "a")
    second.restore([told, untold], first.known, 100.0)
    assert second.due([told], 200.0) is None
    over = replace(told, state=AlertState.RESOLVED, over_at=300.0)
    assert second.due([over], 300.0) == Message(alert=PAGE, firing=(), over=(over,))
