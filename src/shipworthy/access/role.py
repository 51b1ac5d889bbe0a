"""What somebody may do, in four words: viewer, operator, admin, and auditor beside them. Pure."""

from enum import StrEnum


class Role(StrEnum):
    """What the bearer of a token may do; `AUDITOR` reads the trail and commands nothing."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    AUDITOR = "auditor"


# Who is let to what, from the least on. Each of the first three may do what the one before it may.
ADMINS = frozenset({Role.ADMIN})
OPERATORS = ADMINS | {Role.OPERATOR}
VIEWERS = OPERATORS | {Role.VIEWER}
READERS = VIEWERS | {Role.AUDITOR}


def in_words(roles: frozenset[Role]) -> str:
    """Return roles as a sentence names them, the least first."""
    names = [role.value for role in Role if role in roles]
    return " or ".join(names)
