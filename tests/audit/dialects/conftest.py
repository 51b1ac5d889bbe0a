"""What tests of dialects get."""

from collections.abc import Iterator

import pytest
import sqlalchemy as sa


@pytest.fixture
def connection(postgres_url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(postgres_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()
