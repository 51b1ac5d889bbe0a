"""How sections are declared."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from shipworthy.settings import Secret, duration, option, options_of, section, sections, size


def declared(name, **annotated):
    """Declare a section with the given fields: name -> (type, default)."""
    body = {key: default for key, (_, default) in annotated.items()}
    body["__annotations__"] = {key: hint for key, (hint, _) in annotated.items()}
    return section(name)(dataclass(frozen=True, kw_only=True)(type("Made", (), body)))


def test_a_section_made_by_hand_has_the_defaults(door, cart):
    """Rooms and tests need no file to get a section; lengths are seconds and sizes are bytes."""
    assert door() == door(host="127.0.0.1", port=8000, grace_seconds=30.0, token=Secret(""))
    assert cart().body_bytes == 8 * 2**20


def test_sections_are_listed_by_name(door, cart):
    """Whatever was imported first."""
    assert sections() == (door, cart)


def test_a_key_needs_no_unit_because_its_value_has_one(door, cart):
    """The field is `grace_seconds`, and people write `door.grace = "30s"`."""
    assert [option.key for option in options_of(door)] == [
        "door.host",
        "door.port",
        "door.grace",
        "door.token",
    ]
    assert options_of(cart)[0].key == "shop.cart.body"


def test_a_setting_knows_its_variable_and_its_flag(door, cart):
    """The flag is the name with dashes, unless it was declared."""
    grace = options_of(door)[2]
    level = options_of(cart)[3]

    assert (grace.variable, grace.flag) == ("SHIPWORTHY_DOOR__GRACE", "--grace")
    assert (level.variable, level.flag) == ("SHIPWORTHY_SHOP__CART__LEVEL", "--loudness")


def test_environments_may_have_defaults_of_their_own(door, cart):
    """Production waits longer; what is not declared for an environment holds everywhere."""
    grace = options_of(door)[2]
    is_open = options_of(cart)[2]

    assert [grace.default_in(name) for name in ("development", "production")] == [30.0, 60.0]
    assert [is_open.default_in(name) for name in ("staging", "production")] == [False, True]


def test_a_section_registers_again_when_its_module_is_loaded_again(door):
    """The later class counts."""
    again = declared("again", port=(int, option(1, "port")))
    later = declared("again", port=(int, option(2, "port")))

    assert again not in sections()
    assert later in sections()


@pytest.mark.parametrize(
    ("fields", "because"),
    [
        ({"port": (int, 8000)}, "field port: declare it with option"),
        ({"port": (int, field(default=1, metadata={"x": 1}))}, "field port: declare it with"),
        (
            {"ports": (tuple[int, ...], option((), "ports"))},
            "of type tuple.int, .... cannot be read",
        ),
        ({"grace": (float, duration("1s", "grace"))}, "call it grace_seconds"),
        ({"body": (int, size("1B", "body"))}, "call it body_bytes"),
    ],
)
def test_a_declaration_that_could_not_work_is_refused_at_import(fields, because):
    """The developer of a room sees it at once, and not a user some day."""
    with pytest.raises(TypeError, match=rf"section \[made\], .*{because}"):
        declared("made", **fields)


def test_a_choice_is_a_choice_of_texts():
    """TOML and the environment write texts."""
    with pytest.raises(TypeError, match="cannot be read"):
        declared("made", level=(Literal[1, 2], option(1, "level")))


def test_a_section_has_one_owner(door):
    """Two rooms that read the same section would break each other."""
    with pytest.raises(TypeError, match=r"section \[door\] is declared twice"):
        declared("door", port=(int, option(1, "port")))


def test_a_secret_never_shows_itself():
    """Not in a repr, not in a text, not in an f-string; only by `reveal()`."""
    secret = Secret("hunter2hunter2")

    assert f"{secret} {secret!r} {[secret]}" == (
        "set, 14 characters <Secret: set, 14 characters> [<Secret: set, 14 characters>]"
    )
    assert secret.reveal() == "hunter2hunter2"


def test_a_secret_is_true_when_it_is_set():
    """So `if settings.token` asks what it seems to ask."""
    assert Secret("x")
    assert not Secret("")
    assert str(Secret("")) == "not set"


def test_secrets_compare_by_what_they_hold():
    """Two secrets are one value when their texts are equal, and never equal to a text."""
    assert Secret("x") == Secret("x")
    assert hash(Secret("x")) == hash(Secret("x"))
    assert Secret("x") != Secret("y")
    assert Secret("x") != "x"
