"""Section [audit]."""

import pytest

from shipworthy.audit.settings import AuditSettings, personal_columns, read_capture, write_capture


def test_personal_columns_are_read_by_table():
    """A schema before the table is a part of its name."""
    found = personal_columns(
        ["clients.email = id", "clients.name=id", "crm.people.phone = person_id"]
    )
    assert found == {
        "clients": {"email": "id", "name": "id"},
        "crm.people": {"phone": "person_id"},
    }


@pytest.mark.parametrize("text", ["clients.email", "email = id", "clients. = id", "a.b =", "", "="])
def test_a_personal_column_that_cannot_be_read_is_refused_everywhere(text):
    """Silently capturing what should have been erasable would be found out years later."""
    (refused,) = AuditSettings(personal=(text,)).refusals("development")
    assert "table.column = subject column" in refused
    assert AuditSettings(personal=("clients.email = id",)).refusals("production") == []


def test_what_is_captured_is_read_back_as_it_was_written():
    """Whoever looks later, without the settings, judges by the same."""
    chosen = AuditSettings(tables=("a", "b*"), personal=("a.x = y",), truncate="block")
    assert read_capture(write_capture(chosen)) == chosen
    assert read_capture("") == AuditSettings()
    assert read_capture('{"later":1}') == AuditSettings()
