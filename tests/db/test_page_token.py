"""Page tokens: what they carry comes back exactly, and nothing else is taken."""

import base64
import math
from datetime import UTC, date, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, strategies as some

from shipworthy.db.page_settings import PageSettings
from shipworthy.db.page_token import (
    LONGEST_TOKEN,
    PageKeys,
    PageTokenInvalid,
    Position,
    RequestInvalid,
    bind,
)
from shipworthy.errors import Misuse, SettingsInvalid, ShipworthyError
from shipworthy.settings import Secret

KEYS = PageKeys("first key", b"second key")
BINDING = bind(["tasks", "priority"])
ROW = Position((3, "Paint the hull", None, date(2026, 1, 31)))

values = some.one_of(
    some.none(),
    some.booleans(),
    some.integers(),
    some.text(some.characters(exclude_categories=["Cs"]), max_size=40),
    some.floats(allow_nan=False),
    some.decimals(allow_nan=False),
    some.dates(),
    some.datetimes(),
    some.datetimes(timezones=some.sampled_from([UTC, timezone(timedelta(hours=-3.5))])),
    some.times(),
    some.timedeltas(),
    some.uuids(),
    some.binary(max_size=40),
)


def _signed(position: Position = ROW, keys: PageKeys = KEYS, expires: float = 2000.0) -> str:
    return keys.sign(position, binding=BINDING, expires=expires)


@given(some.lists(values, max_size=5).map(tuple), some.booleans())
def test_what_is_signed_is_read_back_exactly(row: tuple[object, ...], backward: bool) -> None:
    """Every value comes back equal and of its own type, in a text that a URL takes as it is."""
    token = _signed(Position(row, backward))

    read = KEYS.read(token, binding=BINDING, now=1000.0)

    assert read == Position(row, backward)
    assert [type(one) for one in read.values or ()] == [type(one) for one in row]
    assert token.replace("-", "").replace("_", "").isalnum()
    assert token.isascii()


@pytest.mark.parametrize("value", [math.inf, -math.inf, -0.0])
def test_floats_at_the_edge_come_back(value: float) -> None:
    """Infinity and minus zero are values like others."""
    read = KEYS.read(_signed(Position((value,))), binding=BINDING, now=1000.0)

    assert read.values is not None
    assert float.hex(read.values[0]) == float.hex(value)


def test_a_position_without_a_row_comes_back() -> None:
    """The first and the last page have tokens too, without values."""
    for backward in (False, True):
        token = _signed(Position(None, backward))

        assert KEYS.read(token, binding=BINDING, now=0.0) == Position(None, backward)


def test_every_changed_sign_makes_a_token_invalid() -> None:
    """Whatever character of a token is changed, left out or added, it is refused."""
    token = _signed()

    for at in range(len(token)):
        for changed in ("A" if token[at] != "A" else "B", "", token[at] * 2, "=", "é", "\0"):
            with pytest.raises(PageTokenInvalid):
                KEYS.read(token[:at] + changed + token[at + 1 :], binding=BINDING, now=1000.0)


@given(some.text(max_size=200))
def test_a_text_that_is_no_token_is_refused(text: str) -> None:
    """Any text is answered with the one error, and is not in its message."""
    with pytest.raises(PageTokenInvalid) as refused:
        KEYS.read(text, binding=BINDING, now=1000.0)

    assert len(text) < 4 or text not in str(refused.value)
    assert refused.value.__cause__ is None


@given(some.binary(max_size=100))
def test_bytes_that_nobody_signed_are_refused(data: bytes) -> None:
    """The right version and spelling are not enough: nothing is read before its signature."""
    token = base64.urlsafe_b64encode(b"\x01" + data).decode().rstrip("=")

    with pytest.raises(PageTokenInvalid, match="does not belong"):
        KEYS.read(token, binding=BINDING, now=1000.0)


def test_a_token_of_something_else_is_refused() -> None:
    """Another list, order or filter is another binding, and its tokens are not ours."""
    with pytest.raises(PageTokenInvalid) as refused:
        KEYS.read(_signed(), binding=bind(["tasks", "due_on"]), now=1000.0)

    assert refused.value.why == "not ours"


