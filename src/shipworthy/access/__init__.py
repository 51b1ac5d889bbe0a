"""Who may come in: roles, and API tokens that are kept in a file and shown once.

A token is made by `shipworthy tokens add`, has one role, and can expire or be revoked while the
service runs. Its secret is stored nowhere.

Not here: which role an endpoint of the operations port asks for (`operations.needs`), and Host and
Origin there (`operations.access`).
"""

from shipworthy.access.guesses import MOST_GUESSES, WINDOW_SECONDS, Guess, Guesses
from shipworthy.access.keeping import (
    Listed,
    TokenUnknown,
    add_token,
    list_tokens,
    revoke_token,
    role_named,
)
from shipworthy.access.live import LOOK_SECONDS, LiveTokens
from shipworthy.access.role import ADMINS, OPERATORS, READERS, VIEWERS, AccessRole, in_words
from shipworthy.access.settings import AccessSettings
from shipworthy.access.token import Bearer, NoBearer, State, Token
from shipworthy.access.token_file import TokensUnusable

__all__ = [
    "ADMINS",
    "LOOK_SECONDS",
    "MOST_GUESSES",
    "OPERATORS",
    "READERS",
    "VIEWERS",
    "WINDOW_SECONDS",
    "AccessRole",
    "AccessSettings",
    "Bearer",
    "Guess",
    "Guesses",
    "Listed",
    "LiveTokens",
    "NoBearer",
    "State",
    "Token",
    "TokenUnknown",
    "TokensUnusable",
    "add_token",
    "in_words",
    "list_tokens",
    "revoke_token",
    "role_named",
]
