"""How many connections a server has, and that it is the same server by every way to it."""

import pytest
import sqlalchemy as sa

from shipworthy.db.dialects.slots import server_slots


def test_who_counts_no_connections_is_not_asked():
    """A file has no slots."""
    assert server_slots("sqlite") is None
    assert server_slots("mysql") == server_slots("mariadb")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("server", "most"),
    [("postgres_url", "SHOW max_connections"), ("mariadb_url", "SELECT @@max_connections")],
)
def test_a_server_says_what_it_has_for_users_and_who_it_is(request, server, most):
    """At most what it is configured for; another session in another time zone says the same."""
    engine = sa.create_engine(request.getfixturevalue(server))
    counted = server_slots(engine.dialect.name)
    zone = "SET TIME ZONE 'Asia/Tokyo'" if server == "postgres_url" else "SET time_zone = '+09:00'"
    with engine.connect() as one, engine.connect() as other:
        other.execute(sa.text(zone))
        slots, configured = (int(one.scalar(sa.text(ask))) for ask in (counted.slots, most))
        places = {each.scalar(sa.text(counted.place)) for each in (one, other)}
    engine.dispose()

    assert 0 < slots <= configured
    assert slots < configured or server == "mariadb_url"  # a few are kept for superusers
    assert len(places) == 1
    assert places != {None}
