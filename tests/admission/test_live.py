"""Limits change with their file; what cannot be used changes nothing."""

import os

import pytest

import shipworthy.web  # noqa: F401 - for its section, which the file has as well
from shipworthy.admission import LimitsChanged, LimitsFile, LimitsKept, LimitsSettings
from shipworthy.events import listen
from shipworthy.settings import load

pytestmark = pytest.mark.anyio


@pytest.fixture
def heard():
    found = []
    stop = listen(lambda fact: found.append(fact))
    yield found
    stop()


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A file that is looked at, how to write it, and the settings that came of it."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "shipworthy.toml"
    changes = []
    writes = 0

    def write(text):
        nonlocal writes
        writes += 1
        file.write_text(text)
        # Two writes within one tick of the file system's clock are two all the same.
        os.utime(file, ns=(writes, writes))

    write("[limits.policies.default]\nrate = '10/minute'\n")
    loaded = load(environ={})
    looks = LimitsFile(loaded.file, loaded.environment, loaded.of(LimitsSettings), changes.append)
    return looks, write, changes


async def test_a_changed_file_changes_the_limits(watched, heard):
    """Once for each change, and not for another section or a line of comment."""
    looks, write, changes = watched
    await looks.look_once()
    write("# a word\n[limits.policies.default]\nrate = '10/minute'\n[web]\naccess_log = false\n")
    await looks.look_once()
    assert changes == []
    write("[limits]\nkeys_most = 5000\n[limits.policies.default]\nrate = '20/minute'\n")
    for _ in range(3):
        await looks.look_once()
    assert [found.policies["default"].rate for found in changes] == ["20/minute"]
    (fact,) = heard
    assert isinstance(fact, LimitsChanged)
    assert (fact.policies, fact.not_yet) == ("default", "limits.keys_most")


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("[limits", "no valid TOML"),
        ("[limits]\nmod = 'off'\n", "limits.mod: no such setting"),
        ("[limits.policies.x]\nmatch = []\n", "match is empty, so it can never match"),
    ],
)
async def test_a_broken_file_keeps_the_limits_and_says_so(watched, heard, text, because):
    """Once, with the reason; and what is right again is taken again."""
    looks, write, changes = watched
    write(text)
    for _ in range(3):
        await looks.look_once()
    assert changes == []
    (fact,) = heard
    assert isinstance(fact, LimitsKept)
    assert because in fact.because
    write("[limits.policies.default]\nrate = '30/minute'\n")
    await looks.look_once()
    assert [found.policies["default"].rate for found in changes] == ["30/minute"]


async def test_a_file_that_is_gone_keeps_the_limits_and_is_looked_for_on(watched, heard, tmp_path):
    """Some editors write a new one and rename it, so for a moment there is none."""
    looks, write, changes = watched
    (tmp_path / "shipworthy.toml").unlink()
    await looks.look_once()
    write("[limits.policies.default]\nrate = '30/minute'\n")
    await looks.look_once()
    assert len(changes) == 1


async def test_it_looks_by_itself_from_its_start_to_its_stop(watched, monkeypatch):
    """Without a file there is nothing to look at."""
    from shipworthy.admission import live

    monkeypatch.setattr(live, "LOOK_SECONDS", 0.0)
    looks, write, changes = watched
    await looks.start()
    write("[limits.policies.default]\nrate = '20/minute'\n")
    import anyio

    with anyio.fail_after(10):
        while not changes:
            await anyio.sleep(0)
    await looks.stop()
    await looks.stop()
    nothing = LimitsFile("", "development", LimitsSettings(), changes.append)
    await nothing.start()
    await nothing.look_once()
    await nothing.stop()
