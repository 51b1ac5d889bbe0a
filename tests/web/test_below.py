"""Whether a path is one that a setting names."""

import pytest

from shipworthy.web.below import is_below, is_straight, paths_of


@pytest.mark.parametrize(
    ("path", "below"),
    [("/a", True), ("/a/b", False), ("/b", False), ("/b/", True), ("/b/c", True), ("/bc", False)],
)
def test_a_pattern_is_the_path_itself_or_all_below_it(path, below):
    """`/b/*` has nothing to do with `/bc`, nor with `/b`."""
    assert is_below(path, ("/a", "/b/*")) is below


def test_a_mounted_application_has_two_names_for_a_path():
    """As its client says it, and as it is mounted; of what only begins alike, one."""
    assert list(paths_of({"path": "/api/x", "root_path": "/api"})) == ["/api/x", "/x"]
    assert list(paths_of({"path": "/apix", "root_path": "/api"})) == ["/apix"]
    assert list(paths_of({"path": "/x"})) == ["/x"]


@pytest.mark.parametrize("path", ["/a//b", "/a/../b", "/a/./b", "/a\\b", "/a/..", "/a/."])
def test_a_bent_path_is_not_straight(path):
    """Somebody behind us may read another path in it."""
    assert not is_straight(path)
    assert is_straight("/a/b.c/..d")
