"""Settings: a file, the environment and secret files, read into frozen dataclasses.

A room registers its section as a dataclass with `@section("serve")`; `load()` reads every section
at once, reports every problem with its place, and can say of each value where it came from.

Not here: what a setting means. It lives beside the room that reads it, and where `harden` and the
command line load them is decided in `assembly` and `cli`.
"""

from shipworthy.settings.convert import nearest
from shipworthy.settings.declare import (
    ENVIRONMENTS,
    Environment,
    Option,
    Secret,
    duration,
    option,
    options_of,
    secret,
    section,
    sections,
    size,
    tables,
)
from shipworthy.settings.load import Loaded, ShownValue, load

__all__ = [
    "ENVIRONMENTS",
    "Environment",
    "Loaded",
    "Option",
    "Secret",
    "ShownValue",
    "duration",
    "load",
    "nearest",
    "option",
    "options_of",
    "secret",
    "section",
    "sections",
    "size",
    "tables",
]
