"""The tables of the store in the application's database.

Who installs the trail makes those in `STORE_TABLES`; `shipworthy db migrate` makes the others.
"""

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from shipworthy.store.bucket import EXACT_MOST, KEY_CHARACTERS
from shipworthy.store.dialects.bucket_statements import lose_with_a_crash

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
BUCKETS: Final = sa.Table(
    "shipworthy_buckets",
    METADATA,
    sa.Column(
        "bucket",
        # Compared by bytes: the keys are ours, and no language orders them.
        sa.String(KEY_CHARACTERS).with_variant(
            sa.String(KEY_CHARACTERS, collation="C"), "postgresql"
        ),
        primary_key=True,
    ),
    # By the clock of the database; from then on the row may go.
    sa.Column("until_ns", sa.BigInteger, nullable=False),
    # What needs more than one instant: a letter, and eight bytes for each number.
    sa.Column(
        "rest",
        sa.LargeBinary().with_variant(mysql.VARBINARY(1 + 8 * EXACT_MOST), "mysql", "mariadb"),
    ),
    # So that a row that is written again and again stays on its page.
    postgresql_with={"fillfactor": 50},
    **_OPTIONS,
)
lose_with_a_crash(BUCKETS)
