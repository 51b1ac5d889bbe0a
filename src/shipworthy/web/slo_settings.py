"""What is promised of requests, and when somebody is called about it: section [slo]."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from shipworthy.errors import UnitInvalid
from shipworthy.events import (
    BURN_RULES,
    BurnRules,
    BurnWindow,
    Slo,
    Urgency,
    burn_problems,
    must_be_bucket,
)
from shipworthy.settings import duration, option, section
from shipworthy.units import parse_duration
from shipworthy.web.request_metrics import DURATION
from shipworthy.web.shown import availability, latency

_DAY_SECONDS: Final = 86_400.0
_WINDOW: Final = re.compile(r"\s*([0-9.]+)\s*%\s+in\s+(\S+)\s+and\s+(\S+)\s*")
# Prometheus is told to keep less, and nobody remembers what was promised longer ago.
_PERIOD_MOST: Final = "92d"


@section("slo")
@dataclass(frozen=True, slots=True, kw_only=True)
class SloSettings:
    """Which share of the requests is to be answered well, and how fast it may be missed."""

    availability_ratio: float = option(
        0.999,
        "the share of requests that are to be answered with a status below 500; 0: no such "
        "objective",
    )
    latency_ratio: float = option(
        0.99, "the share of requests that are to be answered in time; 0: no such objective"
    )
    latency_seconds: float = duration(
        "500ms", "what in time means; one of the buckets of http_server_request_duration_seconds"
    )
    period_seconds: float = duration(
        "30d",
        "over how long the shares count: the budget of failures is for so long",
        minimum="1d",
        maximum=_PERIOD_MOST,
    )
    page: tuple[str, ...] = option(
        ("2% in 1h and 5m", "5% in 6h and 30m"),
        "who is woken when: so much of the budget was spent in the first time, and is being spent "
        "as fast in the second",
    )
    ticket: tuple[str, ...] = option(
        ("10% in 1d and 2h", "10% in 3d and 6h"),
        "what is looked at in working hours; the same forms",
    )
    failures_least: int = option(
        BURN_RULES.failures_least,
        "failures there have to be in the first time, so that one in a quiet night wakes nobody",
        minimum=1,
    )

    def refusals(self, environment: str) -> list[str]:
        """Return what no alert could come of, each with what to write instead."""
        del environment
        return list(self._problems())

    def objectives(self) -> tuple[Slo, ...]:
        """Return the objectives that these settings ask for; there is nothing to refuse in them."""
        rules, days = self._rules(), self.period_seconds / _DAY_SECONDS
        found = []
        if self.availability_ratio:
            found.append(availability(self.availability_ratio, days, rules))
        if self.latency_ratio:
            found.append(latency(self.latency_ratio, self.latency_seconds, days, rules))
        return tuple(found)

    def _problems(self) -> Iterator[str]:
        try:
            rules = self._rules()
        except UnitInvalid as error:
            yield str(error)
            return
        days = self.period_seconds / _DAY_SECONDS
        ratios = {
            "availability_ratio": self.availability_ratio,
            "latency_ratio": self.latency_ratio,
        }
        for name, ratio in ratios.items():
            if ratio:
                yield from (f"slo.{name}: {told}" for told in burn_problems(ratio, days, rules))
        if self.latency_ratio:
            try:
                must_be_bucket(DURATION, self.latency_seconds)
            except ValueError as error:
                yield f"slo.latency: {error}"

    def _rules(self) -> BurnRules:
        return BurnRules(
            windows=(
                *(_window("page", text, Urgency.PAGE) for text in self.page),
                *(_window("ticket", text, Urgency.TICKET) for text in self.ticket),
            ),
            failures_least=self.failures_least,
        )


def _window(key: str, text: str, urgency: Urgency) -> BurnWindow:
    found = _WINDOW.fullmatch(text)
    if found is None:
        raise UnitInvalid(
            f"slo.{key}: '{text}' is no window; write a share of the budget and two times, as "
            "'2% in 1h and 5m'"
        )
    share, long, short = found.groups()
    return BurnWindow(float(share) / 100, parse_duration(long), parse_duration(short), urgency)
