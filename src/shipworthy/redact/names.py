"""Values whose name says that they are secrets: `password=...`, `"api_key": "..."`, `--token x`."""

import re
from functools import lru_cache
from itertools import pairwise

from shipworthy.redact.hidden import hidden

_WORDS = frozenset(
    {
        "apikey", "authorization", "cookie", "credential", "credentials", "csrf", "cvc", "cvv",
        "cvv2", "jwt", "otp", "passphrase", "passwd", "password", "passwords", "pwd", "secret",
        "secrets", "sessionid", "sig", "signature", "ssn", "token", "xsrf",
    }
)  # fmt: skip
_PAIRS = frozenset(
    f"{what} {thing}"
    for what, thing in (
        ("access", "key"), ("account", "key"), ("api", "key"), ("auth", "key"), ("card", "number"),
        ("credit", "card"), ("encryption", "key"), ("private", "key"), ("session", "id"),
        ("session", "key"), ("shared", "key"), ("signing", "key"), ("social", "security"),
    )
)  # fmt: skip
_ENDINGS = ("apikey", "cardnumber", "passphrase", "passwd", "password", "secret", "token")
# `token_bytes` and `password_url` are about a secret and do not hold one.
_MEASURES = frozenset(
    {
        "age", "bytes", "count", "endpoint", "expires", "expiry", "file", "length", "limit", "name",
        "path", "policy", "seconds", "size", "total", "ttl", "type", "uri", "url",
    }
)  # fmt: skip
# A thing of daily life or a secret, and the value tells which.
_MAYBE = frozenset({"auth", "card", "code", "key", "nonce", "session", "sid", "ticket"})
_RANDOM = re.compile(r"(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])[\w.~+/=-]{16,512}\Z")
_MAYBE_VALUE = re.compile(r"""(?P<open>b?\\?["'])?(?P<inner>)(?P<bare>[\w.~+/=-]{16,512})""")
# No secret, and worth telling: the one that should be there is missing.
_NOTHING = frozenset({"", "None", "null", "True", "False", "true", "false"})
_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")
# Of a name, before a hint and after its beginning; who has longer ones has no names.
_NAME_CHARACTERS = 64

# Every name of a secret, or of what may be one, holds one of these: the search stops at them.
NAME_HINTS = (
    "auth", "card", "code", "cookie", "cred", "csrf", "cvc", "cvv", "jwt", "key", "nonce", "otp",
    "pass", "pwd", "secret", "session", "security", "sid", "sig", "ssn", "ticket", "token", "xsrf",
)  # fmt: skip
_HINT = re.compile("|".join(NAME_HINTS))
_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}

# The rest of a name, and what joins it to its value: a sign, the comma of a pair in a list of
# pairs, the end of a tag in XML, the blank after an option of a command.
_JOINT = re.compile(
    r"""([\w.-]{0,64})(?:(?:\\?["'])?\s*[:=]\s*|\\?["']\s*,\s*|(?P<tag>>)|(?P<blank>[ ]+))""",
    re.VERBOSE,
)
_VALUE = re.compile(
    r"""(?P<open>b?(?P<quote>\\?["']))(?P<inner>(?:(?!(?P=quote))(?:[^\\\r\n]|\\.))*)  # closed or
        |(?P<bare>[^\s,;&"'\\]+?)(?=[)\]}>]{0,8}(?:[\s,;&"'\\]|\Z))     # without its brackets
    """,
    re.VERBOSE,
)
_ELEMENT = re.compile(r"(?P<open>)(?P<inner>)(?P<bare>[^<\r\n]+)")


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Tell whether what is called `name` should not be shown: `DB_PASSWORD`, `apiKey`, `X-Token`.

    Names about a secret (`token_bytes`, `password_file`) and plural counts (`max_tokens`) are not.
    """
    words = _words(name)
    if not words or words[-1] in _MEASURES:
        return False
    return (
        words == ["pass"]
        or any(word in _WORDS or word.endswith(_ENDINGS) for word in words)
        or any(f"{one} {two}" in _PAIRS for one, two in pairwise(words))
    )


def is_secret(name: str, value: object) -> bool:
    """Tell whether `value` should not be shown because of its name.

    The names of secrets hide everything but None and truth; `session`, `code`, `key` and their like
    hide a text that looks as if a machine had thrown dice for it.
    """
    if is_harmless_name(name):
        return False
    certain = is_secret_name(name)
    if isinstance(value, str):
        return value not in _NOTHING if certain else _RANDOM.match(value) is not None
    return certain and value is not None and not isinstance(value, bool)


@lru_cache(maxsize=1024)
def is_harmless_name(name: str) -> bool:
    """Tell whether no value is a secret because of this name."""
    return not is_secret_name(name) and not _may_be_secret_name(name)


def without_secret_values(text: str) -> str:
    """Return `text` without the values of secret names."""
    lower = text.lower()
    if len(lower) != len(text):
        lower = text.translate(_ASCII_LOWER)  # some letters are two when they are small
    kept: list[str] = []
    done = at = 0
    while hint := _HINT.search(lower, at):
        joint = _JOINT.match(text, hint.start())
        if joint is None:
            at = hint.end()
            continue
        at = joint.end()
        name = text[_beginning(text, hint.start()) : joint.end(1)]
        value = _value(text, name, joint)
        if value is None:
            # What follows a harmless name ("token detail: password=...") is looked at again.
            at = joint.end(1) if joint["blank"] else at
            continue
        kept += (text[done : joint.end()], value["open"] or "", hidden("name", _shown(value)))
        done = at = value.end()
    return "".join((*kept, text[done:])) if kept else text


def _value(text: str, name: str, joint: re.Match[str]) -> re.Match[str] | None:
    """Return where the value that is to be hidden stands, None where there is none."""
    certain = is_secret_name(name)
    if not certain and not _may_be_secret_name(name):
        return None
    if joint["blank"] and not name.startswith("--"):
        return None
    beginning = joint.end(1) - len(name)
    if joint["tag"] and text[beginning - 1 : beginning] != "<":
        return None
    form = (_ELEMENT if joint["tag"] else _VALUE) if certain else _MAYBE_VALUE
    value = form.match(text, joint.end())
    if value is None:
        return None
    shown = _shown(value)
    if shown in _NOTHING if certain else not _RANDOM.match(shown):
        return None
    return value


def _shown(value: re.Match[str]) -> str:
    return value["bare"] or value["inner"] or ""


def _beginning(text: str, hint: int) -> int:
    """Return where the name around a hint begins."""
    start, floor = hint, max(0, hint - _NAME_CHARACTERS)
    while start > floor and ((before := text[start - 1]).isalnum() or before in "_.-"):
        start -= 1
    return start


@lru_cache(maxsize=1024)
def _may_be_secret_name(name: str) -> bool:
    words = _words(name)
    return bool(words) and words[-1] in _MAYBE


def _words(name: str) -> list[str]:
    return [word for word in _BOUNDARY.sub(" ", name).lower().split(" ") if word]
