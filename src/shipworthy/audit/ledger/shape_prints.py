"""What tables were like, as it was sealed: an entry names its shape by a number alone.

Whoever changed the shape of a number would have old entries tell of another table.
"""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import sqlalchemy as sa

from shipworthy.audit.ledger.findings import VerifyReport
from shipworthy.audit.tables import SHAPES


def shape_prints(connection: sa.Connection) -> dict[str, str]:
    """Return a digest of each shape by its number, as a header says it when one is new."""
    rows = connection.execute(
        sa.select(SHAPES.c.id, SHAPES.c.table_id, SHAPES.c.facts).order_by(SHAPES.c.id)
    )
    return {
        str(row.id): sha256(
            f"{row.table_id}\n{row.facts}".encode("utf-8", "surrogatepass")
        ).hexdigest()
        for row in rows
    }


def add_said(said: dict[str, str], says: Mapping[str, Any]) -> None:
    """Add to `said` what a header says of shapes; what was said first stays."""
    shapes = says.get("shapes")
    if isinstance(shapes, dict):
        for number, found in shapes.items():
            said.setdefault(number, str(found))


def check_shapes(connection: sa.Connection, report: VerifyReport, said: Mapping[str, str]) -> None:
    """Name each shape that is not as it was sealed; one that is new is not sealed yet."""
    found = shape_prints(connection)
    for number, sealed in said.items():
        if found.get(number) != sealed:
            what = "is not as it was sealed" if number in found else "is not there"
            report.add(
                "shape changed",
                f"shape {number} {what}: the entries that name it would tell of another table, or "
                f"of columns that it never had",
            )
