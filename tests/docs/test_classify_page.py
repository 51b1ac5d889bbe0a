"""The page on failures of a database says what the code says."""

import classify_tables


def test_the_tables_of_the_page_are_those_of_the_code():
    """Who changes a meaning runs scripts/classify_tables.py."""
    text = classify_tables.PAGE.read_text(encoding="utf-8")

    assert classify_tables.page(text) == text


def test_a_table_that_is_old_is_found():
    """Otherwise the test above could not fail."""
    text = classify_tables.PAGE.read_text(encoding="utf-8")

    old = text.replace("| deadline | `57014` |", "| rerun | `57014` |")

    assert old != text
    assert classify_tables.page(old) == text
