"""No write is recorded for anybody but the one it was made for."""

import pytest

from flows.wrong_actor import WAYS, attributed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_a_thousand_writes_of_200_tasks_on_ten_connections_are_each_their_own_users(
    kind, request, tmp_path
):
    """By every way an application writes: 0 wrong, 0 lost, and none for whom nobody asked."""
    if kind == "sqlite":
        url = f"sqlite:///{tmp_path}/app.db"
    else:
        url = request.getfixturevalue("postgres_url" if kind == "postgresql" else "mariadb_url")

    told = attributed(url.replace("mysql+", "mariadb+"), tmp_path, 1000)

    assert (told.wrong, told.lost, told.invented, told.refused) == (0, 0, 0, 0)
    assert told.writes == sum(told.ways.values()) >= 1000
    assert set(told.ways) == set(WAYS)
