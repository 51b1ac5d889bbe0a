"""Where settings are written."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings as given_with, strategies as st

from shipworthy.errors import SettingsInvalid
from shipworthy.settings import load, sources


@pytest.fixture
def refused(tmp_path):
    """Load with the given file text and variables, and return the problems."""

    def problems(text="", *, name="shipworthy.toml", **more):
        content = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SettingsInvalid) as error:
            load(directory=tmp_path, **({"environ": {}} | more))
        return list(error.value.problems)

    return problems


@pytest.fixture
def loaded(tmp_path):
    """Load with the given file text and variables."""

    def result(text=None, *, name="shipworthy.toml", environ=None, **more):
        if text is not None:
            (tmp_path / name).write_text(text)
        return load(directory=tmp_path, environ=environ or {}, **more)

    return result


def test_the_file_of_the_directory_is_read(loaded, door):
    """`shipworthy.toml` has a table for each section."""
    found = loaded("[door]\nport = 80\n")

    assert found.of(door).port == 80
    assert found.file == "shipworthy.toml"


def test_the_project_file_is_read_where_there_is_no_other(loaded, door):
    """`[tool.shipworthy]` of `pyproject.toml` holds the same tables, and its lines are counted."""
    text = "[project]\nname = 'x'\n[tool.shipworthy.door]\nport = 80\n"

    found = loaded(text, name="pyproject.toml")

    assert found.of(door).port == 80
    assert {value.origin for value in found.values} >= {"pyproject.toml:4"}


def test_our_own_file_stands_before_the_project_file(loaded, tmp_path, door):
    """One file counts; they are not mixed."""
    (tmp_path / "pyproject.toml").write_text("[tool.shipworthy.door]\nport = 1\nhost = 'x'\n")

    found = loaded("[door]\nport = 80\n")

    assert (found.of(door).port, found.of(door).host) == (80, "127.0.0.1")


@pytest.mark.parametrize("text", ["[project]\nname = 'x'\n", "tool = 1\n", "[tool.ruff]\n", ""])
def test_a_project_file_need_not_speak_of_us(loaded, door, text):
    """Most do not."""
    found = loaded(text, name="pyproject.toml")

    assert found.of(door) == door()
    assert found.file == ""


def test_without_any_file_the_defaults_hold(loaded, door):
    """Nothing has to be written to begin."""
    found = loaded()

    assert (found.of(door), found.file) == (door(), "")


def test_a_named_file_is_read_instead(loaded, tmp_path, door):
    """It may have any name, and its origin is shown as it was named."""
    other = tmp_path / "other.conf"
    other.write_text("[door]\nport = 81\n")

    found = loaded("[door]\nport = 80\n", file=other)

    assert found.of(door).port == 81
    assert f"{other}:2" in {value.origin for value in found.values}


def test_a_named_project_file_is_read_as_one(loaded, tmp_path, door):
    """`--config pyproject.toml` means its table."""
    project = tmp_path / "pyproject.toml"
    project.write_text("[tool.shipworthy.door]\nport = 81\n")

    assert loaded(file=project).of(door).port == 81


def test_a_named_project_file_without_our_table_is_refused(refused, tmp_path):
    """Somebody thought that it had one."""
    problems = refused("[project]\n", name="pyproject.toml", file=tmp_path / "pyproject.toml")

    assert problems == [f"settings file {tmp_path}/pyproject.toml: has no table [tool.shipworthy]"]


def test_our_table_of_the_project_file_must_be_one(refused):
    """A text is no table."""
    problems = refused("[tool]\nshipworthy = 'x'\n", name="pyproject.toml")

    assert problems == ["settings file pyproject.toml: has no table [tool.shipworthy]"]


def test_a_file_that_is_not_there_is_refused_with_its_name(tmp_path):
    """When it was named; else it need not exist."""
    with pytest.raises(SettingsInvalid, match=r"^settings file /nowhere/x\.toml: does not exist$"):
        load(file=Path("/nowhere/x.toml"), directory=tmp_path, environ={})


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path):
    """The system's own words say why."""
    plain = tmp_path / "plain"
    plain.touch()

    with pytest.raises(SettingsInvalid, match="cannot be read: Not a directory"):
        load(file=plain / "x.toml", directory=tmp_path, environ={})


