"""Which databases give an entry a position of its own."""

import pytest
from sqlalchemy.engine import make_url

from shipworthy.audit.dialects import audit_dialect
from shipworthy.audit.dialects.positions import has_positions


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mariadb", "mysql"])
def test_a_position_is_there_where_the_dialect_orders_by_it(name):
    """Two places say so, and they agree."""
    dialect = make_url(f"{name}://").get_dialect()()
    assert has_positions(dialect=dialect) == (audit_dialect(name).position_column == "position")
