"""The tokens of a running service: they follow their file, and a broken file changes nothing.

`look` reads and writes, and belongs on a thread; `judge` only looks up, and belongs where calls are
answered. What `look` has found takes the place of what was there in one assignment.
"""

from pathlib import Path
from typing import Final, final

from shipworthy.access.occurrences import TokensRead, TokensUnread, TokenUseUnsaved
from shipworthy.access.token import Bearer, NoBearer, TokenBook
from shipworthy.access.token_file import (
    TokensUnusable,
    read_tokens,
    read_used,
    signature_of,
    write_used,
)
from shipworthy.clock import SYSTEM_CLOCK, Clock
from shipworthy.events import emit

LOOK_SECONDS: Final = 1.0
# When a token was last used is known to the minute, and written no more often.
_SAVE_SECONDS: Final = 60.0


@final
class LiveTokens:
    """The tokens of one file, as they are now; without a file there are none."""

    def __init__(self, file: str, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._path = Path(file) if file else None
        self._clock = clock
        self._used = read_used(self._path) if self._path else {}
        self._book = TokenBook(used=self._used)
        self._saved = dict(self._used)
        self._saved_at = clock.now()
        self._signature: object = None
        self._said = ""

    @property
    def follows(self) -> bool:
        """Whether there is a file to look at."""
        return self._path is not None

    def judge(self, sent: str) -> Bearer | NoBearer:
        """Say who sent a text that may be a token, or why it opens nothing."""
        return self._book.judge(sent, self._clock.wall())

    def look(self) -> None:
        """Read the file where it has changed, and note beside it what was used; raises nothing."""
        if self._path is None:
            return
        self._read(self._path)
        now = self._clock.now()
        if now - self._saved_at >= _SAVE_SECONDS:
            self._saved_at = now
            self.save()

    def save(self) -> None:
        """Note beside the file when its tokens were last used, where that is news."""
        used = dict(self._used)  # at once, because `judge` goes on meanwhile
        if self._path is None or used == self._saved:
            return
        latest = dict(used)
        try:
            # Another service may use the same file; the later use holds.
            for number, minute in read_used(self._path).items():
                if number in self._book:
                    latest[number] = max(minute, latest.get(number, 0))
            write_used(self._path, latest)
        except OSError as error:
            self._say(TokenUseUnsaved, f"{self._path}.used cannot be written: {error.strerror}")
        else:
            self._saved = used

    def _read(self, path: Path) -> None:
        try:
            signature = signature_of(path)
            if signature == self._signature:
                return
            # Before it is read: what changes meanwhile is read again.
            self._signature = signature
            tokens = read_tokens(path)
        except TokensUnusable as error:
            self._say(TokensUnread, str(error))
        except OSError as error:
            self._signature = error  # equal to none, so that it is read once it can be
            self._say(TokensUnread, f"{path} cannot be looked at: {error.strerror}")
        else:
            book = TokenBook(tokens, self._used)
            for number in tuple(self._used):
                if number not in book:
                    self._used.pop(number, None)
            self._book = book
            self._said = ""
            emit(TokensRead, tokens=len(tokens))

    def _say(self, kind: type[TokensUnread] | type[TokenUseUnsaved], because: str) -> None:
        """State what is wrong once, until it is something else or over."""
        if because != self._said:
            self._said = because
            emit(kind, because=because)
