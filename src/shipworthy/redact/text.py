"""Whole texts: each rule in its turn, and most of them only where a cheap look says so."""

import re

from shipworthy.redact.hidden import hidden
from shipworthy.redact.keys import may_hold_keys, without_cards, without_keys
from shipworthy.redact.known import without_known
from shipworthy.redact.names import without_secret_values
from shipworthy.redact.statements import without_sql_values

_PEM = re.compile(
    r"-----BEGIN ([A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----.*?(?:-----END \1-----|\Z)", re.DOTALL
)
# The end of one whose beginning was cut off, and what stands in its rows.
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_CHARACTERS = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n\\"
)
# A row is 64 long; what is much shorter before them is a word of the text.
_PEM_ROW_CHARACTERS = 16
# SQLAlchemy accepts an unquoted slash in a password, urllib an unquoted at sign; a port with its
# path ("http://host:8000/a@b") is neither.
_USERINFO = re.compile(
    r"""(://[^\s/:@"<>]{0,256}:)(?!//|\d{1,5}(?:[/?\#\s]|$))((?:[^\s/"<>]*|(?:[^\s@"<>:]|:(?!//))*(?:@[^\s/@"<>:]*)*))@"""
)
# A user that is a token; people have shorter names.
_USER = re.compile(r"(://)((?=[a-zA-Z_.-]{0,256}\d)[\w.-]{20,256})@")
_JWT = re.compile(r"\beyJ[\w-]{5,}\.[\w-]{2,}(?:\.[\w-]*){1,3}")
# A word like "authentication" after "basic" is prose; a credential has a digit, a sign or a
# capital after its first letter.
_CREDENTIAL = re.compile(
    r"(\b(?:[Bb]earer|BEARER|[Bb]asic|BASIC)\s+)(?![\w-]{1,40}=[^=\s])((?=[A-Za-z]?[a-z-]*[A-Z0-9._~+/=])[\w.~+/=-]{6,})"
)
# Unquoted, these run to the end of the line: cookies and digests have many parts.
_HEADER = re.compile(
    r"""(?i)(\b(?:(?:proxy-)?authorization|(?:set-)?cookie)["']?\s*[:=]\s*)(?!b?\\?["'])(\S[^\r\n]*)"""
)


def redact(text: str) -> str:
    """Return `text` with `***` in the place of every secret that can be told by its form.

    Told are: passwords in URLs, bearer and basic credentials, values of secret-looking names
    (`password=...`, `"api_key": "..."`), cookies, JSON Web Tokens, private keys in PEM, keys of
    well-known services, password hashes, numbers of cards, and what errors of databases repeat.
    And those that this process was given in its settings and its environment, by their value.
    """
    text = without_known(text)
    # What joins a name to its value; without one, only what stands for itself can be a secret.
    joined = "=" in text or ":" in text or "'" in text or '"' in text or "--" in text
    if joined or may_hold_keys(text):
        if "-----" in text:
            text = _PEM.sub(lambda _: hidden("pem"), text)
            text = _without_ends(text)
        text = without_sql_values(text)
        if "://" in text:
            text = _USERINFO.sub(_userinfo, text)
            text = _USER.sub(_userinfo, text)
        if "eyJ" in text:
            text = _JWT.sub(lambda _: hidden("jwt"), text)
        text = without_cards(without_keys(text))
    if "earer" in text or "EARER" in text or "asic" in text or "ASIC" in text:
        text = _CREDENTIAL.sub(_credential, text)
    return _without_named(text) if joined or "<" in text else text


def printable(text: str) -> str:
    """Return `text` on one line, what is not printable in it escaped.

    So that no text from outside can forge a line or steer a terminal.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _without_ends(text: str) -> str:
    """Return `text` without the rows before the end of a private key that has no beginning."""
    kept: list[str] = []
    done = 0
    for end in _PEM_END.finditer(text):
        start = end.start()
        while start > done and text[start - 1] in _PEM_CHARACTERS:
            start -= 1
        first = text.find("\n", start, end.start()) + 1
        if 0 < first - start <= _PEM_ROW_CHARACTERS:
            start = first
        kept += (text[done:start], hidden("pem"))
        done = end.end()
    return "".join((*kept, text[done:])) if kept else text


def _without_named(text: str) -> str:
    lower = text.lower()
    if "authorization" in lower or "cookie" in lower:
        text = _HEADER.sub(lambda found: found[1] + hidden("header", found[2]), text)
    return without_secret_values(text)


def _credential(found: re.Match[str]) -> str:
    return found[1] + hidden("credential")


def _userinfo(found: re.Match[str]) -> str:
    return f"{found[1]}{hidden('url', found[2])}@"
