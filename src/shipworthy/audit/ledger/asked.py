"""What another process asks the sealer to say in the header of its next batch.

Only the sealer can sign, and it holds the lease as long as the service runs: who takes old entries
out of the log leaves here what is to be put on record before, and waits until it has been.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from shipworthy.audit.tables import ARCHIVES, META

_NAME: Final = "ledger.asked"
_SAID: Final = ("pruned_to_batch", "archive")
# What a column of numbers can be compared with.
_LARGEST: Final = 2**63


def ask(connection: sa.Connection, facts: Mapping[str, Any]) -> None:
    """Have `facts` said by the next batch, in place of what was asked before."""
    connection.execute(META.delete().where(META.c.name == _NAME))
    text = json.dumps(facts, separators=(",", ":"))
    connection.execute(META.insert().values(name=_NAME, value=text))


def asked(connection: sa.Connection) -> dict[str, Any]:
    """Return what is to be said, nothing where nobody asks or where it may not be said.

    Whoever writes to the table of names could have anything signed here. So it is no more than
    that entries are to go, and only of an archive that is noted here.
    """
    text = connection.execute(sa.select(META.c.value).where(META.c.name == _NAME)).scalar()
    try:
        facts = json.loads(text or "{}")
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) and _may_be_said(connection, facts) else {}


def _may_be_said(connection: sa.Connection, facts: Mapping[str, Any]) -> bool:
    last, digest = facts.get("pruned_to_batch"), facts.get("archive")
    if len(facts) != len(_SAID) or type(last) is not int or type(digest) is not str:
        return False
    if not 0 < last < _LARGEST:
        return False
    noted = sa.select(ARCHIVES.c.first_batch).where(
        ARCHIVES.c.last_batch == last, ARCHIVES.c.digest == digest
    )
    return connection.execute(noted.limit(1)).first() is not None


def said(connection: sa.Connection, facts: Mapping[str, Any]) -> None:
    """Take away what was asked, in the transaction that says it; not what was asked meanwhile."""
    text = json.dumps(facts, separators=(",", ":"))
    connection.execute(META.delete().where(META.c.name == _NAME, META.c.value == text))
