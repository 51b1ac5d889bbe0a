"""The settings of the guard of request bodies: section `body`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from shipworthy.errors import UnitInvalid
from shipworthy.settings import option, section, size
from shipworthy.units import parse_size

_ROUTE: Final = re.compile(r"(?:([A-Z]+|\*) +)?(/[^\s?#]*) *= *(\S+(?: [A-Za-z]+)?)")
_PARAMETER: Final = re.compile(r"\{[^{}/:]+(:path)?\}")
# Each is looked at for each request with a body, until one fits.
ROUTES_MAX: Final = 100


class RouteSize(NamedTuple):
    """What bodies of the requests may have whose path is like `path`; `method` '' is any."""

    method: str
    path: re.Pattern[str]
    limit_bytes: int


@section("body")
@dataclass(frozen=True, slots=True, kw_only=True)
class BodySettings:
    """What the body of a request may be; what is more is refused before the application has it."""

    mode: Literal["off", "report", "enforce"] = option(
        "enforce", "refuse bodies that are more than the settings below; report only tells of them"
    )
    json_bytes: int = size(
        "8MiB", "the size of a body of JSON, which is parsed in memory as a whole", minimum="1KiB"
    )
    form_bytes: int = size(
        "8MiB",
        "the size of a form (urlencoded), which is kept in memory as a whole",
        minimum="1KiB",
    )
    other_bytes: int = size(
        "1GiB",
        "the size of any other body; uploads (multipart) are one, their files go to disk",
        minimum="1KiB",
    )
    routes: tuple[str, ...] = option(
        (),
        "sizes of single routes, each as in 'POST /uploads/* = 5GiB' or '/items/{id} = 64KiB'; the "
        "first that fits counts, whatever the body is",
    )
    decoded_bytes: int = size(
        "64MiB",
        "what a compressed body (gzip, deflate, br, zstd) may become, or the size of its route "
        "where that is more",
        minimum="1MiB",
    )
    # Text and JSON are packed 3 to 20 times, rarely 100; deflate can reach 1,032, the others more.
    ratio: int = option(
        200,
        "how many times its size a compressed body may become, from 1 MiB on",
        minimum=2,
        maximum=100_000,
    )
    # Python's own parser gives up at about 1,000, by default, with an error that few expect.
    json_depth: int = option(1000, "how deep JSON may be nested", minimum=10, maximum=1_000_000)
    # As many as Python turns into a whole number (sys.int_info.default_max_str_digits).
    json_digits: int = option(
        4300, "how many digits a number of JSON may have in a row", minimum=20, maximum=10_000_000
    )
    fields: int = option(
        1000, "how many fields a form (urlencoded) may have", minimum=1, maximum=10_000_000
    )
    parts: int = option(
        1000,
        "how many parts an upload (multipart/form-data) may have",
        minimum=1,
        maximum=10_000_000,
    )
    part_head_bytes: int = size(
        "8KiB", "the size of the head of a part, with all its names", minimum="256B", maximum="1MiB"
    )

    def refusals(self, environment: str) -> list[str]:
        """Return what is no size of a route, or never has an effect, in any environment."""
        del environment
        return list(_no_routes(self.routes))

    def sizes(self) -> list[RouteSize]:
        """Return the sizes of single routes. Raises `ValueError` where `refusals` are."""
        return [_route_size(text) for text in self.routes]


def _no_routes(routes: Sequence[str]) -> Iterator[str]:
    if len(routes) > ROUTES_MAX:
        yield (
            f"body.routes: {len(routes)} sizes, and each request with a body looks at them; "
            f"{ROUTES_MAX} at most, so put some together with /*"
        )
    seen: dict[str, str] = {}
    for text in routes:
        try:
            method, path, _ = _parts(text)
        except ValueError as error:
            yield f"body.routes: {error}"
            continue
        # What comes later under the same path, or below one that has all of it, has no effect.
        for key in (f"* {path}", f"{method} {path}"):
            if key in seen:
                yield f"body.routes: '{text}' has no effect, because '{seen[key]}' comes before it"
                break
        seen.setdefault(f"{method} {path}", text)


def _parts(text: str) -> tuple[str, str, int]:
    found = _ROUTE.fullmatch(text.strip())
    if found is None:
        raise ValueError(
            f"'{text}' is no size of a route; write a method (or none), a path and a size, as in "
            f"'POST /uploads/* = 5GiB'"
        )
    method, path, limit = found.groups()
    try:
        limit_bytes = parse_size(limit)
    except UnitInvalid as error:
        raise ValueError(f"'{text}': {error}") from None
    if "*" in path[:-1] or "{" in _PARAMETER.sub("", path) or "}" in _PARAMETER.sub("", path):
        raise ValueError(
            f"'{text}': a path may end with *, and has its parameters as {{name}}; nothing else "
            f"stands for others"
        )
    return method or "*", path, limit_bytes


def _route_size(text: str) -> RouteSize:
    method, path, limit_bytes = _parts(text)
    pattern = ""
    end = 0
    for found in _PARAMETER.finditer(path.removesuffix("*")):
        pattern += re.escape(path[end : found.start()]) + (".+" if found[1] else "[^/]+")
        end = found.end()
    pattern += re.escape(path.removesuffix("*")[end:]) + (".*" if path.endswith("*") else "")
    return RouteSize("" if method == "*" else method, re.compile(pattern, re.DOTALL), limit_bytes)
