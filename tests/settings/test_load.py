"""What holds, and who said so."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from shipworthy.errors import SettingsInvalid
from shipworthy.settings import ShownValue, duration, load, option, section, tables


@pytest.fixture
def loaded(tmp_path):
    """Load with a file text, variables and flags."""

    def result(text="", *, environ=None, **more):
        (tmp_path / "shipworthy.toml").write_text(text)
        return load(directory=tmp_path, environ=environ or {}, **more)

    return result


FILE = """\
[door]
grace = "2s"

[profile.production.door]
grace = "3s"

[profile.staging.door]
grace = "4s"
"""


@pytest.mark.parametrize(
    ("said", "seconds", "origin"),
    [
        ({}, 30.0, "default"),
        ({"environment": "staging"}, 30.0, "default"),
        ({"environment": "production"}, 60.0, "production default"),
        ({"text": FILE}, 2.0, "shipworthy.toml:2"),
        ({"text": FILE, "environment": "production"}, 3.0, "shipworthy.toml:5"),
        (
            {
                "text": FILE,
                "environment": "production",
                "environ": {"SHIPWORTHY_DOOR__GRACE": "5s"},
            },
            5.0,
            "SHIPWORTHY_DOOR__GRACE",
        ),
        (
            {
                "text": FILE,
                "environment": "production",
                "environ": {"SHIPWORTHY_DOOR__GRACE": "5s"},
                "overrides": {"door.grace": "6s"},
            },
            6.0,
            "--grace",
        ),
    ],
    ids=["default", "staging", "production", "file", "profile", "variable", "flag"],
)
def test_what_is_said_closer_to_the_run_wins_and_is_named(loaded, door, said, seconds, origin):
    """Default, default of the environment, file, its profile, variable, flag."""
    found = loaded(**said)

    values = {value.key: value for value in found.values}
    assert found.of(door).grace_seconds == seconds
    assert values["door.grace"].origin == origin


def test_a_secret_file_is_named_as_the_origin(loaded, tmp_path, door):
    """The variable says where the file is, and wins over the settings file."""
    (tmp_path / "token").write_text("hunter2")

    found = loaded(
        "[door]\ntoken = 'other'\n",
        environ={"SHIPWORTHY_DOOR__TOKEN_FILE": str(tmp_path / "token")},
    )

    assert found.of(door).token.reveal() == "hunter2"
    assert (
        ShownValue("door.token", "set, 7 characters", "SHIPWORTHY_DOOR__TOKEN_FILE") in found.values
    )


def test_every_value_is_listed_with_what_is_shown_of_it(loaded):
    """In the order of sections and of their declaration, as one would write them."""
    found = loaded(overrides={"shop.cart.level": "loud"})

    assert [(value.key, value.shown, value.origin) for value in found.values] == [
        ("door.host", "127.0.0.1", "default"),
        ("door.port", "8000", "default"),
        ("door.grace", "30s", "default"),
        ("door.token", "not set", "default"),
        ("shop.cart.body", "8MiB", "default"),
        ("shop.cart.share", "0.5", "default"),
        ("shop.cart.open", "false", "default"),
        ("shop.cart.level", "loud", "--loudness"),
        ("shop.cart.hosts", "", "default"),
        ("shop.cart.count", "1", "default"),
        ("shop.cart.items", "5", "default"),
        ("shop.cart.weight", "1.0", "default"),
    ]


@pytest.mark.parametrize(
    ("named", "environment"),
    [(None, "development"), ("", "development"), ("staging", "staging")],
)
def test_the_environment_is_named_by_a_variable(loaded, named, environment):
    """Not set, or set to nothing, it is development."""
    environ = {} if named is None else {"SHIPWORTHY_ENV": named}

    assert loaded(environ=environ).environment == environment


def test_a_caller_may_ask_for_another_environment(loaded):
    """`config check` asks what production would say, on a laptop."""
    found = loaded(environ={"SHIPWORTHY_ENV": "development"}, environment="production")

    assert found.environment == "production"


def test_an_unknown_environment_is_refused(loaded):
    """Production with the defaults of development would be found out too late."""
    with pytest.raises(SettingsInvalid) as refused:
        loaded(environ={"SHIPWORTHY_ENV": "prod"})

    assert refused.value.problems == (
        (
            "SHIPWORTHY_ENV: no such environment 'prod' (did you mean 'production'?); there are "
            "development, staging, production"
        ),
    )


def test_an_unknown_environment_is_refused_also_where_another_is_asked_for(loaded):
    """What the variable says would stop the start, so the check says it too."""
    with pytest.raises(SettingsInvalid, match="no such environment 'prod'"):
        loaded(environ={"SHIPWORTHY_ENV": "prod"}, environment="production")


def test_all_problems_are_reported_at_once(loaded):
    """One start shows them all, wherever they stand, also in values that are overruled."""
    with pytest.raises(SettingsInvalid) as refused:
        loaded(
            "[door]\nport = 'x'\nhots = 'y'\n",
            environ={"SHIPWORTHY_DOOR__PORT": "80", "SHIPWORTHY_DOOR__GRACE": "5"},
            overrides={"shop.cart.level": "lout"},
        )

    assert refused.value.problems == (
        "door.hots: no such setting (did you mean 'door.host'?) (from shipworthy.toml:3)",
        "door.port: expected a whole number from 0 to 65535, got 'x' (from shipworthy.toml:2)",
        "door.grace: '5' has no unit: write 5ms, 5s, 5m, 5h or 5d (from SHIPWORTHY_DOOR__GRACE)",
        (
            "shop.cart.level: expected one of quiet, loud, got 'lout' (did you mean 'loud'?) "
            "(from --loudness)"
        ),
    )


def test_a_section_says_what_its_environment_refuses(loaded):
    """Sections that have nothing to say need not answer."""
    in_development = loaded().refusals()
    in_production = loaded(environment="production").refusals()

    assert in_development == []
    assert in_production == ["door.token: not set"]


def test_nothing_said_leaves_nothing_to_note(loaded):
    """Notes are about secrets that stand where they should not."""
    assert loaded().notes == ()


def test_a_loaded_secret_is_shown_nowhere(loaded):
    """Not by the repr of what was loaded, nor by that of its section."""
    found = loaded("[door]\ntoken = 'hunter2'\n")

    assert "hunter2" not in repr(found)
    assert "hunter2" not in "".join(map(repr, found._sections.values()))


def test_without_arguments_it_reads_the_process_and_its_directory(tmp_path, monkeypatch, door):
    """That is what `harden(app)` does."""
    (tmp_path / "shipworthy.toml").write_text("[door]\nport = 80\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHIPWORTHY_DOOR__HOST", "::1")

    section = load().of(door)

    assert (section.port, section.host) == (80, "::1")


@pytest.fixture
def harbour(registered):
    """A section with tables that people name; one is there by default."""

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Berth:
        places: int = option(3, "places", minimum=1, production=4)
        wait_seconds: float = duration("1m", "wait")

    @section("harbour")
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Harbour:
        open: bool = option(True, "open")
        berths: Mapping[str, Berth] = tables(Berth, "berths", default={"main": Berth(places=9)})

    return Harbour


BERTHS = """\
[harbour.berths.north]
places = 5

