"""The four roles, and who is let to what."""

from shipworthy.access.role import ADMINS, OPERATORS, READERS, VIEWERS, AccessRole, in_words


def test_roles_grow_and_the_auditor_stands_beside() -> None:
    """Each set holds the one that asks for more; only the readers hold the auditor."""
    assert ADMINS < OPERATORS < VIEWERS < READERS
    assert {AccessRole.AUDITOR} == READERS - VIEWERS
    assert in_words(OPERATORS) == "operator or admin"
