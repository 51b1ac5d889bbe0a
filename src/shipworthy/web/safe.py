"""What came from a client, made safe for where it goes: a redirect, a page, a script, a link.

Templates that escape by themselves (Jinja2, Django) need none of it for text. They know no safe
redirect, no HTML that people wrote, and no data within a script.

Not here: what a browser is told to do with a page (its headers), and whether a request is one's own
page's (CSRF).
"""

import re
from collections.abc import Iterable
from html import escape
from typing import Any, Final
from urllib.parse import quote, urlsplit

import orjson

from shipworthy.web.authority import host_of
from shipworthy.web.host_settings import named

# Far longer than any address of a page, and no work for who sends a megabyte.
URL_CHARACTERS: Final = 2048
# Controls and spaces, which browsers drop before they read, the backslash, which they read as a
# slash, and what no text can be sent with.
_NEVER: Final = re.compile(r"[\x00-\x20\x7f-\x9f\\\ud800-\udfff]")
_IN_SCRIPT: Final = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)


def safe_next(url: str, *, hosts: Iterable[str] = (), default: str = "/") -> str:
    """Return `url` where a redirect to it stays on this site, or on one of `hosts`; else `default`.

    On this site is a path with its query; a path must begin with one slash. Of `hosts` it is http
    or https, without user and password: shop.example, or *.shop.example for all below it.
    """
    return url if _leads_home(url, hosts) else default


def _leads_home(url: str, hosts: Iterable[str]) -> bool:
    # Judged as it is: what would have to be repaired first was written to be misread.
    if not url or len(url) > URL_CHARACTERS or _NEVER.search(url):
        return False
    if url.startswith("/"):
        return not url.startswith("//")
    if not url.lower().startswith(("http://", "https://")):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if "@" in parts.netloc or not parts.netloc.isascii():
        return False
    host = host_of(parts.netloc.encode())
    return host is not None and any(_is_one(host, allowed) for allowed in hosts)


def _is_one(host: str, allowed: str) -> bool:
    if allowed.startswith("*."):
        return host.endswith(f".{named(allowed[2:])}")
    return host == named(allowed)


def sanitize_html(
    html: str,
    *,
    tags: set[str] | None = None,
    attributes: dict[str, set[str]] | None = None,
) -> str:
    """Return HTML that people wrote without what could act: scripts, handlers, forms, styles.

    `tags` and `attributes` (those of a tag by its name, of every tag under `*`) are what stays,
    by default text with its structure, links and images. Links get `rel="noopener noreferrer"`,
    and lead to http, https and mail alone.
    """
    # Where nobody sanitizes it is not loaded.
    import nh3

    return nh3.clean(
        html,
        tags=tags,
        attributes=attributes,
        url_schemes={"http", "https", "mailto"},
    )


def html_attribute(value: object) -> str:
    """Return a text for an attribute in quotes, or between tags: five characters are escaped."""
    return escape(str(value), quote=True)


def script_json(value: Any) -> str:
    """Return a value as JSON that may stand within a `<script>`, and is the same value there.

    No text in it can end the script, begin a comment, or be no JavaScript.
    """
    return orjson.dumps(value).decode().translate(_IN_SCRIPT)


def query_value(value: object) -> str:
    """Return a text as one name or value of a query: no character in it ends the value."""
    return quote(str(value), safe="")


def path_part(value: object) -> str:
    """Return a text as one part of a path: a slash in it is no slash.

    Raises `ValueError` for nothing and for one or two dots, which mean another path however they
    are written.
    """
    text = str(value)
    if text in ("", ".", ".."):
        raise ValueError(f"'{text}' cannot be a part of a path: it would be another path")
    return quote(text, safe="")
