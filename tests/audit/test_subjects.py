"""What a person is called where the name must not be kept."""

from shipworthy.audit.subjects import subject_digest


def test_a_person_has_one_digest_that_shows_no_name():
    """The same name gives the same one, another name another one; any text has one."""
    digest = subject_digest("ana@example.org")
    assert digest == subject_digest("ana@example.org") != subject_digest("bob@example.org")
    assert len(digest) == 64
    assert "ana" not in digest
    assert subject_digest("\ud800")


def test_a_long_name_counts_by_its_first_200_characters():
    """So many of it the trail keeps."""
    assert subject_digest("x" * 200) == subject_digest("x" * 250) != subject_digest("x" * 199)
