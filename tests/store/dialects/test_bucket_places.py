"""The scheme of a URL says what kind of store it is, whatever driver it names."""

import pytest

from shipworthy.errors import Misuse
from shipworthy.store.dialects.bucket_places import BucketPlace, place_of


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("memory:", BucketPlace.MEMORY),
        ("sqlite:", BucketPlace.FILE),
        ("sqlite:///x.db", BucketPlace.FILE),
        ("postgresql+asyncpg://h/d", BucketPlace.SERVER),
        ("mariadb+asyncmy://h/d", BucketPlace.SERVER),
        ("mysql+pymysql://h/d", BucketPlace.SERVER),
        ("redis://h", BucketPlace.REDIS),
        ("valkeys://h", BucketPlace.REDIS),
    ],
)
def test_a_scheme_names_a_place(url, place):
    assert place_of(url) is place


def test_any_other_is_refused():
    with pytest.raises(Misuse, match="there is memory:, sqlite:"):
        place_of("oracle://h/d")
