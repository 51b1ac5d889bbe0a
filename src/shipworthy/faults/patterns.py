"""Bytes that say "commit" on the wire, for `at` and `answer_to`.

A fault with several patterns takes the first that is seen. They are found only where the bytes can
be read, so not under TLS. Drivers spell the same thing differently; these are the spellings that
the tests have seen from psycopg, asyncpg, PyMySQL and asyncmy, and those of the C clients.
"""


def _query(statement: bytes) -> bytes:
    """Write a simple query as PostgreSQL reads it: 'Q', the length with itself, the text, NUL."""
    return b"Q" + (len(statement) + 5).to_bytes(4, "big") + statement + b"\0"


def _command(statement: bytes) -> bytes:
    """Write COM_QUERY as MariaDB and MySQL read it: length, sequence 0, command 3, the text."""
    return (len(statement) + 1).to_bytes(3, "little") + b"\0\x03" + statement


_SPELLINGS = (b"COMMIT", b"COMMIT;", b"commit", b"commit;")

POSTGRES_COMMIT = tuple(map(_query, _SPELLINGS))
# CommandComplete; a COMMIT of a failed transaction is answered with ROLLBACK instead.
POSTGRES_COMMIT_ANSWER = (b"C\0\0\0\x0bCOMMIT\0",)
# Its answer is the same OK packet as that of many other commands: use `answer_to`.
MARIADB_COMMIT = tuple(map(_command, _SPELLINGS))
REDIS_EXEC = (b"*1\r\n$4\r\nEXEC\r\n", b"*1\r\n$4\r\nexec\r\n")

# For whoever does not care which server it is.
COMMIT = (*POSTGRES_COMMIT, *MARIADB_COMMIT, *REDIS_EXEC)