def test_a_directory_or_a_pipe_is_no_settings_file(tmp_path):
    """Reading a pipe could wait for ever, so it is not tried."""
    os.mkfifo(tmp_path / "pipe")

    for name in ("pipe", "."):
        with pytest.raises(SettingsInvalid, match="is not a regular file"):
            load(file=tmp_path / name, directory=tmp_path, environ={})


def test_a_file_has_a_limit(refused, monkeypatch):
    """A settings file of a megabyte is a mistake, whatever it holds."""
    monkeypatch.setattr(sources, "FILE_BYTES", 1024)

    problems = refused("# " + "x" * 1023)

    assert problems == ["settings file shipworthy.toml: is larger than 1KiB"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[door]\nport 80\n", "shipworthy.toml:2: no valid TOML: expected '=' after a key in a "),
        ("[door]\nport = 1\nport = 2\n", "shipworthy.toml:3: no valid TOML: cannot overwrite a v"),
        ("[door]\nport = \n", "shipworthy.toml:2: no valid TOML: invalid value (column 8)"),
        ("[door]\nhosts = ['a',\n", "shipworthy.toml:3: no valid TOML: "),
        (b"[door]\n# \xff\n", "shipworthy.toml:2: not UTF-8 text; save the file as UTF-8"),
        ("x = " + "9" * 5000, "settings file shipworthy.toml: cannot be read: "),
        ("x = " + "[" * 5000, "settings file shipworthy.toml: cannot be read: "),
    ],
    ids=["no equals", "a key twice", "no value", "no end", "not UTF-8", "a long number", "deep"],
)
def test_a_broken_file_is_refused_with_the_line(refused, text, problem):
    """An editor can jump to `shipworthy.toml:2`."""
    problems = refused(text)

    assert len(problems) == 1
    assert problems[0].startswith(problem)


def test_a_file_of_windows_is_read(loaded, door, tmp_path):
    """With its mark at the beginning, and its own line ends."""
    (tmp_path / "shipworthy.toml").write_bytes(b"\xef\xbb\xbf[door]\r\nport = 80\r\n")

    found = loaded()

    assert found.of(door).port == 80
    assert "shipworthy.toml:2" in {value.origin for value in found.values}


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "[door]\nprot = 1\n",
            ["door.prot: no such setting (did you mean 'door.port'?) (from shipworthy.toml:2)"],
        ),
        (
            "port = 1\n",
            ["port: no such setting (did you mean 'door.port'?) (from shipworthy.toml:1)"],
        ),
        (
            "[door]\ngrace_seconds = '1s'\n",
            [
                (
                    "door.grace_seconds: no such setting (did you mean 'door.grace'?) "
                    "(from shipworthy.toml:2)"
                )
            ],
        ),
        (
            "\n[dor]\nport = 1\nhost = 'x'\n",
            ["[dor]: no such section (did you mean 'door'?) (from shipworthy.toml:2)"],
        ),
        ("[zebra]\n", ["[zebra]: no such section (from shipworthy.toml:1)"]),
        (
            "door = 1\n",
            ["door: is a section; write its settings below [door] (from shipworthy.toml:1)"],
        ),
        (
            "[door.port]\nx = 1\n",
            ["door.port.x: no such setting (did you mean 'door.port'?) (from shipworthy.toml:2)"],
        ),
        (
            "[door]\nport = {}\n",
            ["door.port: expected a whole number from 0 to 65535, got {} (from shipworthy.toml:2)"],
        ),
        (
            "[profile.prod.door]\nport = 1\n",
            [
                (
                    "[profile.prod]: no such environment (did you mean 'production'?); there are "
                    "development, staging, production (from shipworthy.toml:1)"
                )
            ],
        ),
        (
            "profile = 1\n",
            [
                (
                    "profile: expected tables such as [profile.production.serve] "
                    "(from shipworthy.toml:1)"
                )
            ],
        ),
        (
            "[profile]\nstaging = 1\n",
            [
                (
                    "profile.staging: expected tables such as [profile.staging.serve] "
                    "(from shipworthy.toml:2)"
                )
            ],
        ),
        (
            "[profile.staging.door]\nprot = 1\nport = 'x'\n",
            [
                "door.prot: no such setting (did you mean 'door.port'?) (from shipworthy.toml:2)",
                (
                    "door.port: expected a whole number from 0 to 65535, got 'x' "
                    "(from shipworthy.toml:3)"
                ),
            ],
        ),
    ],
)
def test_a_wrong_name_in_a_file_is_refused_with_its_place_and_the_nearest_right_one(
    refused, text, problems
):
    """Sections, settings and profiles, also of profiles that do not count today."""
    assert refused(text) == problems


