"""Whom a request is charged to, and under which name."""

from shipworthy.admission import KeyMaker


def test_a_name_is_a_hash_that_only_the_same_secret_makes_again():
    """30 characters, whatever it is of; without a secret each process has its own."""
    made = KeyMaker("s").key("login", "user", "ana")
    assert (len(made), made) == (30, KeyMaker("s").key("login", "user", "ana"))
    assert made != KeyMaker("t").key("login", "user", "ana")
    assert KeyMaker().key("p", "user", "a") != KeyMaker().key("p", "user", "a")
    assert len(KeyMaker().key("p", "api_key", "\udcff" * 1_000_000)) == 30


def test_no_client_can_choose_a_value_that_runs_into_another():
    """Every part of a name has its place."""
    make = KeyMaker("s").key
    names = {
        make("p", "user", "a", "/r"),
        make("p", "user", "a\0/r"),
        make("p", "user", "a", ""),
        make("p", "network", "a", "/r"),
        make("q", "user", "a", "/r"),
        make("p", "user", "/r\0001\0a"),
    }
    assert len(names) == 6
