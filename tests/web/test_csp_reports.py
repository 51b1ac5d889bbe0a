"""What reports say, and what is remembered of them, whoever sends them."""

import pytest
from hypothesis import given, settings, strategies as st

from shipworthy.web.csp_reports import Learned, Violation, read_reports, together

OWN = "https://shop.example"


def old(directive="img-src", blocked="https://cdn.example/x.png?secret=1", page="/cart?id=7"):
    """A report as `report-uri` gets it."""
    return {
        "csp-report": {
            "document-uri": f"{OWN}{page}",
            "effective-directive": directive,
            "violated-directive": f"{directive} 'self'",
            "blocked-uri": blocked,
            "disposition": "report",
        }
    }


def new(directive="img-src", blocked="https://cdn.example/x.png", page="/cart"):
    """A report as `report-to` gets it."""
    return {
        "type": "csp-violation",
        "body": {
            "documentURL": f"{OWN}{page}",
            "effectiveDirective": directive,
            "blockedURL": blocked,
        },
    }


def read(document):
    return list(read_reports(document, own=OWN))


def test_both_forms_say_the_same():
    """The directive, the origin, and the path: no query, no fragment, nothing that is secret."""
    expected = Violation("img-src", "https://cdn.example", "/cart")
    assert read(old()) == [expected]
    assert read([new(), {"type": "deprecation", "body": {}}, new()]) == [
        expected,
        "unreadable",
        expected,
    ]


def test_an_old_browser_names_the_whole_directive():
    """Only its name counts."""
    report = old()
    del report["csp-report"]["effective-directive"]
    report["csp-report"]["violated-directive"] = "Script-Src 'self' https://a.example"
    assert read(report) == [Violation("script-src", "https://cdn.example", "/cart")]


@pytest.mark.parametrize(
    ("blocked", "source"),
    [
        ("inline", "inline"),
        ("eval", "eval"),
        ("wasm-eval", "eval"),
        ("data", "data:"),
        ("data:image/png;base64,AAAA", "data:"),
        ("blob:https://shop.example/1-2", "blob:"),
        ("BLOB", "blob:"),
        ("wss://chat.example:8443/x", "wss://chat.example:8443"),
        ("https://CDN.example:443/x", "https://cdn.example"),
        ("https://shop.example/x.js", "'self'"),
        ("http://shop.example/x.js", "'self'"),
    ],
)
def test_a_source_is_a_word_of_a_few_or_an_origin(blocked, source):
    """In the one way to write it."""
    ((_, found, _),) = read(old(blocked=blocked))
    assert found == source


@pytest.mark.parametrize(
    "blocked",
    [
        "chrome-extension://abc/x.js",
        "moz-extension://a/b",
        "about:blank",
        "",
        "self",
        "https://[x/",
    ],
)
def test_what_is_of_a_browser_s_own_says_nothing_of_the_service(blocked):
    """Extensions put scripts into every page, and Chromium reports them."""
    assert read(old(blocked=blocked)) == ["noise"]


def test_the_page_of_somebody_else_is_noise_whatever_it_reports():
    """A report that a page of another host caused, or that says so."""
    report = old()
    report["csp-report"]["document-uri"] = "https://evil.example/cart"
    assert read(report) == ["noise"]


def test_behind_a_proxy_that_ends_tls_the_page_is_ours_all_the_same():
    """It says https, and we were asked by http."""
    assert list(read_reports(old(), own="http://shop.example")) == [
        Violation("img-src", "https://cdn.example", "/cart")
    ]


def test_who_shows_a_page_in_a_frame_is_kept_secret_by_browsers():
    """Chromium names the page itself, and that is no reason to allow it."""
    report = old("frame-ancestors", f"{OWN}/")
    assert read(report) == [Violation("frame-ancestors", "frame", "/cart")]
    named = old("frame-ancestors", "https://portal.example/")
    assert read(named) == [Violation("frame-ancestors", "https://portal.example", "/cart")]


@pytest.mark.parametrize(
    "document",
    [
        None,
        3,
        "text",
        {},
        {"csp-report": []},
        {"csp-report": {}},
        [7],
        [{"type": "csp-violation"}],
        old(directive="no-such-src"),
        old(directive="script-src\n; script-src *"),
        old(blocked=7),
        old(blocked="https://" + "a" * 3000),
        {"csp-report": {**old()["csp-report"], "document-uri": "about:srcdoc"}},
        {"csp-report": {**old()["csp-report"], "document-uri": "https://[x"}},
    ],
)
def test_what_is_no_report_is_unreadable(document):
    """And raises nothing."""
    assert read(document) == ["unreadable"]


def test_of_a_body_without_end_so_many_reports_are_read():
    """A body of 64 KiB could hold hundreds."""
    assert len(read([new()] * 500)) == 20


WORDS = st.sampled_from(["csp-report", "type", "body", "blocked-uri", "document-uri", "inline"])


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.integers() | WORDS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
        max_leaves=12,
    )
)
def test_no_document_raises(document):
    """Whatever JSON can say."""
    for found in read(document):
        assert isinstance(found, (Violation, str))


def learned(kept=10):
    return Learned(
        kept=kept, route_of=lambda path: "/cart/{id}" if "cart" in path else "_unmatched"
    )


def test_what_is_seen_again_is_counted_and_not_kept_twice():
    """By directive, source and route; clients are told apart up to eight."""
    memory = learned()
    outcomes = [
        memory.learn(Violation("img-src", "https://cdn.example", f"/cart/{number}"), number)
        for number in range(12)
    ]
    memory.learn(Violation("img-src", "https://cdn.example", "/x"), 1)

    assert outcomes == ["new"] + ["known"] * 11
    first, second = memory.sightings()
    assert (first.route, first.reports, first.clients) == ("/cart/{id}", 12, 8)
    assert (second.route, second.reports, second.clients) == ("_unmatched", 1, 1)


def test_a_flood_of_lies_pushes_out_its_own_and_takes_no_memory():
    """What was seen twice outlives ten thousand that were seen once."""
    memory = learned(kept=50)
    for _ in range(2):
        memory.learn(Violation("img-src", "https://cdn.example", "/cart/1"), 1)
    for number in range(10_000):
        memory.learn(Violation("img-src", f"https://{number}.evil.example", "/"), 2)

    sightings = memory.sightings()
    assert len(sightings) == 50
    assert sightings[0].source == "https://cdn.example"
    assert memory.forgotten == 10_001 - 50


def test_what_several_workers_saw_is_one():
    """Reports are added up; the same client may have met more than one of them."""
    one, two = learned(), learned()
    for memory, times in ((one, 2), (two, 3)):
        for client in range(times):
            memory.learn(Violation("img-src", "https://cdn.example", "/cart/1"), client)
    two.learn(Violation("font-src", "https://font.example", "/cart/1"), 1)

    seen = together(iter([*one.sightings(), *two.sightings()]))

    assert [(found.source, found.reports, found.clients) for found in seen] == [
        ("https://cdn.example", 5, 3),
        ("https://font.example", 1, 1),
    ]
