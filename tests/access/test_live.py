"""The tokens of a running service follow their file, and a broken one changes nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shipworthy.access import AccessRole, Bearer, LiveTokens, NoBearer, add_token, list_tokens
from shipworthy.access.keeping import revoke_token
from shipworthy.access.occurrences import TokensRead, TokensUnread, TokenUseUnsaved
from shipworthy.clock import ManualClock
from shipworthy.events import Event, listen


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def heard() -> Iterator[list[Event]]:
    events: list[Event] = []
    stop = listen(events.append, TokensRead, TokensUnread, TokenUseUnsaved)
    yield events
    stop()


def test_without_a_file_named_there_is_nothing_to_follow(heard: list[Event]) -> None:
    """No token opens anything, and nothing is said."""
    tokens = LiveTokens("")
    tokens.look()
    tokens.save()
    assert not tokens.follows
    assert isinstance(tokens.judge("sw_x"), NoBearer)
    assert heard == []


def test_a_token_opens_from_the_next_look_on_until_it_is_revoked(
    file: Path, clock: ManualClock, heard: list[Event]
) -> None:
    """Without a restart; a look at a file that is as it was says nothing."""
    tokens = LiveTokens(str(file), clock=clock)
    tokens.look()
    assert heard == []
    token, shown = add_token(file, "ci", AccessRole.VIEWER, wall=clock.wall())
    assert isinstance(tokens.judge(shown), NoBearer)
    tokens.look()
    tokens.look()
    assert tokens.judge(shown) == Bearer("ci", AccessRole.VIEWER)
    revoke_token(file, token.id, clock.wall())
    tokens.look()
    assert tokens.judge(shown) == NoBearer(f"the token 'ci' ({token.id}) is revoked")
    assert heard == [TokensRead(tokens=1), TokensRead(tokens=1)]


def test_a_token_expires_without_a_look(file: Path, clock: ManualClock) -> None:
    """Its time is compared at each use."""
    _, shown = add_token(
        file, "ci", AccessRole.VIEWER, wall=clock.wall(), expires=clock.wall() + 60
    )
    tokens = LiveTokens(str(file), clock=clock)
    tokens.look()
    assert isinstance(tokens.judge(shown), Bearer)
    clock.advance(60)
    assert isinstance(tokens.judge(shown), NoBearer)


def test_a_broken_file_keeps_the_old_tokens_and_is_told_once(
    file: Path, clock: ManualClock, heard: list[Event]
) -> None:
    """However often it is looked at, or broken in the same way; once it is good, it holds."""
    _, shown = add_token(file, "ci", AccessRole.VIEWER, wall=clock.wall())
    good = file.read_bytes()
    tokens = LiveTokens(str(file), clock=clock)
    tokens.look()
    for text in ("{", "{ "):
        file.write_text(text)
        tokens.look()
        tokens.look()
    assert isinstance(tokens.judge(shown), Bearer)
    file.write_bytes(good)
    file.chmod(0o666)
    tokens.look()
    assert isinstance(tokens.judge(shown), Bearer)
    file.chmod(0o600)
    tokens.look()
    kinds = [type(event) for event in heard]
    assert kinds == [TokensRead, TokensUnread, TokensUnread, TokensUnread, TokensRead]


def test_a_file_that_is_taken_away_takes_its_tokens_with_it(
    file: Path, clock: ManualClock, heard: list[Event]
) -> None:
    """The shortest way to revoke them all."""
    _, shown = add_token(file, "ci", AccessRole.VIEWER, wall=clock.wall())
    tokens = LiveTokens(str(file), clock=clock)
    tokens.look()
    file.unlink()
    tokens.look()
    assert isinstance(tokens.judge(shown), NoBearer)
    assert heard[-1] == TokensRead(tokens=0)


def test_a_place_that_cannot_be_looked_at_is_told_once(
    tmp_path: Path, clock: ManualClock, heard: list[Event]
) -> None:
    """Until it can, and then the file is read, also where it is as it was."""
    folder = tmp_path / "state"
    file = folder / "tokens.json"
    add_token(file, "ci", AccessRole.VIEWER, wall=clock.wall())
    tokens = LiveTokens(str(file), clock=clock)
    tokens.look()
    folder.rename(tmp_path / "kept")
    folder.write_text("no folder")
    tokens.look()
    tokens.look()
    folder.unlink()
    (tmp_path / "kept").rename(folder)
    tokens.look()
    assert [type(event) for event in heard] == [TokensRead, TokensUnread, TokensRead]


def test_the_last_use_is_written_at_most_once_a_minute(file: Path, clock: ManualClock) -> None:
    """And at the end; another service that uses the same file loses none of its own."""
    token, shown = add_token(file, "ci", AccessRole.VIEWER, wall=clock.wall())
    one, other = (LiveTokens(str(file), clock=clock) for _ in range(2))
    one.look()
    other.look()
    one.judge(shown)
    clock.advance(59)
    one.look()
    assert list_tokens(file, clock.wall())[0].used is None
    clock.advance(1)
    one.look()
    first = list_tokens(file, clock.wall())[0].used
    clock.advance(120)
    other.judge(shown)
    other.save()
    clock.advance(60)
    one.judge(shown)
    one.save()
    last = list_tokens(file, clock.wall())[0].used
    assert first == 1_699_999_980
    assert last == first + 240
    assert LiveTokens(str(file), clock=clock)._used == {token.id: last}


def test_what_was_used_is_forgotten_with_its_token(file: Path, clock: ManualClock) -> None:
    """Else the list of uses would grow for ever."""
    _, shown = add_token(file, "ci", AccessRole.VIEWER, wall=clock.wall())
    tokens = LiveTokens(str(file), clock=clock)
    tokens.look()
    tokens.judge(shown)
    file.unlink()
    tokens.look()
    assert tokens._used == {}


def test_a_use_that_cannot_be_written_is_told_once(
    file: Path, clock: ManualClock, heard: list[Event]
) -> None:
    """The token opens as before."""
    _, shown = add_token(file, "ci", AccessRole.VIEWER, wall=clock.wall())
    tokens = LiveTokens(str(file), clock=clock)
    tokens.look()
    file.with_name("tokens.json.used").mkdir()
    tokens.judge(shown)
    tokens.save()
    tokens.save()
    assert isinstance(tokens.judge(shown), Bearer)
    assert [type(event) for event in heard] == [TokensRead, TokenUseUnsaved]
