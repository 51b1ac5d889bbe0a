"""Secrets told by their value: those this process was given, wherever they turn up.

Not here: who tells of them (`settings.load`, which reads them).
"""

import re
import threading
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import quote, unquote

from shipworthy.redact.hidden import HIDDEN, hidden
from shipworthy.redact.names import is_secret_name

# What is shorter is a word of some text: `admin` as a password would take it out of every line.
SHORTEST: Final = 8
# Each costs every text some 40 ns. A service that has more has them from a file of its own.
MOST: Final = 128

_PAIR: Final = re.compile(r"(?:^|,)\s*([A-Za-z][\w-]*)=([^,]+)")

_lock = threading.Lock()
# The longest first: one may be a part of another. Replaced as a whole, so readers need no lock.
_known: tuple[str, ...] = ()


def remember(value: str) -> None:
    """Take `value` out of whatever is redacted from now on: of a URL its password, of pairs theirs.

    Several may stand in it, apart by spaces. Also as each stands in a URL or a form. What is
    shorter than `SHORTEST` is not remembered, nor is anything beyond `MOST`. Safe in any thread.
    """
    global _known  # noqa: PLW0603 - secrets are those of the process
    forms = {form for secret in _secrets(value) for form in _forms(secret)}
    with _lock:
        found = {*_known, *(form for form in forms if len(form) >= SHORTEST and form != HIDDEN)}
        if len(found) <= MOST:
            _known = tuple(sorted(found, key=len, reverse=True))


def remember_environment(environ: Mapping[str, str]) -> None:
    """Remember what an environment has under names of secrets, such as `STRIPE_API_KEY`.

    Not under names of our settings, of which each says itself whether it is a secret.
    """
    for name, value in environ.items():
        if name.startswith("SHIPWORTHY_"):
            continue
        # What names a file, or a place to ask for the secret, is none.
        if is_secret_name(name) and not value.startswith(("/", "./")):
            remember(value)


def without_known(text: str) -> str:
    """Return `text` without the secrets that are remembered."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, hidden("known"))
    return text


def _secrets(value: str) -> Iterable[str]:
    scheme, found, rest = value.partition("://")
    if found:
        # Of a URL only the password: its host stands in lines that somebody must read.
        userinfo, at, _ = rest.partition("/")[0].rpartition("@")
        return (userinfo.partition(":")[2],) if at and scheme else ()
    pairs = _PAIR.findall(value)
    if pairs:  # headers, as the collector of traces is sent them
        return (text for name, text in pairs if is_secret_name(name))
    return value.split()


def _forms(secret: str) -> Iterable[str]:
    return (secret, unquote(secret), quote(secret, safe=""), quote(unquote(secret), safe=""))
