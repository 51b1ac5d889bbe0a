"""Keep secrets out of whatever is written, by any room: `redact(text)`.

It is the last net, not the first: a secret belongs in a `Secret`, which never shows itself. Where
it must choose it removes too much, because a log line short of a word still tells its story.
Text of any length takes linear time, and redacting twice changes nothing more.
"""

import re
from functools import lru_cache
from itertools import pairwise

HIDDEN = "***"

_WORDS = frozenset(
    {
        "apikey", "authorization", "cookie", "credential", "credentials", "csrf", "jwt", "otp",
        "passphrase", "passwd", "password", "passwords", "pwd", "secret", "secrets", "sessionid",
        "sig", "signature", "token", "xsrf",
    }
)  # fmt: skip
_PAIRS = frozenset(
    f"{what} {thing}"
    for what, thing in (
        ("access", "key"), ("account", "key"), ("api", "key"), ("auth", "key"),
        ("encryption", "key"), ("private", "key"), ("session", "id"), ("session", "key"),
        ("shared", "key"), ("signing", "key"),
    )
)  # fmt: skip
_ENDINGS = ("apikey", "passphrase", "passwd", "password", "secret", "token")
# `token_bytes` and `password_url` are about a secret and do not hold one.
_MEASURES = frozenset(
    {
        "age", "bytes", "count", "endpoint", "expires", "expiry", "file", "length", "limit", "name",
        "path", "policy", "seconds", "size", "total", "ttl", "type", "uri", "url",
    }
)  # fmt: skip
_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")

# Every secret name holds one of these, so text without any skips the costly patterns.
_HINTS = (
    "pass", "pwd", "secret", "token", "key", "auth", "cookie", "cred", "sig", "session", "jwt",
    "otp", "csrf", "xsrf",
)  # fmt: skip

_PEM = re.compile(
    r"-----BEGIN ([A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----.*?(?:-----END \1-----|\Z)", re.DOTALL
)
# SQLAlchemy accepts an unquoted slash in a password, urllib an unquoted at sign; a port with its
# path ("http://host:8000/a@b") is neither.
_USERINFO = re.compile(
    r"""(://[^\s/:@"<>]{0,256}:)(?!//|\d{1,5}(?:[/?\#\s]|$))(?:[^\s/"<>]*|(?:[^\s@"<>:]|:(?!//))*)@"""
)
_JWT = re.compile(r"\beyJ[\w-]{5,}\.[\w-]{2,}(?:\.[\w-]*){1,3}")
# A word like "authentication" after "basic" is prose; a credential has a digit, a sign or a
# capital after its first letter.
_CREDENTIAL = re.compile(
    r"\b([Bb]earer|BEARER|[Bb]asic|BASIC)(\s+)(?=[A-Za-z]?[a-z-]*[A-Z0-9._~+/=])[\w.~+/=-]{6,}"
)
# Unquoted, these run to the end of the line: cookies and digests have many parts.
_HEADER = re.compile(
    r"""(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)(["']?\s*[:=]\s*)(?!b?\\?["'])\S[^\r\n]*"""
)
_NAME = re.compile(
    r"""(?<![\w.-])([\w.-]{1,64})
        (?:(?:\\?["'])?\s*[:=]\s*|\\?["']\s*,\s*)            # also a pair in a list of pairs
    """,
    re.VERBOSE,
)
_VALUE = re.compile(
    r"""(b?(\\?["']))(?:(?!\2)(?:[^\\\r\n]|\\.))*              # quoted, closed or not
        |[^\s,;&"'\\]+?(?=[)\]}>]{0,8}(?:[\s,;&"'\\]|\Z))     # bare, without its brackets
    """,
    re.VERBOSE,
)


def redact(text: str) -> str:
    """Return `text` with `***` in the place of every secret that can be told by its form.

    Told are: passwords in URLs, bearer and basic credentials, values of secret-looking names
    (`password=...`, `"api_key": "..."`), cookies, JSON Web Tokens and private keys in PEM.
    """
    if "-----BEGIN " in text:
        text = _PEM.sub(HIDDEN, text)
    if "://" in text:
        text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    if "eyJ" in text:
        text = _JWT.sub(HIDDEN, text)
    lower = text.lower()
    if "bearer" in lower or "basic" in lower:
        text = _CREDENTIAL.sub(rf"\1\2{HIDDEN}", text)
    if any(hint in lower for hint in _HINTS):
        text = _HEADER.sub(rf"\1\2{HIDDEN}", text)
        text = _without_secret_values(text)
    return text


def printable(text: str) -> str:
    """Return `text` on one line, what is not printable in it escaped.

    So that no text from outside can forge a line or steer a terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Tell whether what is called `name` should not be shown: `DB_PASSWORD`, `apiKey`, `X-Token`.

    Names about a secret (`token_bytes`, `password_file`) and plural counts (`max_tokens`) are not.
    """
    words = [word for word in _BOUNDARY.sub(" ", name).lower().split(" ") if word]
    if not words or words[-1] in _MEASURES:
        return False
    return (
        words == ["pass"]
        or any(word in _WORDS or word.endswith(_ENDINGS) for word in words)
        or any(f"{one} {two}" in _PAIRS for one, two in pairwise(words))
    )


def _without_secret_values(text: str) -> str:
    # By hand, because what follows a harmless name ("detail: password=...") is looked at again.
    kept, start = [], 0
    while name := _NAME.search(text, start):
        end = name.end()
        kept.append(text[start:end])
        start = end
        if is_secret_name(name[1]) and (value := _VALUE.match(text, end)):
            kept += (value[1] or "", HIDDEN)
            start = value.end()
    return "".join((*kept, text[start:]))
