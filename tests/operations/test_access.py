"""Decisions about Host, Origin and bearer token, as a table."""

import pytest
from hypothesis import given, strategies as st

from shipworthy.access import ADMINS, OPERATORS, READERS, VIEWERS, AccessRole, Bearer, NoBearer
from shipworthy.errors import SettingsInvalid
from shipworthy.operations.access import (
    Admitted,
    Audience,
    Door,
    Refusal,
    is_loopback,
    parse_authority,
)
from shipworthy.redact import redact

TOKEN = "correct-horse-battery-staple-42"
SCRAPE = "only-metrics-may-be-read-with-me"

LOOPBACK = Door(host="127.0.0.1", token=TOKEN, scrape_token=SCRAPE)
NAMED = Door(host="192.0.2.7", allowed_hosts=("ops.example",), token=TOKEN, scrape_token=SCRAPE)
WILDCARD = Door(host="0.0.0.0", token=TOKEN)


def decide(
    door,
    audience,
    *,
    method="GET",
    host="localhost:9000",
    origin=None,
    token=None,
    roles=ADMINS,
):
    """Ask the door in one line; `token` is sent as a bearer token."""
    return door.decide(
        audience,
        method=method,
        hosts=[] if host is None else [host],
        origins=[] if origin is None else [origin],
        authorizations=[] if token is None else [f"Bearer {token}"],
        roles=VIEWERS if audience is Audience.SCRAPE else roles,
    )


def outcome(decision):
    """The decision in a word: the status, or whether details are shown."""
    if isinstance(decision, Refusal):
        return decision.status
    return "details" if decision.detailed else "bare"


@pytest.mark.parametrize(
    ("door", "audience", "asked", "expected"),
    [
        (LOOPBACK, Audience.PROBE, {}, "details"),
        (LOOPBACK, Audience.PROBE, {"host": "evil.example"}, "bare"),
        (LOOPBACK, Audience.PROBE, {"host": None}, "bare"),
        (LOOPBACK, Audience.PROBE, {"token": "wrong"}, "details"),
        (WILDCARD, Audience.PROBE, {"host": "10.0.0.9:9000"}, "bare"),
        (WILDCARD, Audience.PROBE, {"token": TOKEN}, "details"),
        (LOOPBACK, Audience.STATUS, {}, "details"),
        (LOOPBACK, Audience.STATUS, {"host": "evil.example"}, 421),
        (LOOPBACK, Audience.STATUS, {"host": "evil.example", "token": TOKEN}, 421),
        (LOOPBACK, Audience.STATUS, {"host": None}, 400),
        (LOOPBACK, Audience.STATUS, {"host": "a b"}, 400),
        (LOOPBACK, Audience.STATUS, {"token": "wrong"}, 401),
        (LOOPBACK, Audience.STATUS, {"token": SCRAPE}, 401),
        (NAMED, Audience.STATUS, {"host": "ops.example"}, "bare"),
        (NAMED, Audience.STATUS, {"host": "OPS.example.:9000"}, "bare"),
        (NAMED, Audience.STATUS, {"host": "192.0.2.7:9000"}, "bare"),
        (NAMED, Audience.STATUS, {"host": "192.0.2.8:9000"}, 421),
        (NAMED, Audience.STATUS, {"host": "ops.example", "token": TOKEN}, "details"),
        (WILDCARD, Audience.STATUS, {"host": "10.0.0.9:9000"}, "bare"),
        (WILDCARD, Audience.STATUS, {"host": "[2001:db8::7]:9000"}, "bare"),
        (WILDCARD, Audience.STATUS, {"host": "ops.example"}, 421),
        (LOOPBACK, Audience.SCRAPE, {}, "details"),
        (LOOPBACK, Audience.SCRAPE, {"host": "evil.example"}, 401),
        (LOOPBACK, Audience.SCRAPE, {"host": "evil.example", "token": SCRAPE}, "details"),
        (LOOPBACK, Audience.SCRAPE, {"token": "wrong"}, 401),
        (NAMED, Audience.SCRAPE, {"host": "ops.example"}, 401),
        (NAMED, Audience.SCRAPE, {"host": "pod-7:9000", "token": SCRAPE}, "details"),
        (NAMED, Audience.SCRAPE, {"host": "pod-7:9000", "token": TOKEN}, "details"),
        (LOOPBACK, Audience.TOKEN, {}, 401),
        (LOOPBACK, Audience.TOKEN, {"token": "wrong"}, 401),
        (LOOPBACK, Audience.TOKEN, {"token": SCRAPE}, 401),
        (LOOPBACK, Audience.TOKEN, {"token": TOKEN}, "details"),
        (LOOPBACK, Audience.TOKEN, {"host": "[::1]:9000", "token": TOKEN}, "details"),
        (LOOPBACK, Audience.TOKEN, {"host": "evil.example", "token": TOKEN}, 421),
    ],
)
def test_who_may_ask_what(door, audience, asked, expected):
    """Each kind of endpoint asks what its row in the reference says, bound here or elsewhere."""
    assert outcome(decide(door, audience, **asked)) == expected


