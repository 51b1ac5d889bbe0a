"""What came from a client, made safe for where it goes."""

import json
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import parse_qs, unquote, urljoin, urlsplit

import pytest
from hypothesis import given, strategies as st

from shipworthy.web import (
    html_attribute,
    path_part,
    query_value,
    safe_next,
    sanitize_html,
    script_json,
)

HOSTS = ("shop.example", "*.pages.example", "2001:db8::1")


@pytest.mark.parametrize(
    "url",
    [
        "/",
        "/items?page=2#top",
        "/a//b",
        "/~ana/;x=1",
        "/next?to=https://evil.example",
        "/ü/。",
        "/%2f%2fevil.example",
        "https://shop.example",
        "HTTPS://SHOP.example:8443/x?y",
        "http://shop.example./",
        "https://a.b.pages.example/",
        "https://[2001:db8::1]/x",
        "https://shop.example?@evil.example",
        "https://shop.example#@evil.example",
    ],
)
def test_what_stays_on_this_site_is_followed(url):
    """A path, or a whole address of a host that was named."""
    assert safe_next(url, hosts=HOSTS) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "\t//evil.example",
        "/\n/evil.example",
        " /x",
        "/x ",
        "/\x00",
        "\x01//evil.example",
        "/\x7f",
        "https:evil.example",
        "https:/evil.example",
        "https:///evil.example",
        "http:\\\\evil.example",
        "https://evil.example",
        "javascript:alert(1)",
        "JavaScript://shop.example/%0aalert(1)",
        "data:text/html,x",
        "ftp://shop.example/",
        "https://shop.example@evil.example",
        "https://evil.example#@shop.example",
        "https://evil.example?shop.example",
        "https://shop.example:443@evil.example/",
        "https://user:pw@shop.example/",
        "https://shop.example.evil.example",
        "https://evilshop.example",
        "https://pages.example",
        "https://evilpages.example",
        "https://shop\u3002example",
        "https://shop\uff0eexample",
        "https://evil.example\uff0fshop.example",
        "https://\u2100shop.example",
        "https://shop.example\\@e",
        "https://shop.example:x/",
        "https://shop.example:99999/",
        "https://[::1",
        "https://[evil]/",
        "items",
        "?x=1",
        "#top",
        ".",
        "../x",
        "@evil.example",
        "/\ud800",
        "/" + "a" * 3000,
        "https://shop.example%2eevil.example/",
        "https://shop.example;evil.example/",
        "://shop.example",
    ],
)
def test_what_leads_elsewhere_or_might_is_not(url):
    """The default is followed in its place."""
    assert safe_next(url, hosts=HOSTS) == "/"
    assert safe_next(url, hosts=HOSTS, default="/home") == "/home"


def test_without_hosts_there_are_only_paths():
    """As most sites need it."""
    assert safe_next("https://shop.example/") == "/"
    assert safe_next("/x") == "/x"


@pytest.mark.slow
@given(st.text(alphabet="/\\:@?#.%htps evil-shop\t\n\u3002", max_size=24))
def test_whatever_is_followed_has_our_host_as_a_browser_reads_it(url):
    """A browser drops tabs and newlines, trims, and reads a backslash as a slash."""
    read = safe_next(url).strip().replace("\\", "/").replace("\t", "").replace("\n", "")

    assert urlsplit(urljoin("https://here.example/login", read)).netloc == "here.example"


class Tags(HTMLParser):
    """The tags and attributes that a page has."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.mark.parametrize(
    "html",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg onload=alert(1)>",
        "<a href='javascript:alert(1)'>x</a>",
        "<a href='&#106;avascript:alert(1)'>x</a>",
        "<a href=' java\nscript:alert(1)'>x</a>",
        "<iframe src=//evil.example></iframe>",
        "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
        "<form action=//e><input></form>",
        "<p style='position:fixed'>x</p>",
        "<object data=x></object>",
        "<base href=//evil.example>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
        "<meta http-equiv=refresh>",
        "<<script>script>alert(1)<</script>/script>",
        "<a href='data:text/html,x'>x</a>",
        "<style>@x</style>",
        "<svg><style><img src=x onerror=alert(1)></style></svg>",
        "<textarea><script>alert(1)",
    ],
)
def test_html_of_people_keeps_nothing_that_could_act(html):
    """No script, handler, style, form or frame, and no address but of the web and of mail."""
    for tag, attributes in Tags(sanitize_html(html)).found:
        assert tag in {"a", "img", "p"}
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert not attributes.get("href", "https:").lower().startswith(("javascript", "data"))


def test_html_of_people_keeps_its_text_structure_and_links():
    """Links lead out without telling where from; less can be asked for."""
    html = '<h2>Hi</h2><p>a <b>b</b> <a href="https://x.example">x</a> 1 < 2 & 3</p>'
    clean = sanitize_html(html)

    assert '<a href="https://x.example" rel="noopener noreferrer">x</a>' in clean
    assert clean.startswith("<h2>Hi</h2><p>a <b>b</b>")
    assert sanitize_html(html, tags={"b"}, attributes={}) == "Hia <b>b</b> x 1 &lt; 2 &amp; 3"


@pytest.mark.slow
@given(st.text())
def test_a_text_is_the_same_within_an_attribute(text):
    """In either kind of quotes, and it ends neither."""
    escaped = html_attribute(text)

    assert not {"<", ">", '"', "'"} & set(escaped)
    if "\r" not in text and "\x00" not in text:  # which HTML cannot hold
        ((_, attributes),) = Tags(f'<p title="{escaped}">').found
        assert attributes == {"title": text}


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=5,
    )
)
def test_a_value_is_the_same_within_a_script_and_never_ends_it(value):
    """No `</script>`, no `<!--`, no line ends that JavaScript knows and JSON does not."""
    written = script_json(value)

    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == value


@pytest.mark.slow
@given(st.text())
def test_a_text_is_one_value_of_a_query_and_one_part_of_a_path(text):
    """Whatever it holds; what would be another path is refused."""
    asked = urlsplit(f"https://x.example/a?q={query_value(text)}&r=1")
    assert parse_qs(asked.query, keep_blank_values=True) == {"q": [text], "r": ["1"]}
    if text in ("", ".", ".."):
        with pytest.raises(ValueError, match="another path"):
            path_part(text)
    else:
        path = urlsplit(urljoin("https://x.example/", f"/a/{path_part(text)}/b")).path
        assert [unquote(part) for part in path.split("/")] == ["", "a", text, "b"]


@pytest.mark.slow
def test_nobody_loads_the_sanitizer_who_does_not_sanitize():
    """It is loaded at the first use."""
    code = "import shipworthy.web, sys; sys.exit('nh3' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
