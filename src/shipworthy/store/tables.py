"""The tables of the store in the application's database; who installs the trail makes them."""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData()
# Names must not be taken for one another because a collation thinks them alike.
_OPTIONS: Final[dict[str, Any]] = {
    f"{name}_{option}": value
    for name in ("mysql", "mariadb")
    for option, value in (
        ("engine", "InnoDB"),
        ("charset", "utf8mb4"),
        ("collate", "utf8mb4_bin"),
    )
}
LEASES: Final = sa.Table(
    "shipworthy_leases",
    METADATA,
    sa.Column("name", sa.String(100), primary_key=True),
    sa.Column("holder", sa.String(200), nullable=False),
    # Grows with each new holder, and is never taken back.
    sa.Column("token", sa.BigInteger, nullable=False),
    # By the clock of the database; 0: given back.
    sa.Column("until_microseconds", sa.BigInteger, nullable=False),
    **_OPTIONS,
)
STORE_TABLES: Final[Sequence[sa.Table]] = (LEASES,)