@pytest.mark.parametrize(
    ("host", "origin", "expected"),
    [
        ("localhost:9000", None, "details"),
        ("localhost:9000", "http://localhost:9000", "details"),
        ("LOCALHOST:9000", "http://localhost:9000", "details"),
        ("localhost", "https://localhost", "details"),
        ("localhost:443", "https://localhost", "details"),
        ("localhost:9000", "http://localhost:8000", 403),
        ("localhost", "http://127.0.0.1", 403),
        ("localhost:9000", "http://evil.example", 403),
        ("localhost:9000", "null", 403),
        ("localhost:9000", "", 403),
        ("localhost:9000", "file://localhost:9000", 403),
        ("localhost:9000", "http://localhost:9000/", 403),
        ("localhost:9000", "http://x@localhost:9000", 403),
    ],
)
def test_an_unsafe_method_needs_the_same_origin_or_none(host, origin, expected):
    """A browser names the page a call came from, and only pages of this very port may command."""
    decision = decide(
        LOOPBACK, Audience.TOKEN, method="POST", host=host, origin=origin, token=TOKEN
    )

    assert outcome(decision) == expected


def test_two_origins_are_refused():
    """A browser sends one Origin, so of several none is believed."""
    decision = LOOPBACK.decide(
        Audience.TOKEN,
        method="POST",
        hosts=["localhost"],
        origins=["http://localhost", "http://evil.example"],
        authorizations=[f"Bearer {TOKEN}"],
    )

    assert outcome(decision) == 403


def test_the_origin_of_a_safe_method_does_not_matter():
    """Reading is guarded by the browser's own same-origin rule, so a foreign Origin may ask."""
    decision = decide(LOOPBACK, Audience.TOKEN, origin="http://evil.example", token=TOKEN)

    assert decision == Admitted(detailed=True, by="operations.token")


@pytest.mark.parametrize(
    "authorizations",
    [
        [""],
        ["Bearer"],
        ["Bearer "],
        [f"Basic {TOKEN}"],
        [TOKEN],
        [f"Bearer {TOKEN}x"],
        [f"Bearer {TOKEN[:-1]}"],
        [f"Bearer {TOKEN}", "Bearer wrong"],
        [f"Bearer {TOKEN}", f"Bearer {TOKEN}"],
        ["Bearer \xff\u20ac"],
    ],
)
def test_what_is_not_exactly_the_token_is_refused(authorizations):
    """Anything but one Authorization header with the scheme and the whole token is refused."""
    decision = LOOPBACK.decide(
        Audience.TOKEN,
        method="GET",
        hosts=["localhost"],
        origins=[],
        authorizations=authorizations,
    )

    assert isinstance(decision, Refusal)
    assert (decision.status, decision.challenge) == (401, 'Bearer error="invalid_token"')


def test_the_scheme_of_the_token_may_be_in_any_case():
    """`bearer` is the same scheme as `Bearer` (RFC 9110)."""
    decision = LOOPBACK.decide(
        Audience.TOKEN,
        method="GET",
        hosts=["localhost"],
        origins=[],
        authorizations=[f"bearer {TOKEN}"],
    )

    assert decision == Admitted(detailed=True, by="operations.token")


@pytest.mark.parametrize("audience", [Audience.TOKEN, Audience.SCRAPE])
@pytest.mark.parametrize("sent", ["", "anything"])
def test_an_empty_token_opens_nothing(audience, sent):
    """A door without tokens lets nobody in, also not one who sends an empty token."""
    door = Door(host="192.0.2.7", token="")

    assert outcome(decide(door, audience, token=sent)) == 401


def test_no_refusal_repeats_the_token_that_was_sent():
    """A mistyped token is nearly the right one, so it stands in no answer."""
    decision = decide(LOOPBACK, Audience.TOKEN, token="nearly-the-token")

    assert "nearly-the-token" not in repr(decision)


def test_two_host_headers_are_refused():
    """Of two hosts neither can be trusted to be the one the browser looked up."""
    refusal = LOOPBACK.refuse_host(["localhost", "evil.example"])

    assert refusal is not None
    assert refusal.status == 400


def test_a_foreign_host_is_told_which_setting_would_allow_it():
    """The operator behind a proxy learns what to write, and a long name is cut."""
    refusal = LOOPBACK.refuse_host(["x" * 200])

    assert refusal is not None
    assert "operations.allowed_hosts" in refusal.detail
    assert "x" * 101 not in refusal.detail


@pytest.mark.parametrize("entry", ["http://ops.example", "ops.example:9000", "", "*", "a/b"])
def test_an_allowed_host_that_is_none_stops_the_start(entry):
    """A scheme, a port or a pattern in the setting is refused with the setting's name."""
    with pytest.raises(SettingsInvalid, match=r"allowed_hosts: .* without scheme or port, got"):
        Door(host="127.0.0.1", allowed_hosts=(entry,), token=TOKEN)


