"""The commit fence: who may be cancelled, and whose COMMIT may begin."""

import threading

import pytest

from shipworthy.context import RequestRecord, request_scope
from shipworthy.lifecycle import (
    CommitRefused,
    begin_commit,
    commit_fence,
    commits_under_way,
    end_commit,
    fence as fence_module,
    forget,
    refuse_commits,
    work_scope,
)


class Hand:
    """A clock that is moved by hand."""

    def __init__(self):
        self.at = 100.0

    def now(self):
        return self.at


@pytest.fixture
def clock(monkeypatch):
    hand = Hand()
    monkeypatch.setattr(fence_module, "SYSTEM_CLOCK", hand)
    return hand


@pytest.fixture
def record():
    return RequestRecord("one", "one", "t", "s")


def test_l07_work_whose_commit_is_under_way_is_not_cancelled(record, clock):
    """L07: the answer is no until the COMMIT has ended; who it is can be told meanwhile."""
    with request_scope(record):
        number = begin_commit()
    clock.at += 2.0

    assert not refuse_commits(record)
    (told,) = commits_under_way()
    assert (told.request_id, told.for_seconds) == ("one", 2.0)
    end_commit(number)
    clock.at += 2 * fence_module.ANSWER_SECONDS
    assert refuse_commits(record)
    assert not commits_under_way()


def test_no_commit_begins_once_its_work_is_cancelled(record):
    """Until it is forgotten with all its threads; others are not concerned."""
    assert refuse_commits(record)
    assert refuse_commits(record)

    with (
        request_scope(record),
        pytest.raises(CommitRefused, match="nothing of this transaction was applied; send"),
    ):
        begin_commit()
    with request_scope(RequestRecord("two", "two", "t", "s")), commit_fence():
        assert len(commits_under_way()) == 1
    assert not commits_under_way()
    forget(record)
    with request_scope(record), commit_fence():
        pass


@pytest.mark.parametrize("before", ["nothing", "a COMMIT", "a call out"])
def test_a_refusal_does_not_deny_what_was_applied_before(record, before):
    """Of a request with two transactions the first may be applied: who sends it again pays twice.

    What goes on after its request has nothing to do with it.
    """
    with request_scope(record):
        if before == "a COMMIT":
            with commit_fence():
                pass
        record.calls_out = int(before == "a call out")
        refuse_commits("index")
        with work_scope("index"), pytest.raises(CommitRefused) as refused:
            begin_commit()
        with work_scope("index", apart=True), pytest.raises(CommitRefused) as apart:
            begin_commit()
        forget("index")

    assert refused.value.in_part == (before != "nothing")
    assert ("look before you send" in str(refused.value)) == refused.value.in_part
    assert not apart.value.in_part


def test_a_commit_of_the_same_request_that_is_under_way_may_take_effect(record):
    """Two at once, in two tasks or threads of it, and one is refused."""
    refuse_commits("index")
    with (
        request_scope(record),
        commit_fence(),
        work_scope("index"),
        pytest.raises(CommitRefused) as refused,
    ):
        begin_commit()
    forget("index")

    assert refused.value.in_part


def test_a_request_that_has_just_committed_may_still_answer(record, clock):
    """Once: what it commits after somebody asked gives it no more time."""
    with request_scope(record):
        with commit_fence():
            pass
        assert not refuse_commits(record)
        clock.at += fence_module.ANSWER_SECONDS / 2
        with commit_fence():  # it is not refused yet
            pass
        assert refuse_commits(record)


@pytest.mark.parametrize("work", ["report", ("job", 7), object()])
def test_background_work_is_refused_until_it_is_forgotten(work):
    """It is told by what its scope says, equal or the same."""
    with work_scope(work):
        with commit_fence():
            assert not refuse_commits(work)
        assert refuse_commits(work)
        with pytest.raises(CommitRefused), commit_fence():
            pass
        forget(work)
        with commit_fence():
            pass


def test_a_commit_that_is_decided_is_not_refused(record):
    """Of what others have prepared with it, half would be left."""
    refuse_commits(record)
    with request_scope(record):
        number = begin_commit(decided=True)
        assert len(commits_under_way()) == 1
        end_commit(number)
        with pytest.raises(CommitRefused):
            begin_commit()


def test_a_commit_of_nobody_is_counted_and_refused_by_nobody():
    """A thread of a plain executor carries nothing of what it works for."""
    with commit_fence():
        (told,) = commits_under_way()
        assert told.request_id == ""


def test_whoever_is_first_either_commits_or_is_cancelled(record):
    """Two threads meet at the same instant, many times: never is both true."""
    both = []
    for _ in range(100):
        one = RequestRecord("one", "one", "t", "s")
        meet, cancelled = threading.Barrier(2), []

        def cancel(one=one, meet=meet, cancelled=cancelled):
            meet.wait()
            cancelled.append(refuse_commits(one))

        thread = threading.Thread(target=cancel)
        thread.start()
        with request_scope(one):
            meet.wait()
            try:
                number = begin_commit()
            except CommitRefused:
                thread.join()
            else:
                thread.join()  # the COMMIT lasts until then
                both += [one] if cancelled[0] else []
                end_commit(number)
    assert not both
