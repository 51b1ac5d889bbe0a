"""What a request says of its body is taken at its word, and where it says two things, at both."""

import pytest

from shipworthy.web.body_plan import plan_of, promised_bytes

KNOWN = {"gzip", "deflate", "br"}


def plan(*headers):
    return plan_of([(name.encode(), value.encode()) for name, value in headers], KNOWN)


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        ("application/json", "json"),
        ("Application/JSON ; charset=utf-8", "json"),
        ("application/problem+json", "json"),
        ("application/x-www-form-urlencoded", "form"),
        ("multipart/form-data; boundary=x", "upload"),
        ("multipart/mixed; boundary=x", "other"),
        ("text/plain", "other"),
        ("", "other"),
    ],
)
def test_the_kind_of_a_body_is_told_by_its_type(content_type, kind):
    """Parameters and case make no difference."""
    assert plan(("content-type", content_type)).kinds == {kind}


def test_of_two_types_both_hold():
    """One application believes the first, the other the last."""
    told = plan(("content-type", "text/plain"), ("content-type", "application/json"))
    assert told.kinds == {"other", "json"}
    assert plan().kinds == {"other"}


@pytest.mark.parametrize(
    ("parameter", "boundary"),
    [
        ("boundary=abc", b"abc"),
        ('charset=utf-8; Boundary = "a,b:c"', b"a,b:c"),
        ("boundary=abc; charset=utf-8", b"abc"),
        ("boundary=" + "b" * 70, b"b" * 70),
        ("charset=utf-8", b""),
    ],
)
def test_a_boundary_is_found_where_parsers_find_it(parameter, boundary):
    """Quoted or not; without one no parser reads the upload."""
    told = plan(("content-type", f"multipart/form-data; {parameter}"))
    assert (told.boundary, told.finding) == (boundary, None)


@pytest.mark.parametrize(
    "parameter",
    [
        "boundary=" + "b" * 71,
        "boundary=a; boundary=b",
        'boundary="a\\"b"',
        "boundary=",
        'boundary=""',
        'boundary=a"b',
    ],
)
def test_a_boundary_that_parsers_read_differently_is_none(parameter):
    """Whoever counts parts by another one than the application counts nothing."""
    told = plan(("content-type", f"multipart/form-data; {parameter}"))
    assert told.finding is not None
    assert told.finding.rule == "boundary"


@pytest.mark.parametrize(
    ("codings", "undone"),
    [
        ("gzip", ("gzip",)),
        ("GZIP", ("gzip",)),
        ("deflate, br", ("br", "deflate")),
        ("identity, gzip", ("gzip",)),
        ("aws-chunked", ()),
        ("gzip, aws-chunked", ()),
        ("aws-chunked, gzip", ("gzip",)),
        ("", ()),
    ],
)
def test_codings_are_undone_from_the_last_to_the_first_that_nobody_knows(codings, undone):
    """What is below one that cannot be undone cannot be seen."""
    told = plan(("content-encoding", codings))
    assert (told.codings, told.finding) == (undone, None)


def test_more_than_two_codings_are_refused_over_all_headers():
    """Two headers with one each are as one header with two."""
    assert plan(("content-encoding", "gzip"), ("content-encoding", "br")).finding is None
    told = plan(("content-encoding", "gzip, gzip"), ("content-encoding", "gzip"))
    assert told.finding is not None
    assert told.finding.rule == "codings"


@pytest.mark.parametrize(
    ("value", "length_bytes"),
    [(b"0", 0), (b" 17 ", 17), (b"000", 0), (b"0007", 7), (b"-1", 0), (b"x", 0), (b"", 0)],
)
def test_a_length_is_a_number(value, length_bytes):
    """What is none is the server's business."""
    assert promised_bytes(value) == length_bytes


def test_a_length_of_many_digits_is_more_than_any_limit():
    """And costs nothing to read."""
    assert promised_bytes(b"9" * 100_000) == 10**18