def test_a_binding_keeps_its_parts_apart() -> None:
    """Texts that are the same in a row, and cut elsewhere, bind to different things."""
    assert len({bind(["ab", "c"]), bind(["a", "bc"]), bind(["abc"]), bind(["a", "b", "c"])}) == 4


def test_a_token_ends_with_its_time() -> None:
    """A token is good before the second it expires, and not from then on."""
    token = _signed(expires=2000.0)

    assert KEYS.read(token, binding=BINDING, now=1999.9) == ROW
    with pytest.raises(PageTokenInvalid, match="has expired") as refused:
        KEYS.read(token, binding=BINDING, now=2000.0)

    assert refused.value.why == "expired"


def test_an_expired_forgery_is_a_forgery() -> None:
    """That a token has expired is said only of one that we signed."""
    token = _signed(keys=PageKeys("theirs"), expires=1.0)

    with pytest.raises(PageTokenInvalid) as refused:
        KEYS.read(token, binding=BINDING, now=1000.0)

    assert refused.value.why == "not ours"


def test_keys_change_without_a_refused_token() -> None:
    """The first key signs and all verify: new in front, then the old one away."""
    before, during, after = PageKeys("old"), PageKeys("new", "old"), PageKeys("new")
    old, new = _signed(keys=before), _signed(keys=during)

    assert during.read(old, binding=BINDING, now=0.0) == ROW
    assert during.read(new, binding=BINDING, now=0.0) == ROW
    assert after.read(new, binding=BINDING, now=0.0) == ROW
    with pytest.raises(PageTokenInvalid):
        after.read(old, binding=BINDING, now=0.0)
    with pytest.raises(PageTokenInvalid):
        before.read(new, binding=BINDING, now=0.0)


def test_keys_come_from_the_settings() -> None:
    """Keys are separated by spaces or lines, the first signs; they never show themselves."""
    keys = PageKeys.of(PageSettings(keys=Secret("one\ntwo ")))

    assert keys.read(_signed(keys=PageKeys("two")), binding=BINDING, now=0.0) == ROW
    assert PageKeys("one").read(_signed(keys=keys), binding=BINDING, now=0.0) == ROW
    assert repr(keys) == "<PageKeys: 2>"


def test_no_key_is_said_at_once() -> None:
    """Without a key nothing is signed with a guess: the setting is named, and how to fill it."""
    with pytest.raises(SettingsInvalid, match=r"pages\.keys: not set.*token_urlsafe"):
        PageKeys.of(PageSettings())
    for none in ((), ("",), ("one", b"")):
        with pytest.raises(Misuse):
            PageKeys(*none)


def test_a_random_key_is_nobody_elses() -> None:
    """A process's own key signs what no other key takes."""
    keys = PageKeys.random()

    assert keys.read(_signed(keys=keys), binding=BINDING, now=0.0) == ROW
    with pytest.raises(PageTokenInvalid):
        PageKeys.random().read(_signed(keys=keys), binding=BINDING, now=0.0)


def test_what_no_token_can_hold_is_said() -> None:
    """A value of a type of the application's own, and a row too long for a URL, are refused."""
    with pytest.raises(Misuse, match="type complex cannot be put into a page token"):
        _signed(Position((1j,)))
    with pytest.raises(Misuse, match=f"longer than the {LONGEST_TOKEN}"):
        _signed(Position(("x" * LONGEST_TOKEN,)))


def test_a_client_is_to_blame() -> None:
    """Whoever answers needs to know one class, and that its status is 400."""
    error = PageTokenInvalid("expired")

    assert isinstance(error, RequestInvalid)
    assert isinstance(error, ShipworthyError)
    assert error.status == 400


def test_numbers_and_texts_are_not_mixed_up() -> None:
    """A text that looks like a packed value stays a text."""
    row = ('["u","x"]', Decimal("1.10"), UUID(int=1), time(1, 2), date(2026, 1, 1), True, 1)

    assert KEYS.read(_signed(Position(row)), binding=BINDING, now=0.0).values == row
