"""MariaDB: what a refusal quotes of a row is left out."""

import pytest
import sqlalchemy as sa

from shipworthy.records.dialects.mariadb import MARIADB_RESTORE


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "Duplicate entry 'ana@example.org' for key 'email'",
            "Duplicate entry '...' for key 'email'",
        ),
        ("Column 'x' cannot be null", "Column 'x' cannot be null"),
    ],
)
def test_a_refusal_names_the_constraint_and_no_value(message: str, told: str) -> None:
    """It is shown to people, and may reach a log."""
    error = sa.exc.IntegrityError("INSERT", {}, Exception(1062, message))
    assert MARIADB_RESTORE.refusal(error) == told
