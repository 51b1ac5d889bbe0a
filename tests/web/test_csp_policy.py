"""What a policy says, and which one the reports speak for."""

import pytest
from hypothesis import given, strategies as st

from shipworthy.web.csp_policy import (
    DATA_POLICY,
    DEFAULT_POLICY,
    DIRECTIVES,
    Sighting,
    directives_of,
    policy_faults,
    propose,
)

POLICY = "default-src 'self'; script-src 'self' {nonce}; object-src 'none'"


def seen(directive, source, *, reports=1, route="/"):
    return Sighting(directive=directive, source=source, route=route, reports=reports, clients=1)


@pytest.mark.parametrize("policy", [DEFAULT_POLICY, DATA_POLICY, POLICY, "sandbox allow-scripts"])
def test_what_is_a_policy_has_no_fault(policy):
    """Ours among them."""
    assert list(policy_faults(policy)) == []


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("default-src 'self', script-src 'none'", "without commas"),
        ("default-src 'self'\nx: y", "on one line"),
        ("default-src ä", "ASCII"),
        ("", "set csp.mode to off"),
        (" ; ", "set csp.mode to off"),
        ("defualt-src 'self'", "'defualt-src' is no directive"),
        ("img-src a; img-src b", "'img-src' is there 2 times"),
        ("default-src 'self'; report-uri /x", "csp.report_path"),
        ("script-src 'nonce-abc'", "{nonce}"),
    ],
)
def test_a_policy_that_would_not_do_what_it_says_is_refused(policy, says):
    """Each with what to write instead."""
    (fault,) = policy_faults(policy)
    assert says in fault


def test_nothing_seen_changes_nothing():
    """The proposal is the policy itself."""
    proposal = propose(DEFAULT_POLICY, ())
    assert (proposal.policy, proposal.added, proposal.advice) == (DEFAULT_POLICY, (), ())


def test_what_was_reported_is_added_where_it_is_asked_for():
    """To its own directive, which takes over what held for it before."""
    proposal = propose(
        POLICY,
        [
            seen("script-src-elem", "https://cdn.example"),
            seen("img-src", "data:"),
            seen("img-src", "https://img.example", route="/a"),
            seen("img-src", "https://img.example", route="/b"),
            seen("object-src", "'self'"),
            seen("form-action", "https://pay.example"),
            seen("worker-src", "https://work.example"),
            seen("frame-src", "https://video.example"),
            seen("script-src", "'self'"),
        ],
    )

    assert directives_of(proposal.policy) == {
        "default-src": ["'self'"],
        "script-src": ["'self'", "{nonce}", "https://cdn.example"],
        "object-src": ["'self'"],
        "form-action": ["https://pay.example"],
        "frame-src": ["'self'", "https://video.example"],
        "img-src": ["'self'", "data:", "https://img.example"],
        "worker-src": ["'self'", "{nonce}", "https://cdn.example", "https://work.example"],
    }
    assert "img-src https://img.example" in proposal.added
    assert proposal.advice == ()


@pytest.mark.parametrize(
    ("directive", "source", "says"),
    [
        ("script-src-elem", "inline", "csp_nonce()"),
        ("script-src-attr", "inline", "onclick"),
        ("style-src-attr", "inline", "style attributes"),
        ("default-src", "inline", "csp_nonce()"),
        ("script-src", "eval", "without that"),
        ("script-src-elem", "data:", "serve them as files"),
        ("worker-src", "blob:", "serve them as files"),
        ("frame-ancestors", "frame", "frame-ancestors"),
    ],
)
def test_what_would_undo_a_policy_is_not_added_but_advised(directive, source, says):
    """With what to do instead, and how often it was reported."""
    proposal = propose(POLICY, [seen(directive, source, reports=4), seen(directive, source)])

    assert proposal.policy == POLICY
    (advice,) = proposal.advice
    assert advice.startswith("5 reports: ")
    assert says in advice


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(DIRECTIVES)),
            st.sampled_from(["inline", "eval", "data:", "blob:", "'self'", "https://a.example"]),
        ),
        max_size=12,
    )
)
def test_no_reports_make_a_policy_that_is_none_or_lets_everything_run(pairs):
    """Whatever anybody sends: it stays a policy, and adding it twice adds nothing."""
    sightings = [seen(directive, source) for directive, source in pairs]
    proposal = propose(DEFAULT_POLICY, sightings)
    said = directives_of(proposal.policy)

    assert list(policy_faults(proposal.policy)) == []
    assert "unsafe" not in proposal.policy
    for directive in ("script-src", "object-src", "base-uri"):
        assert not {"data:", "blob:"} & set(said[directive])
    assert propose(proposal.policy, sightings).added == ()
