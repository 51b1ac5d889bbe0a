"""What is too much inside of a body is found whatever its parts, and nothing else is."""

import json
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from shipworthy.web.body_scan import FieldScanner, JsonScanner, PartScanner

CUTS = st.lists(st.integers(0, 400), max_size=8)


def parts_of(body, cuts):
    """The body in parts, cut at these places."""
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    return [body[start:end] for start, end in pairwise(places)]


def found_in(scanner, parts):
    """The first rule that a scanner finds broken, None without one."""
    for part in parts:
        finding = scanner.feed(part)
        if finding is not None:
            return finding.rule
    return None


# What stands in a JSON text: strings with everything that could be taken for something else.
STRINGS = st.text(st.sampled_from('a1[]{}"\\/\né∀嬀\u2028😀'), max_size=12).map(
    json.dumps
) | st.text(st.sampled_from("[]{}1∀嬀"), max_size=12).map(
    lambda text: json.dumps(text, ensure_ascii=False)
)
TOKENS = st.lists(
    STRINGS | st.sampled_from(["[", "{", "]", "}", ",", " ", "12", "7777", ":"]), max_size=60
)


def told_by_hand(text, *, depth, digits):
    """What a reader of single characters says of a JSON text."""
    level = run = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
            continue
        run = run + 1 if character in "0123456789" else 0
        if run > digits:
            return True
        if character == '"':
            in_string = True
        elif character in "[{":
            level += 1
            if level > depth:
                return True
        elif character in "]}":
            level -= 1
    return False


def without_ends_too_many(tokens):
    level, kept = 0, []
    for token in tokens:
        level += (token in "[{") - (token in "]}")
        if level < 0:
            level = 0
        else:
            kept.append(token)
    return "".join(kept)


@settings(max_examples=120)
@given(TOKENS, CUTS, st.integers(1, 8), st.integers(4, 9), st.sampled_from(["utf-8", "utf-16-le"]))
def test_json_is_judged_as_by_hand_however_it_was_cut(tokens, cuts, depth, digits, encoding):
    """Strings, escapes and runs of digits go over the borders of parts; so do brackets."""
    text = '[""' + without_ends_too_many(tokens)  # so that the encoding can be told
    scanner = JsonScanner(depth=depth, digits=digits)
    found = found_in(scanner, parts_of(text.encode(encoding), cuts))
    assert (found is not None) == told_by_hand(text, depth=depth, digits=digits)


@pytest.mark.parametrize("wide", [1, 3000])
@pytest.mark.parametrize("deep", [999, 1000, 1001])
def test_depth_is_counted_to_the_level_with_much_beside_it(wide, deep):
    """Whether a part is looked at in whole pieces or bracket by bracket makes no difference."""
    inner = b'{"a":[],"b":{}}' * wide
    body = b"[" * (deep - 2) + inner + b"]" * (deep - 2)
    for size in (7, 16 * 1024):
        scanner = JsonScanner(depth=1000, digits=4300)
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        assert found_in(scanner, parts) == ("json-depth" if deep > 1000 else None)


@pytest.mark.parametrize("length", [4300, 4301])
@pytest.mark.parametrize("before", [b"[1.5,", b'["' + b"9" * 9000 + b'",', b"[" + b"1," * 5000])
def test_a_number_may_have_so_many_digits_and_a_string_any(length, before):
    """A long run of digits in a string is no number, wherever parts were cut."""
    body = before + b"7" * length + b"]"
    for size in (1, 1000, 4300, 16 * 1024):
        scanner = JsonScanner(depth=1000, digits=4300)
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        assert found_in(scanner, parts) == ("json-digits" if length > 4300 else None)


def test_a_part_may_lie_within_one_string():
    """Its brackets are no levels, and the string ends where it ends."""
    assert found_in(JsonScanner(depth=2, digits=20), [b'[["a', b"[[[[", b'b"', b"]]"]) is None
    assert (
        found_in(JsonScanner(depth=2, digits=20), [b'[["a', b"[[[[", b'b"', b"["]) == "json-depth"
    )


def test_json_that_is_none_is_left_to_the_parser():
    """More ends than beginnings, an open string, nothing at all: that is no bomb."""
    for body in (b"", b"]]]]", b'"', b"[1", b"\\", b'{"a"', b"\xff\xfe", b"nul"):
        assert found_in(JsonScanner(depth=2, digits=20), [body, body]) is None


@settings(max_examples=50)
@given(st.binary(max_size=200), CUTS)
def test_no_bytes_break_a_scanner(body, cuts):
    """Whatever comes, it is judged, and the same whatever the cuts."""
    for make in (
        lambda: JsonScanner(depth=3, digits=20),
        lambda: FieldScanner(fields=3),
        lambda: PartScanner(b"b", parts=2, head_bytes=9),
    ):
        found_in(make(), parts_of(body, cuts))


@settings(max_examples=50)
@given(st.lists(st.sampled_from(["a=1", "", "b=%26", ";"]), max_size=9), CUTS)
def test_fields_are_counted_by_what_parts_them(fields, cuts):
    """An encoded & belongs to a value."""
    body = "&".join(fields).encode()
    found = found_in(FieldScanner(fields=4), parts_of(body, cuts))
    assert (found == "fields") == (len(fields) > 4)


def told_of_parts(body, *, parts, head_bytes):
    """What a reader that has the whole upload says of it."""
    begin = re.compile(rb"(?:^|(?<=[\r\n]))--XX(?=..)", re.DOTALL)
    head_end = re.compile(rb"\r\n\r\n|\n\r?\n|\r\r")
    seen = at = 0
    while (found := begin.search(body, at)) is not None:
        at = found.end()
        if body.startswith(b"--", at):
            continue
        seen += 1
        if seen > parts:
            return "parts"
        end = head_end.search(body, at)
        until = end.start() if end else max(at, len(body) - 3)
        if until - at > head_bytes:
            return "part-head"
        if end is None:
            return None
        at = end.end()
    return None


UPLOAD = st.lists(
    st.sampled_from(
        [b"--XX", b"--XX--", b"\r\n", b"\n", b"\r", b"--", b"X", b"a: b", b"\r\n\r\n", b"--X"]
    ),
    max_size=40,
).map(b"".join)


@settings(max_examples=120)
@given(UPLOAD, CUTS, st.integers(1, 4), st.integers(0, 12))
def test_uploads_are_judged_as_a_whole_however_they_were_cut(body, cuts, parts, head_bytes):
    """Boundaries, ends of heads and ends of lines go over the borders of parts."""
    scanner = PartScanner(b"XX", parts=parts, head_bytes=head_bytes)
    told = told_of_parts(body, parts=parts, head_bytes=head_bytes)
    assert found_in(scanner, parts_of(body, cuts)) == told


def upload(parts, head=b'Content-Disposition: form-data; name="a"', content=b"x"):
    one = b"--XX\r\n" + head + b"\r\n\r\n" + content + b"\r\n"
    return one * parts + b"--XX--\r\n"


def test_an_upload_of_so_many_parts_passes_and_one_more_does_not():
    """The delimiter at the end is no part, and what looks like one within a line is content."""
    assert found_in(PartScanner(b"XX", parts=1000, head_bytes=100), [upload(1000)]) is None
    assert found_in(PartScanner(b"XX", parts=1000, head_bytes=100), [upload(1001)]) == "parts"
    content = b"not --XX at the beginning " * 50
    assert (
        found_in(PartScanner(b"XX", parts=2, head_bytes=100), [upload(2, content=content)]) is None
    )
