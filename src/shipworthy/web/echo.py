"""What a refusal of invalid input may repeat of that input: nothing that is secret. Pure.

FastAPI answers 422 with what was sent, and with the whole body where a field is missing: a password
with a typing error comes back, into the logs of every proxy and the console of every browser.
Here such an answer is told by its form (pydantic's list of errors) and written anew.

Not here: the holding back of the answer (`problems`).
"""

import zlib
from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson

from shipworthy.redact import HIDDEN, is_secret, redact, redact_fields

Echo = Literal["show", "secrets", "hide"]

# An answer of more than this repeats what was sent, by all odds: it is not looked through.
ECHO_BYTES: Final = 1024 * 1024
_GZIP_WINDOW: Final = 31


def may_echo(headers: Mapping[bytes, bytes]) -> bool:
    """Say whether an answer 422 with these headers may be a list of errors that can be read."""
    encoding = headers.get(b"content-encoding", b"identity")
    return headers.get(b"content-type", b"").startswith(b"application/json") and encoding in (
        b"identity",
        b"gzip",
    )


def without_echo(body: bytes, echo: Echo) -> bytes | None:
    """Return the body of an answer without what it may not repeat; None where it may stay as it is.

    `secrets` puts *** for values of secret names and whatever else is redacted, `hide` leaves out
    every input and what was computed from it. What is no list of pydantic's errors stays.
    """
    try:
        document = orjson.loads(_unpacked(body))
    except (ValueError, zlib.error):
        return None
    errors = document.get("detail") if isinstance(document, dict) else None
    if not isinstance(errors, list) or not all(map(_is_error, errors)):
        return None
    written = [_hidden(error) if echo == "hide" else _redacted(error) for error in errors]
    return None if written == errors else orjson.dumps({**document, "detail": written})


def _unpacked(body: bytes) -> bytes:
    if body[:2] != b"\x1f\x8b":
        return body
    return zlib.decompressobj(_GZIP_WINDOW).decompress(body, ECHO_BYTES)


def _is_error(error: object) -> bool:
    return isinstance(error, dict) and {"loc", "msg", "type"} <= error.keys()


def _hidden(error: dict[str, Any]) -> dict[str, Any]:
    left = {name: value for name, value in error.items() if name not in {"input", "ctx"}}
    return {**left, "msg": redact(str(error["msg"]))}


def _redacted(error: dict[str, Any]) -> dict[str, Any]:
    named = [str(part) for part in error["loc"] if isinstance(part, str)]
    # The name of the field, or of what it lies in: `headers`, `authorization`.
    secret = any(is_secret(name, error.get("input")) for name in named)
    safe: dict[str, Any] = {
        name: HIDDEN if secret else redact_fields({name: error[name]})[name]
        for name in ("input", "ctx")
        if name in error
    }
    return {**error, "msg": redact(str(error["msg"])), **safe}
