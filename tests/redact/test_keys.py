"""Numbers of cards, told from other long numbers."""

import pytest

from shipworthy.redact import redact
from shipworthy.redact.keys import is_card

# The numbers that issuers publish for tests.
CARDS = (
    "378282246310005", "371449635398431", "30569309025904", "38520000023237", "3530111333300000",
    "4012888888881881", "4222222222222", "5555555555554444", "2223003122003222", "6011111111111117",
    "6200000000000005",
)  # fmt: skip


@pytest.mark.parametrize("number", CARDS)
def test_a_number_of_a_card_is_hidden_with_its_check_digit_only(number):
    """In one piece, among words and signs; with another last digit it is any number."""
    assert is_card(number)
    assert redact(f"card ({number}), paid") == "card (***), paid"
    wrong = number[:-1] + str((int(number[-1]) + 1) % 10)
    assert redact(f"card ({wrong}), paid") == f"card ({wrong}), paid"


@pytest.mark.parametrize(
    "text",
    ["x4012888888881881", "4012888888881881x", "14012888888881881", "40128888888818811",
     "-4012888888881881",
     "4012888888881881-1", "0.4012888888881881", "4012888888881881.5", "4012 8888-8888 1881",
     "1012888888881882", "\u0664012888888881881"],
)  # fmt: skip
def test_what_is_part_of_something_longer_is_no_card(text):
    """A piece of a hash, an id, a fraction or a longer number."""
    assert redact(text) == text


def test_a_card_after_other_digits_is_found():
    """A year before it, or the end of another number, does not hide it from us."""
    assert redact("2024 4012 8888 8888 1881") == "2024 ***"
    assert redact("17 4012888888881881 3") == "17 *** 3"
