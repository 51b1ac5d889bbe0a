"""The databases that the ledger is tested on."""

from pathlib import Path

import pytest

from audit.ledger.trail import Trail


@pytest.fixture(params=["sqlite", "postgres_url", "mariadb_url"])
def trail(request: pytest.FixtureRequest, tmp_path: Path):
    """An installed trail on each kind of database."""
    yield from _trail(request, tmp_path, request.param)


@pytest.fixture
def sqlite_trail(request: pytest.FixtureRequest, tmp_path: Path):
    """An installed trail on SQLite, for what does not differ between databases."""
    yield from _trail(request, tmp_path, "sqlite")


def _trail(request: pytest.FixtureRequest, tmp_path: Path, kind: str):
    url = f"sqlite:///{tmp_path}/app.db" if kind == "sqlite" else request.getfixturevalue(kind)
    # One writer at a time there, and the others are not to wait for long.
    options = {"connect_args": {"timeout": 0.2}} if kind == "sqlite" else {}
    trail = Trail(url, **options)
    try:
        trail.install()
        yield trail
    finally:
        trail.close()
