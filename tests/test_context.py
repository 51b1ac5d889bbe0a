"""One record per request that all its work shares, and scoped values that siblings do not see."""

import asyncio
import contextvars
import threading

import pytest

from shipworthy.context import (
    STEPS_MAX,
    RequestRecord,
    TraceStep,
    TraceSteps,
    actor,
    current_actor,
    current_deadline,
    current_request,
    deadline_scope,
    log_fields,
    new_span_id,
    note_database,
    note_retry,
    note_wait,
    request_in,
    request_scope,
    steps_here,
)


def record(**changes: object) -> RequestRecord:
    facts = {"request_id": "r1", "correlation_id": "c1", "trace_id": "a" * 32, "span_id": "b" * 16}
    return RequestRecord(**{**facts, **changes})


def test_outside_of_a_request_there_is_nothing():
    """No record, no deadline, nobody to act for, no ids to log."""
    assert current_request() is None
    assert current_deadline() is None
    assert current_actor() == ""
    assert log_fields() == {}


def test_a_request_lends_its_ids_to_what_is_logged():
    """Inside the scope every line carries both ids; after it none does."""
    with request_scope(record()) as mine:
        assert current_request() is mine
        assert log_fields() == {"request_id": "r1", "trace_id": "a" * 32}

    assert log_fields() == {}


@pytest.mark.parametrize(
    ("sampled", "random", "flags"),
    [(True, True, "03"), (True, False, "01"), (False, True, "02"), (False, False, "00")],
)
def test_the_traceparent_names_our_span_as_the_parent(sampled, random, flags):
    """The header to send on is that of W3C Trace Context, level 2, with the caller's flags."""
    mine = record(sampled=sampled)
    mine.random = random

    assert mine.traceparent == f"00-{'a' * 32}-{'b' * 16}-{flags}"
    assert mine.traceparent_of("c" * 16) == f"00-{'a' * 32}-{'c' * 16}-{flags}"


def test_steps_are_noted_for_a_request_that_wants_them_and_only_so_many():
    """Nowhere outside of one, nowhere in one without a trace, and up to a bound."""
    step = TraceStep("wait", 1.0, 2.0, {})
    assert steps_here() is None
    with request_scope(record()) as mine:
        assert steps_here() is None
        mine.steps = TraceSteps()
        for _ in range(STEPS_MAX):
            steps_here().append(step)
        assert steps_here() is None

    assert mine.steps == [step] * STEPS_MAX
    assert (mine.steps.failed, mine.steps.warned) == (False, False)


def test_the_id_of_a_span_is_one_of_w3c():
    """16 digits, and no two alike."""
    made = {new_span_id() for _ in range(1000)}

    assert len(made) == 1000
    assert {len(one) for one in made} == {16}
    assert all(int(one, 16) for one in made)


def test_what_a_thread_learns_is_seen_by_the_guard_that_waits_for_it():
    """The record is one object, so a copied context still writes to the same one."""
    with request_scope(record()) as mine:
        context = contextvars.copy_context()

        def learn() -> None:
            seen = current_request()
            assert seen is not None
            seen.route, seen.actor = "/clients/{id}", "ada"

        thread = threading.Thread(target=context.run, args=(learn,))
        thread.start()
        thread.join()

        assert mine.route == "/clients/{id}"
        assert current_actor() == "ada"


def test_who_looks_at_another_context_finds_its_request():
    """From outside, another thread even: where no request is served there is none."""
    record = RequestRecord("id", "correlation", "0" * 32, "1" * 16)
    with request_scope(record):
        context = contextvars.copy_context()

    assert request_in(context) is record
    assert request_in(contextvars.Context()) is None


def test_an_inner_deadline_can_only_be_earlier():
    """Nobody gives himself more time than the one who asks him has."""
    with deadline_scope(100.0):
        with deadline_scope(200.0) as effective:
            assert effective == current_deadline() == 100.0
        with deadline_scope(50.0):
            assert current_deadline() == 50.0
        assert current_deadline() == 100.0

    assert current_deadline() is None


def test_a_scoped_actor_goes_before_the_one_of_the_request():
    """Also when it is nobody; afterwards the request's own actor is back."""
    with request_scope(record()) as mine:
        mine.actor = "ada"
        with actor("import job"):
            assert current_actor() == "import job"
            with actor(""):
                assert current_actor() == ""
        assert current_actor() == "ada"


@pytest.mark.anyio
async def test_siblings_in_a_gather_never_see_each_others_deadline_or_actor():
    """Each branch sees what it set itself, however the branches interleave."""
    all_inside = asyncio.Barrier(3)

    async def branch(number: int) -> tuple[str, float | None]:
        with actor(f"branch {number}"), deadline_scope(float(number)):
            await all_inside.wait()
            return current_actor(), current_deadline()

    with deadline_scope(1000.0):
        seen = await asyncio.gather(branch(1), branch(2), branch(3))

        assert seen == [(f"branch {number}", float(number)) for number in (1, 2, 3)]
        assert (current_actor(), current_deadline()) == ("", 1000.0)


def test_scopes_are_left_when_the_work_fails():
    """An exception takes nothing of the scope along."""
    with (
        pytest.raises(KeyError),
        request_scope(record()),
        deadline_scope(1.0),
        actor("x"),
    ):
        raise KeyError

    assert (current_request(), current_deadline(), current_actor()) == (None, None, "")


def test_work_for_a_request_is_counted_with_it_and_nowhere_else():
    """From its threads too, from the first one on; outside of a request nothing is kept."""
    note_database(1, 0.5)
    note_wait(0.5)
    note_retry()
    idle, busy = record(), record()
    with request_scope(busy):
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(note_database, 2, 0.25))
        thread.start()
        thread.join()
        note_database(1, 0.25)
        note_wait(0.125)
        note_retry()

    assert idle.work is None
    work = busy.work
    assert work is not None
    assert (work.db_calls, work.db_seconds) == (3, 0.5)
    assert (work.db_wait_seconds, work.retries) == (0.125, 1)
