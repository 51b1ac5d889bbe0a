"""What a context says, from what is known."""

from hypothesis import given, strategies as st

from shipworthy.audit.attribution import Purpose, clean, context_for
from shipworthy.audit.cells import write_context
from shipworthy.context import Actor, RequestRecord


def of(purpose, continues=""):
    return context_for(purpose, service="shop", tx="0" * 32, at_microseconds=5, continues=continues)


def test_a_context_says_who_acts_and_where_it_came_from():
    """The request's ids, its route and address are with it."""
    request = RequestRecord("r" * 8, "c" * 8, "t" * 32, "s" * 16, client="10.0.0.7")
    request.route = "/notes/{id}"

    context = of(Purpose(actor=Actor("ana", "user", "ben"), request=request, note="n"), "1" * 32)

    assert (context.actor, context.actor_kind, context.on_behalf_of) == ("ana", "user", "ben")
    assert (context.correlation_id, context.trace_id) == ("c" * 8, "t" * 32)
    assert (context.route, context.address) == ("/notes/{id}", "10.0.0.7")
    assert (context.application, context.note, context.continues) == ("shop", "n", "1" * 32)


def test_nobody_is_the_service():
    """Also one whose name has nothing to be read."""
    assert (of(Purpose(actor=None)).actor, of(Purpose(actor=None)).actor_kind) == (
        "service:shop",
        "service",
    )
    assert of(Purpose(actor=Actor("\n\x00"))).actor == "service:shop"


@given(st.text(st.characters(), max_size=400), st.integers(1, 50))
def test_no_text_breaks_a_line_or_a_column(text, characters):
    """Whatever a client sends."""
    cleaned = clean(text, characters)

    assert len(cleaned) <= characters
    assert all(letter.isprintable() or letter not in "\r\n\t\x00\x1b\u2028" for letter in cleaned)
    cleaned.encode()


@given(st.text(max_size=50), st.text(max_size=50))
def test_what_the_triggers_get_begins_with_the_name_of_the_transaction(name, note):
    """They read it by its place: to parse JSON for every row would cost ten times more."""
    written = write_context(of(Purpose(actor=Actor(name), note=note)))

    assert written.startswith('{"tx":"' + "0" * 32 + '"')