[harbour.berths.main]
wait = "2m"

[profile.production.harbour.berths.south]
places = 7
"""


def test_tables_have_the_names_that_people_give_them(loaded, harbour):
    """In the order in which they are written; each setting has its default and its origin."""
    found = loaded(BERTHS, environ={"SHIPWORTHY_HARBOUR__BERTHS__EAST__PLACES": "6"})
    berths = found.of(harbour).berths

    assert list(berths) == ["main", "north", "east"]
    assert [berth.places for berth in berths.values()] == [9, 5, 6]
    assert (berths["main"].wait_seconds, berths["north"].wait_seconds) == (120.0, 60.0)
    origins = {value.key: (value.shown, value.origin) for value in found.values}
    assert origins["harbour.berths.main.places"] == ("9", "default")
    assert origins["harbour.berths.main.wait"] == ("2m", "shipworthy.toml:5")
    assert origins["harbour.berths.east.places"] == (
        "6",
        "SHIPWORTHY_HARBOUR__BERTHS__EAST__PLACES",
    )
    assert not any(key.startswith("harbour.berths.south") for key in origins)
    assert list(loaded().of(harbour).berths) == ["main"]


def test_tables_of_an_environment_are_there_in_that_one(loaded, harbour):
    """And so are the defaults of that environment."""
    berths = loaded(BERTHS, environment="production").of(harbour).berths

    assert {name: berth.places for name, berth in berths.items()} == {
        "main": 4,
        "north": 5,
        "south": 7,
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[harbour.berths.north]\nplaces = 0\n", "harbour.berths.north.places: expected"),
        ("[harbour.berths.north]\nplace = 1\n", "did you mean 'harbour.berths.north.places'?"),
        ("[harbour.berths.North]\nplaces = 1\n", r"\[harbour.berths.North\]: 'North' is no name"),
        ("[harbour.berths]\nnorth = 1\n", "harbour.berths.north: no such setting"),
        ("[harbour]\nberths = 1\n", "harbour.berths: no such setting"),
        (
            "[profile.staging.harbour.berths.north]\nplaces = 0\n",
            "harbour.berths.north.places: expected",
        ),
    ],
)
def test_what_is_wrong_in_a_table_is_said_with_its_place(loaded, harbour, text, says):
    """As of any other setting, also in the profile of another environment."""
    with pytest.raises(SettingsInvalid, match=says):
        loaded(text)


def test_an_empty_table_is_one_with_nothing_but_defaults(loaded, harbour):
    """It is there all the same."""
    assert loaded("[harbour.berths.north]\n").of(harbour).berths["north"].places == 3
