"""Which part of a URL is wrong, from what drivers say."""

import pytest

from shipworthy.db.dialects.wrong_part import wrong_part

TEXTS = {
    'FATAL:  password authentication failed for user "app"': "password",
    "fe_sendauth: no password supplied": "password",
    'FATAL:  role "app" does not exist': "user",
    'FATAL:  role "app" is not permitted to log in': "user",
    'FATAL:  database "x" does not exist': "database",
    'FATAL:  permission denied for database "x"': "database",
    'FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "app", database "x"': "host",
    'invalid connection option "colour"': "option",
    "connect() got an unexpected keyword argument 'colour'": "option",
    "unable to open database file": "database",
    "file is not a database": "database",
    "failed to resolve host 'h': [Errno -2] Name or service not known": "host",
    "connection to server at 127.0.0.1 failed: Connection refused": "port",
    "connection timeout expired": "host",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_message_names_a_part(text):
    """Wherever in the chain of causes it stands."""
    part, sentence = wrong_part(None, ("something went wrong", text))

    assert part == TEXTS[text]
    assert "{" in sentence or "machine" in sentence


@pytest.mark.parametrize(
    ("code", "part"),
    [(1044, "database"), (1045, "password"), (1049, "database"), (1130, "host"), (1698, "user")],
)
def test_a_code_names_a_part(code, part):
    """MariaDB has a number for each."""
    found = wrong_part(code, ())

    assert found is not None
    assert found[0] == part


def test_what_is_not_known_is_not_guessed():
    """The meaning of the failure is said instead."""
    assert wrong_part(2013, ("Lost connection to server during query",)) is None
