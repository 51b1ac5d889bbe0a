"""The index page: what runs, how it is, and what the port answers. No script, nothing from outside.

Everything is escaped by the template engine, because targets, reasons and stack places are texts
that others wrote.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from shipworthy.operations.actions import ActionFacts
from shipworthy.operations.endpoint import Endpoint
from shipworthy.operations.facts import ServiceFacts
from shipworthy.operations.health import Status, checks_of, judge_status, pools_of, standing
from shipworthy.redact import redact

if TYPE_CHECKING:
    from jinja2 import Template

_HERE = Path(__file__).parent


def index_page(
    facts: ServiceFacts,
    endpoints: Sequence[Endpoint],
    *,
    actions: Sequence[ActionFacts] = (),
    here: str = "",
    now_wall: float,
    detailed: bool,
) -> str:
    """Return the page; without `detailed` it says whether the service is ready, and no more.

    `here` is the address of this port, for the commands that start and stop `actions`.
    """
    status = judge_status(facts)
    return _template().render(
        actions=actions,
        answers=(("Live", facts.live), ("Ready", facts.ready), ("Started", facts.startup)),
        checks=[(worker.pid, check) for worker in facts.workers for check in checks_of(worker)],
        databases=[(worker.pid, pool) for worker in facts.workers for pool in pools_of(worker)],
        detailed=detailed,
        endpoints=endpoints,
        facts=facts,
        here=here,
        now_wall=now_wall,
        reason=(facts.ready if facts.live.ok else facts.live).because,
        status=status,
        verdict=_verdict(facts, status),
    )


@cache
def stylesheet() -> bytes:
    """Return the style sheet of the page."""
    return (_HERE / "style.css").read_bytes()


def age(seconds: float) -> str:
    """Return a length for people, in its two largest units: `41 s`, `3 min 20 s`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{max(0.0, seconds):.1f} s" if seconds < 9.95 else f"{whole} s"
    parts: list[str] = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, length)
        if count or parts:
            parts.append(f"{count} {unit}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))


def _verdict(facts: ServiceFacts, status: Status) -> str:
    if status == "fail":
        return "Not ready" if facts.live.ok else "Not live"
    return "Ready" if status == "pass" else "Ready, with warnings"


def _instant(wall: float) -> str:
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%d %H:%M:%S} UTC"


@cache
def _template() -> "Template":
    # Here and not above: the supervisor starts 30 ms sooner, and few starts are looked at.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "age": age,
        "instant": _instant,
        "mebibytes": lambda count: f"{count / 2**20:.1f} MiB",
        "redact": redact,
    }
    environment.filters["standing"] = standing
    return environment.get_template("index.html")