@pytest.mark.parametrize("text", ["[door]\n", "[shop.cart]\n", "[shop]\n", "[profile.staging]\n"])
def test_an_empty_table_says_nothing(loaded, door, text):
    """It is where somebody is about to write."""
    assert loaded(text).of(door) == door()


def test_a_dotted_key_is_the_same_as_a_table(loaded, door):
    """TOML's ways to write one thing mean one thing."""
    tables = ["door.port = 80\n", "door = {port = 80}\n", "[door]\nport = 80\n"]

    assert [loaded(text).of(door).port for text in tables] == [80, 80, 80]


def test_what_belongs_to_rooms_that_are_not_loaded_is_not_judged(loaded, door):
    """Under another server nobody reads `[serve]`; the file still serves both."""
    found = loaded("[serve]\nport = 1\n", environ={"SHIPWORTHY_SERVE__PORT": "1"})

    assert found.of(door) == door()


def test_variables_set_what_their_name_says(loaded, door, cart):
    """`SHIPWORTHY_`, the section, two underscores, the key; dots become two underscores."""
    found = loaded(
        environ={
            "SHIPWORTHY_DOOR__GRACE": "5s",
            "SHIPWORTHY_SHOP__CART__HOSTS": "a, b",
            "SHIPWORTHY_DOOR__TOKEN": "",
            "OTHER_DOOR__PORT": "1",
        }
    )

    assert found.of(door).grace_seconds == 5.0
    assert found.of(cart).hosts == ("a", "b")
    assert not found.of(door).token


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("SHIPWORTHY_DOOR__PROT", " (did you mean 'SHIPWORTHY_DOOR__PORT'?)"),
        ("SHIPWORTHY_DOOR_PORT", " (did you mean 'SHIPWORTHY_DOOR__PORT'?)"),
        ("SHIPWORTHY_ENVIRONMENT", " (did you mean 'SHIPWORTHY_ENV'?)"),
    ],
)
def test_a_wrong_variable_is_refused_with_the_nearest_right_one(refused, variable, hint):
    """A variable with our name that does nothing is a setting somebody believes in."""
    assert refused(environ={variable: "1"}) == [f"{variable}: no such setting{hint}"]


def test_what_kubernetes_sets_for_a_service_of_our_name_is_not_ours(loaded, door):
    """Every pod of a namespace with a service `shipworthy-demo` gets these."""
    found = loaded(
        environ={
            "SHIPWORTHY_SERVICE_HOST": "10.0.0.1",
            "SHIPWORTHY_DEMO_SERVICE_HOST": "10.0.0.1",
            "SHIPWORTHY_DEMO_SERVICE_PORT_HTTP": "80",
            "SHIPWORTHY_DEMO_PORT": "tcp://10.0.0.1:80",
            "SHIPWORTHY_DEMO_PORT_80_TCP_ADDR": "10.0.0.1",
        }
    )

    assert found.of(door) == door()


