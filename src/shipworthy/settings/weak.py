"""Which secrets are none: what everybody tries first, and what is too short to stand. Pure."""

from typing import Final
from urllib.parse import unquote

# What stands in examples, in images as they are shipped, and at the head of every list of guesses.
_EVERYBODYS: Final = frozenset({
    "admin", "administrator", "change-me", "change_me", "changeit", "changeme", "default", "demo",
    "example", "foobar", "guest", "hunter2", "insecure", "letmein", "mysql", "pass", "passw0rd",
    "password", "password1", "placeholder", "postgres", "postgresql", "qwerty", "replace-me",
    "root", "secret", "secretkey", "shipworthy", "test", "testing", "token", "toor", "user",
    "welcome", "12345678", "123456789", "1234567890",
})  # fmt: skip


def weakness(secret: str, *, least_characters: int = 0) -> str:
    """Return what is wrong with a secret, as the end of a sentence; '' for one that can stand.

    Of a URL its password is judged. `least_characters` is for secrets that we compare, which
    nothing else slows down: 16 random letters and digits are 95 bits.
    """
    if "://" in secret:
        userinfo, _, _ = secret.partition("://")[2].partition("/")[0].rpartition("@")
        password = unquote(userinfo.partition(":")[2])
        return "its password is one that everybody tries" if _guessed(password) else ""
    if not secret:
        return ""
    if _guessed(secret):
        return "it is one that everybody tries"
    if len(secret) < least_characters:
        return f"it has {len(secret)} characters, use {least_characters} random ones at least"
    if least_characters and len(set(secret)) < least_characters // 3:
        return f"it repeats {len(set(secret))} characters, use {least_characters} random ones"
    return ""


def _guessed(text: str) -> bool:
    return text.lower() in _EVERYBODYS
