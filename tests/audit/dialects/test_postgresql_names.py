"""Names and texts go into SQL as they are."""

from shipworthy.audit.dialects.postgresql_names import dollar_quoted, literal, quoted


def test_no_name_or_text_ends_before_its_end() -> None:
    """Quotes are doubled; backslashes mean themselves whatever the session's setting is."""
    assert quoted('a"b') == '"a""b"'
    assert literal("it's") == "'it''s'"
    assert literal("a\\'b") == "E'a\\\\''b'"


def test_a_body_is_quoted_by_what_is_not_in_it() -> None:
    """A column may be called as the end of a body."""
    assert dollar_quoted("x") == "$body0$x$body0$"
    assert dollar_quoted("$body0$") == "$body1$$body0$$body1$"
