"""The settings of the line of guards: section `web`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shipworthy.settings import Loaded, option, section

_PATH = re.compile(r"/[^\s?#]*")


@section("web")
@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """What stands between the server and the application."""

    access_log: bool = option(default=True, help="whether each request writes a line")
    problems: Literal["off", "report", "enforce"] = option(
        "enforce",
        "answer unhandled exceptions with an RFC 9457 problem; report only logs them, off does "
        "not look at the application's answers either",
    )
    live_path: str = option("/livez", "the path of the liveness probe, empty for none")
    ready_path: str = option("/readyz", "the path of the readiness probe, empty for none")
    startup_path: str = option("/startupz", "the path of the start-up probe, empty for none")
    # Django's and Flask's developers count on some ten; 40 is what Starlette gives sync routes.
    wsgi_threads: int = option(
        40, "how many requests of a WSGI application are worked on at once", minimum=1, maximum=1000
    )

    def refusals(self, environment: str) -> list[str]:
        """Return what cannot be a path; no request would ever have it, in any environment."""
        del environment
        paths = {
            "live_path": self.live_path,
            "ready_path": self.ready_path,
            "startup_path": self.startup_path,
        }
        return [
            f"web.{name}: '{path}' is no path; begin it with a slash and leave out ? and #"
            for name, path in paths.items()
            if path and not _PATH.fullmatch(path)
        ]


def guards(settings: Loaded) -> Sequence[tuple[str, str]]:
    """Return the guards an application gets, in their order, each with its mode."""
    web = settings.of(WebSettings)
    probes = "enforce" if web.live_path or web.ready_path or web.startup_path else "off"
    return (
        ("ids", "enforce"),
        ("metrics", "enforce"),
        ("access line", "enforce" if web.access_log else "off"),
        ("probes", probes),
        ("drain", "enforce"),
        ("problems", web.problems),
    )
