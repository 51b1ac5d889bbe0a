"""From what was written to a value, and back."""

import datetime as dt

import pytest
from hypothesis import given, strategies as st

from shipworthy.settings import Secret, options_of, sections
from shipworthy.settings.convert import from_text, from_toml, nearest, shown


@pytest.fixture
def option_of(registered):
    options = {option.key: option for cls in sections() for option in options_of(cls)}
    return options.__getitem__


READ = [
    ("door.host", "0.0.0.0", "0.0.0.0", "0.0.0.0"),
    ("door.port", 80, "80", 80),
    ("door.port", 0, " 0 ", 0),
    ("door.grace", "2m", "2m", 120.0),
    ("door.token", "hunter2", "hunter2", Secret("hunter2")),
    ("shop.cart.body", "1KiB", "1KiB", 1024),
    ("shop.cart.body", 0, "0", 0),
    ("shop.cart.share", 0.25, "0.25", 0.25),
    ("shop.cart.share", 1, "1", 1.0),
    ("shop.cart.open", True, "true", True),
    ("shop.cart.open", False, "off", False),
    ("shop.cart.level", "loud", "loud", "loud"),
    ("shop.cart.hosts", ["a", "b"], "a, b,", ("a", "b")),
    ("shop.cart.hosts", [], "", ()),
    ("shop.cart.count", -7, "-7", -7),
]


@pytest.mark.parametrize(("key", "toml", "text", "value"), READ)
def test_a_value_is_read_from_toml_and_from_text(option_of, key, toml, text, value):
    """A file has types, the environment and the command line have text; both mean the same."""
    from_file = from_toml(option_of(key), toml)
    from_variable = from_text(option_of(key), text)

    assert from_file == from_variable == value
    assert type(from_file) is type(from_variable) is type(value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("yes", True), ("no", False), ("ON", True), ("1", True), ("0", False), ("False", False)],
)
def test_a_switch_is_read_in_the_words_people_write(option_of, text, value):
    """In any case of letters."""
    assert from_text(option_of("shop.cart.open"), text) is value


@pytest.mark.parametrize(
    ("key", "raw", "because"),
    [
        ("door.host", 1, "expected text, got 1"),
        ("door.port", "80", "expected a whole number from 0 to 65535, got '80'"),
        ("door.port", True, "expected a whole number from 0 to 65535, got true"),
        ("door.port", 1.5, "expected a whole number from 0 to 65535, got 1.5"),
        ("door.port", 70000, "expected a whole number from 0 to 65535, got 70000"),
        ("door.port", -1, "expected a whole number from 0 to 65535, got -1"),
        ("door.grace", 30, "'30' has no unit: write 30ms, 30s, 30m, 30h or 30d"),
        ("door.grace", "500ms", "expected a length of time of at least 1s, got 500ms"),
        ("door.grace", True, "expected a length of time of at least 1s, got true"),
        ("door.token", 5, "expected a secret, got a value of type int"),
        ("door.token", ["hunter2"], "expected a secret, got a value of type list"),
        ("shop.cart.body", "2GiB", "expected a size from 0 to 1GiB, got 2GiB"),
        ("shop.cart.share", "half", "expected a number from 0 to 1, got 'half'"),
        ("shop.cart.share", 1.5, "expected a number from 0 to 1, got 1.5"),
        ("shop.cart.share", float("nan"), "expected a number from 0 to 1, got nan"),
        ("shop.cart.share", 10**400, "expected a number from 0 to 1, got 1000"),
        ("shop.cart.open", "true", "expected true or false, got 'true'"),
        ("shop.cart.level", "lout", "expected one of quiet, loud, got 'lout' (did you mean 'loud'"),
        ("shop.cart.level", 1, "expected one of quiet, loud, got 1"),
        ("shop.cart.hosts", "a", "expected a list of texts, got 'a'"),
        ("shop.cart.hosts", ["a", 1], "expected a list of texts, got ['a', 1]"),
        ("shop.cart.count", dt.date(2026, 1, 2), "expected a whole number, got 2026-01-02"),
        ("shop.cart.items", 10, "expected a whole number of at most 9, got 10"),
        ("shop.cart.weight", -2, "expected a number of at least -1, got -2"),
    ],
)
def test_a_wrong_value_in_a_file_is_refused_with_what_was_expected(option_of, key, raw, because):
    """The type, the bounds and what was found are all in the sentence."""
    with pytest.raises(ValueError) as refused:
        from_toml(option_of(key), raw)

    assert str(refused.value).startswith(because)


@pytest.mark.parametrize(
    ("key", "text", "because"),
    [
        ("door.port", "http", "expected a whole number from 0 to 65535, got 'http'"),
        ("door.port", "٣", "expected a whole number from 0 to 65535"),
        ("door.port", "", "expected a whole number from 0 to 65535, got ''"),
        ("door.port", "9" * 5000, "expected a whole number from 0 to 65535, got '999"),
        ("door.grace", "30", "'30' has no unit"),
        ("shop.cart.share", "nan", "expected a number from 0 to 1, got 'nan'"),
        ("shop.cart.share", "1e999", "expected a number from 0 to 1, got inf"),
        ("shop.cart.open", "maybe", "expected true or false, got 'maybe'"),
        (
            "shop.cart.level",
            "LOUD",
            "expected one of quiet, loud, got 'LOUD' (did you mean 'loud'?",
        ),
    ],
)
def test_a_wrong_text_is_refused_with_what_was_expected(option_of, key, text, because):
    """The environment gets the same sentences as the file."""
    with pytest.raises(ValueError) as refused:
        from_text(option_of(key), text)

    assert str(refused.value).startswith(because)


def test_a_refusal_neither_grows_nor_tells_secrets(option_of):
    """A long value is cut, and a password in one is removed."""
    with pytest.raises(ValueError) as long:
        from_text(option_of("door.port"), "x" * 10_000)
    with pytest.raises(ValueError) as telling:
        from_text(option_of("door.port"), "postgresql://u:hunter2@db")

    assert len(str(long.value)) < 200
    assert "hunter2" not in str(telling.value)


@pytest.mark.parametrize(("key", "toml", "text", "value"), READ)
def test_what_is_shown_of_a_value_can_be_written_again(option_of, key, toml, text, value):
    """`config show` prints what a variable would hold; a secret only whether it is set."""
    option = option_of(key)

    if isinstance(value, Secret):
        assert shown(option, value) == "set, 7 characters"
    else:
        assert from_text(option, shown(option, value)) == value


def test_a_password_in_a_plain_setting_is_not_shown(option_of):
    """A URL may have been put where no secret was expected."""
    hosts = option_of("shop.cart.hosts")

    assert shown(hosts, ("redis://:hunter2@cache",)) == "redis://:***@cache"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("door.prot", " (did you mean 'door.port'?)"),
        ("DOOR.PORT", " (did you mean 'door.port'?)"),
        ("port", " (did you mean 'bay.port' or 'door.port'?)"),
        ("dor", " (did you mean 'door'?)"),
        ("prod", " (did you mean 'production'?)"),
        ("pr", ""),
        ("zebra", ""),
    ],
)
def test_the_nearest_right_name_is_offered(word, hint):
    """By letters in common, by the same name in other sections, by its beginning, or not at all."""
    assert nearest(word, ["door", "door.port", "bay.port", "production", "staging"]) == hint


@given(st.text(max_size=30))
def test_any_word_gets_an_answer(word):
    """Nothing that people type breaks the offer."""
    assert isinstance(nearest(word, ["door.port", "door.host"]), str)