def test_an_address_may_be_an_allowed_host():
    """An IPv6 address may be written with or without brackets, in any of its forms."""
    door = Door(host="127.0.0.1", allowed_hosts=("2001:DB8:0::1", "[2001:db8::2]"), token=TOKEN)

    assert door.refuse_host(["[2001:db8::1]:9000"]) is None
    assert door.refuse_host(["[2001:db8::2]"]) is None
    assert door.refuse_host(["[2001:db8::3]"]) is not None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", ("localhost", None)),
        ("Ops.Example.:9000", ("ops.example", 9000)),
        ("[::0001]:9000", ("::1", 9000)),
        ("[::1", None),
        ("::1", None),
        ("[:]", None),
        ("a:b", None),
        ("a:", None),
        ("a:123456", None),
        ("a\r\nb", None),
        ("a\n", None),
        ("", None),
        ("a" * 301, None),
        ("user@a", None),
    ],
)
def test_an_authority_is_a_name_and_maybe_a_port(text, expected):
    """What is not exactly that is malformed, whatever a lenient reader would make of it."""
    assert parse_authority(text) == expected


@given(st.text(max_size=40))
def test_any_text_as_host_gives_a_decision(text):
    """No Host value makes the door fail, and only names it knows come through."""
    decision = decide(LOOPBACK, Audience.TOKEN, host=text, token=TOKEN)

    authority = parse_authority(text)
    allowed = authority is not None and authority[0] in {"localhost", "127.0.0.1", "::1"}
    assert isinstance(decision, Admitted) == allowed


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("192.0.2.7", False),
        ("ops.example", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host, expected):
    """A name other than localhost may point anywhere, so it is not taken for loopback."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("audience", "asked"),
    [
        (Audience.TOKEN, {}),
        (Audience.TOKEN, {"token": "wrong"}),
        (Audience.TOKEN, {"host": "evil.example"}),
        (Audience.TOKEN, {"host": "a b"}),
        (Audience.TOKEN, {"method": "POST", "origin": "null"}),
    ],
)
def test_the_sentence_of_a_refusal_survives_redaction(audience, asked):
    """The log line of a refusal is redacted like every other, and must still be readable."""
    refusal = decide(LOOPBACK, audience, **asked)

    assert redact(refusal.detail) == refusal.detail


BEARERS = {f"sw_{role}": Bearer(f"our {role}", role) for role in AccessRole}
WITH_TOKENS = Door(
    host="192.0.2.7",
    token=TOKEN,
    judge=lambda sent: BEARERS.get(sent, NoBearer("the token 'old' (0a) is expired")),
)


@pytest.mark.parametrize(
    ("roles", "answered"),
    [
        (READERS, {"viewer", "operator", "admin", "auditor"}),
        (VIEWERS, {"viewer", "operator", "admin"}),
        (OPERATORS, {"operator", "admin"}),
        (ADMINS, {"admin"}),
    ],
)
def test_a_token_opens_what_its_role_may(roles, answered):
    """Each role but the auditor may do what the one before it may; the auditor reads."""
    found = {
        role: decide(WITH_TOKENS, Audience.TOKEN, host="192.0.2.7", token=f"sw_{role}", roles=roles)
        for role in AccessRole
    }

    assert {role for role, decision in found.items() if isinstance(decision, Admitted)} == answered
    for role, decision in found.items():
        if role in answered:
            assert decision == Admitted(detailed=True, by=f"our {role}")
        else:
            assert decision.status == 403
            assert f"'our {role}' has the role {role}" in decision.detail
            assert not decision.wrong_token


def test_a_token_that_opens_nothing_is_refused_with_its_reason():
    """As whoever looked it up says; and a role that is too small is no wrong token."""
    decision = decide(WITH_TOKENS, Audience.TOKEN, host="192.0.2.7", token="sw_old")

    assert (decision.status, decision.detail) == (401, "the token 'old' (0a) is expired")
    assert decision.wrong_token


def test_a_port_on_loopback_shows_an_auditor_what_it_shows_everybody():
    """The metrics, which a stranger on the machine reads without a token."""
    door = Door(host="127.0.0.1", token=TOKEN, judge=BEARERS.__getitem__)

    assert outcome(decide(door, Audience.SCRAPE, token="sw_auditor")) == "details"
    assert (
        outcome(decide(WITH_TOKENS, Audience.SCRAPE, token="sw_auditor", host="192.0.2.7")) == 403
    )


def test_two_tokens_are_none():
    """Of several Authorization headers none is believed, even where one is right."""
    decision = WITH_TOKENS.decide(
        Audience.TOKEN,
        method="GET",
        hosts=["192.0.2.7"],
        origins=[],
        authorizations=["Bearer sw_admin", "Bearer sw_viewer"],
    )

    assert outcome(decision) == 401