def test_a_secret_is_read_from_the_file_that_is_named(loaded, tmp_path, door):
    """Without the line break that editors put at the end, and with every other blank."""
    (tmp_path / "token").write_text(" hunter 2 \r\n")

    found = loaded(environ={"SHIPWORTHY_DOOR__TOKEN_FILE": str(tmp_path / "token")})

    assert found.of(door).token.reveal() == " hunter 2 "


@pytest.mark.parametrize(
    ("content", "because"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"x" * (2**16 + 1), "is larger than 64KiB"),
    ],
    ids=["missing", "empty", "a line break", "not text", "too big"],
)
def test_a_secret_file_that_cannot_be_used_is_refused_with_the_reason(
    refused, tmp_path, content, because
):
    """The sentence names the setting, the file and the variable, and shows nothing of it."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)

    problems = refused(environ={"SHIPWORTHY_DOOR__TOKEN_FILE": str(file)})

    assert problems == [
        f"door.token: secret file {file} {because} (from SHIPWORTHY_DOOR__TOKEN_FILE)"
    ]


def test_a_secret_set_twice_is_refused(refused, tmp_path):
    """Nobody could say which one holds."""
    (tmp_path / "token").write_text("hunter2")

    problems = refused(
        environ={
            "SHIPWORTHY_DOOR__TOKEN": "hunter2",
            "SHIPWORTHY_DOOR__TOKEN_FILE": str(tmp_path / "token"),
        }
    )

    assert problems == [
        "door.token: set by SHIPWORTHY_DOOR__TOKEN and by SHIPWORTHY_DOOR__TOKEN_FILE; unset one"
    ]


def test_only_secrets_are_read_from_files(refused):
    """The rest belongs into the settings file."""
    problems = refused(environ={"SHIPWORTHY_DOOR__PORT_FILE": "/run/port"})

    assert problems == [
        "SHIPWORTHY_DOOR__PORT_FILE: only secrets are read from files; set SHIPWORTHY_DOOR__PORT"
    ]


@pytest.mark.parametrize(("mode", "count"), [(0o600, 0), (0o640, 0), (0o604, 1), (0o644, 1)])
def test_a_secret_file_that_all_may_read_is_worth_a_note(loaded, tmp_path, mode, count):
    """With its mode and what to do about it."""
    file = tmp_path / "token"
    file.write_text("hunter2")
    file.chmod(mode)

    notes = loaded(environ={"SHIPWORTHY_DOOR__TOKEN_FILE": str(file)}).notes

    sentence = (
        f"door.token: secret file {file}: every user of this machine can read it "
        f"(mode {mode:o}): chmod 600"
    )
    assert notes == (sentence,) * count


@pytest.mark.parametrize(
    ("mode", "advice"),
    [
        (0o600, "a file of its own, named by SHIPWORTHY_DOOR__TOKEN_FILE, is kept out of version"),
        (0o644, "every user of this machine can read it (mode 644): chmod 600"),
    ],
)
def test_a_secret_in_the_settings_file_is_worth_a_note(loaded, tmp_path, mode, advice):
    """It works, and it is one commit away from being public."""
    (tmp_path / "shipworthy.toml").write_text("[door]\ntoken = 'hunter2'\n")
    (tmp_path / "shipworthy.toml").chmod(mode)

    (note,) = loaded().notes

    assert note.startswith(f"door.token: the secret stands in shipworthy.toml:2; {advice}")
    assert "hunter2" not in note


def test_an_unknown_key_of_the_command_line_is_refused(refused):
    """Whoever calls `load` has mistyped it."""
    assert refused(overrides={"door.prot": "1"}) == [
        "door.prot: no such setting (did you mean 'door.port'?)"
    ]


@given(content=st.binary(max_size=60))
@given_with(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_gets_an_answer(tmp_path, content):
    """Whatever the bytes are: settings, or problems with their place."""
    (tmp_path / "shipworthy.toml").write_bytes(content)

    problems = ()
    try:
        load(directory=tmp_path, environ={})
    except SettingsInvalid as error:
        problems = error.problems

    assert all("shipworthy.toml" in problem for problem in problems)
