"""The settings of the log: section `log`."""

from dataclasses import dataclass
from typing import Literal

from shipworthy.settings import option, section


@section("log")
@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged, and for whom the lines are written."""

    level: Literal["debug", "info", "warning", "error"] = option(
        "info", "the quietest level that is written"
    )
    format: Literal["auto", "json", "text"] = option(
        "auto", "json for programs, text for people; auto is text on a terminal"
    )
