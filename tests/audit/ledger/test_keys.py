"""Keys come from a file or the settings, and a message about one never repeats it."""

import pytest

from shipworthy.audit.ledger.keys import (
    SigningKeyMissing,
    find_key,
    make_key,
    open_to_others,
    read_key,
)
from shipworthy.audit.ledger.note import PrivateKey


def test_a_key_is_written_once_and_read_again(tmp_path):
    path = tmp_path / "key"
    key = make_key(path, "log")
    assert read_key(path).public == key.public
    assert find_key("", path).public == key.public
    with pytest.raises(SigningKeyMissing, match="is there already and is not overwritten"):
        make_key(path, "log")


def test_the_settings_come_before_the_file(tmp_path):
    make_key(tmp_path / "key", "log")
    other = PrivateKey.generate("log")
    assert find_key(other.reveal(), tmp_path / "key").public == other.public
    assert find_key("", tmp_path / "none") is None
    assert find_key("", None) is None


def test_what_is_no_key_is_said_without_repeating_it(tmp_path):
    secret = PrivateKey.generate("log").reveal()[:-6]
    (tmp_path / "key").write_text(secret)
    for ask in (lambda: read_key(tmp_path / "key"), lambda: find_key(secret, None)):
        with pytest.raises(SigningKeyMissing) as caught:
            ask()
        assert secret[40:60] not in str(caught.value)
    (tmp_path / "key").write_bytes(b"\xff")
    with pytest.raises(SigningKeyMissing, match="holds no signing key"):
        read_key(tmp_path / "key")


def test_a_key_that_cannot_be_written_or_read_is_said(tmp_path):
    with pytest.raises(SigningKeyMissing, match=r"cannot be written to .*: No such file"):
        make_key(tmp_path / "none" / "key", "log")
    with pytest.raises(SigningKeyMissing, match="cannot be read: No such file"):
        read_key(tmp_path / "none")


def test_a_key_that_others_may_read_is_seen(tmp_path):
    make_key(tmp_path / "key", "log")
    assert not open_to_others(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    assert open_to_others(tmp_path / "key")
    assert not open_to_others(tmp_path / "none")
