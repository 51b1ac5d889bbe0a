"""What somebody may do, in four words: viewer, operator, admin, and auditor beside them. Pure."""

from enum import StrEnum


class AccessRole(StrEnum):
    """What the bearer of a token may do; `AUDITOR` reads the trail and commands nothing."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    AUDITOR = "auditor"


# Who is let to what, from the least on. Each of the first three may do what the one before it may.
ADMINS = frozenset({AccessRole.ADMIN})
OPERATORS = ADMINS | {AccessRole.OPERATOR}
VIEWERS = OPERATORS | {AccessRole.VIEWER}
READERS = VIEWERS | {AccessRole.AUDITOR}


def in_words(roles: frozenset[AccessRole]) -> str:
    """Return roles as a sentence names them, the least first."""
    names = [role.value for role in AccessRole if role in roles]
    return " or ".join(names)
