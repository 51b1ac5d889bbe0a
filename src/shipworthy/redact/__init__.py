"""Keep secrets out of whatever is written, by any room: `redact(text)`, `is_secret(name, value)`.

It is the last net, not the first: a secret belongs in a `Secret`, which never shows itself. Where
it must choose it removes too much, because a log line short of a word still tells its story.
Text of any length takes linear time, and redacting twice changes nothing more.

Not here: `Secret` (`settings`), where the lines go and how long they may be (`telemetry`), and what
a client may be told, which is not decided by taking secrets out (`web.answers`).
"""

from shipworthy.redact.fields import redact_fields
from shipworthy.redact.hidden import HIDDEN, REDACTIONS, hidden
from shipworthy.redact.known import remember, remember_environment
from shipworthy.redact.names import is_harmless_name, is_secret, is_secret_name
from shipworthy.redact.statements import without_values
from shipworthy.redact.text import printable, redact

__all__ = [
    "HIDDEN",
    "REDACTIONS",
    "hidden",
    "is_harmless_name",
    "is_secret",
    "is_secret_name",
    "printable",
    "redact",
    "redact_fields",
    "remember",
    "remember_environment",
    "without_values",
]
