"""How long a client may keep us waiting, whatever it moves and whenever we look."""

from hypothesis import given, strategies as st

from shipworthy.serve.pace import BANKED_SECONDS, ConnectionPace, PaceRule

RULE = PaceRule(grace_seconds=10.0, bytes_per_second=500.0)
LOOKS = st.lists(
    st.tuples(st.floats(0.01, 5.0), st.integers(0, 100_000), st.booleans()), max_size=60
)


def refused_at(rule, looks):
    """Return when the client was refused, None where it never was; looks are steps from 0."""
    pace, now, moved_bytes = ConnectionPace(rule, 0.0, 0), 0.0, 0
    for seconds, more_bytes, waited_for in looks:
        now += seconds
        moved_bytes += more_bytes
        if not pace.look(now, moved_bytes, waited_for=waited_for):
            return now
    return None


@given(st.lists(st.floats(0.01, 5.0), max_size=60))
def test_who_keeps_the_pace_is_never_refused(steps):
    """500 bytes a second, in whatever portions, for as long as it takes."""
    looks = [(seconds, int(seconds * 500) + 1, True) for seconds in steps]
    assert refused_at(RULE, looks) is None


def test_who_moves_nothing_is_refused_when_the_grace_is_over():
    """Not before, and at the first look after it."""
    assert refused_at(RULE, [(1.0, 0, True)] * 30) == 11.0
    assert refused_at(RULE, [(1.0, 0, True)] * 10) is None


@given(LOOKS)
def test_time_is_paid_for_in_bytes(looks):
    """Nobody who is let go on has held longer than his grace and his bytes are worth."""
    pace, held_seconds, moved_bytes, now = ConnectionPace(RULE, 0.0, 0), 0.0, 0, 0.0
    for seconds, more_bytes, waited_for in looks:
        now += seconds
        moved_bytes += more_bytes
        held_seconds += seconds if waited_for else 0.0
        if not pace.look(now, moved_bytes, waited_for=waited_for):
            break
        assert held_seconds <= 10.0 + moved_bytes / 500.0 + 1e-6


@given(LOOKS)
def test_no_pause_is_longer_than_what_can_be_saved(looks):
    """However much was moved before it."""
    pace, now, moved_bytes = ConnectionPace(RULE, 0.0, 0), 0.0, 0
    for seconds, more_bytes, waited_for in looks:
        now += seconds
        moved_bytes += more_bytes
        pace.look(now, moved_bytes, waited_for=waited_for)
        assert pace.left_seconds <= BANKED_SECONDS
    assert not pace.look(now + BANKED_SECONDS + 0.001, moved_bytes)


def test_time_in_which_we_do_not_wait_for_it_is_not_its_own():
    """An application that reads slowly costs no client its upload."""
    assert refused_at(RULE, [(60.0, 0, False)] * 10) is None


def test_a_grace_longer_than_what_can_be_saved_is_given_whole():
    """The setting is the least that anybody has."""
    rule = PaceRule(grace_seconds=300.0, bytes_per_second=500.0)
    assert refused_at(rule, [(100.0, 0, True)] * 4) == 400.0


def test_who_has_earned_nothing_is_behind():
    """So that of many who wait the slowest is known."""
    pace = ConnectionPace(RULE, 0.0, 0)
    assert not pace.behind
    pace.look(1.0, 100)
    assert pace.behind
    pace.look(2.0, 5_000)
    assert not pace.behind
