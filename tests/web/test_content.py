"""What an answer holds, as far as browsers treat it differently."""

import pytest

from shipworthy.web import content as module
from shipworthy.web.content import Content, content_of, kind_of


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (b"text/html; charset=utf-8", Content.PAGE),
        (b"Application/XHTML+XML", Content.PAGE),
        (b"application/json", Content.DATA),
        (b"application/problem+json", Content.DATA),
        (b"text/css", Content.PART),
        (b"text/javascript; charset=utf-8", Content.PART),
        (b"image/png", Content.OTHER),
        (b"text/plain", Content.OTHER),
        (b"", Content.NONE),
        (b"; charset=utf-8", Content.NONE),
    ],
)
def test_the_kind_is_told_by_the_type_alone(said, kind):
    """Parameters and upper case change nothing."""
    assert content_of([(b"x-content-x", b"text/html"), (b"Content-Type", said)]) is kind


def test_without_a_type_there_is_none():
    """A redirect, or 204."""
    assert content_of([(b"location", b"/x")]) is Content.NONE


def test_types_without_end_take_no_memory_without_end(monkeypatch):
    """Who makes a type for each answer, such as a boundary, pays for each."""
    monkeypatch.setattr(module, "_known", {})
    for number in range(500):
        assert kind_of(b"multipart/mixed; boundary=%d" % number) is Content.OTHER
    assert len(module._known) == 100
