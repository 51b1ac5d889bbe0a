"""Which part of a database URL a failed connect speaks of."""

import re
from typing import Final

# Each with what is wrong; {value} is what the URL says there. Of a password nothing is shown.
_CODES: Final[dict[int, tuple[str, str]]] = {
    1044: ("database", "user '{user}' has no right to use database '{database}'"),
    1045: ("password", "the server did not accept user '{user}' with that password"),
    1049: ("database", "there is no database '{database}'"),
    1130: ("host", "the server lets nobody in from this machine"),
    1698: ("user", "the server did not accept user '{user}'"),
}
_TEXTS: Final[tuple[tuple[str, str, str], ...]] = (
    (r"password authentication failed|no password supplied", "password",
     "the server did not accept user '{user}' with that password"),
    (r'role ".*" does not exist', "user", "there is no user '{user}'"),
    (r'role ".*" is not permitted to log in', "user", "user '{user}' may not log in"),
    (r'database ".*" does not exist', "database", "there is no database '{database}'"),
    (r"permission denied for database", "database",
     "user '{user}' has no right to use database '{database}'"),
    (r"no pg_hba\.conf entry", "host",
     "the server lets user '{user}' into '{database}' neither from this machine nor in this way"),
    (r"invalid (connection option|value)|unexpected keyword|unrecognized configuration parameter",
     "option", "an option is not known there: {options}"),
    (r"unable to open database file", "database", "the file '{database}' cannot be opened"),
    (r"file is not a database", "database", "the file '{database}' is no SQLite database"),
    (r"failed to resolve host|[Nn]ame or service not known|getaddrinfo failed|name resolution",
     "host",
     "the host '{host}' has no address"),
    (r"Connection refused|actively refused", "port", "nobody listens on {host}:{port}"),
    (r"timeout expired|timed out|ConnectionTimeout|connection timeout", "host",
     "{host}:{port} did not answer in time"),
)  # fmt: skip


def wrong_part(code: int | None, texts: tuple[str, ...]) -> tuple[str, str] | None:
    """Return the part and a sentence about it, with places for parts of the URL; None: unknown.

    The parts are host, port, user, password, database and option. `texts` are the messages of the
    exceptions, the outermost first.
    """
    if code in _CODES:
        return _CODES[code]
    for pattern, part, sentence in _TEXTS:
        if any(re.search(pattern, text) for text in texts):
            return part, sentence
    return None
