"""Write the pages under docs/reference/ that say what the code says: settings, commands, events.

The same functions tell the tests of the documents which keys, commands, events and metrics exist.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer.main

import shipworthy
from shipworthy.deploy.promql import promql
from shipworthy.events import Catalogue, Domain, Metric, OneOf, declared, metrics_of
from shipworthy.serve import service_catalogue
from shipworthy.settings import ENVIRONMENTS, load, options_of, sections
from shipworthy.settings.convert import shown
from shipworthy.settings.declare import Option

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
_NOTE = "<!-- Written by scripts/reference.py; run `make fix` after a change of the code. -->\n"


def settings_page() -> str:
    """Return the page of every setting, by section."""
    _import_rooms()
    parts = [
        "# Settings\n",
        _NOTE,
        (
            "How they are written and which place wins is in the page on the settings file; "
            "`shipworthy config show` prints what is in force, and where each value came from.\n"
        ),
    ]
    for section in sorted(sections(), key=lambda section: options_of(section)[0].key):
        name = options_of(section)[0].key.partition(".")[0]
        parts.append(f"## {name}\n\n{_sentence(section)}\n")
        parts.append("| key | accepts | default | meaning |\n|---|---|---|---|")
        parts += [_setting_row(option) for option in _written(section)]
        parts.append("")
    return "\n".join(parts)


def commands_page() -> str:
    """Return the page of every command with its arguments and options."""
    parts = ["# Commands\n", _NOTE]
    for name, command in _commands():
        if name and command.get("group"):
            continue
        parts.append(f"## `{f'shipworthy {name}'.strip()}`\n")
        parts.append(f"{command['help']}\n")
        parts += [f"```console\n$ {line}\n```\n" for line in command["examples"]]
        if command["options"]:
            parts.append("| option | meaning |\n|---|---|")
            parts += [f"| {', '.join(f'`{n}`' for n in names)} | {_cell(text)} |"
                      for names, text in command["options"]]  # fmt: skip
            parts.append("")
    return "\n".join(parts)


def events_page() -> str:
    """Return the page of every event."""
    _import_rooms()
    parts = [
        "# Events\n",
        _NOTE,
        (
            "Each becomes a log line with the ids of its request. A *label* has "
            "few values, a *measure* is a number to aggregate, the rest is *detail*.\n"
        ),
        "| event | severity | says | fields |\n|---|---|---|---|",
    ]
    for name, kind in sorted(_ours().items()):
        fields = ", ".join(f"{field.name} ({field.role.value})" for field in kind.schema)
        parts.append(f"| `{name}` | {kind.severity} | {_cell(kind.sentence)} | {fields} |")
    return "\n".join([*parts, ""])


def metrics_page() -> str:
    """Return the page of every metric: what it counts, and who shows it."""
    catalogue = _catalogue()
    parts = [
        "# Metrics\n",
        _NOTE,
        (
            "What `/metrics` has. A label that may have one of some values names them; any other "
            "value, and any name beyond the number that is given, is `_other`. What is asked of "
            "an alert is said in [alerts](alerts.md); how to add metrics of your own in "
            "[its how-to](../how-to/add-a-business-metric.md).\n"
        ),
    ]
    for metric in sorted(_metrics(), key=lambda metric: metric.name):
        parts.append(f"## `{metric.name}`\n")
        unit = f", in {metric.unit}" if metric.unit else ""
        fold = "" if metric.kind != "gauge" else f"; of several processes the {metric.fold}"
        parts.append(f"{metric.kind.capitalize()}{unit}{fold}. {_cell(metric.help)}\n")
        labels = [f"- `{name}`: {_domain(domain)}" for name, domain in metric.labels.items()]
        parts += ["\n".join(labels) + "\n"] if labels else []
        if metric.buckets:
            bounds = ", ".join(f"{bound:.10g}" for bound in metric.buckets)
            parts.append(f"Buckets: {bounds}.\n")
        panels = [p.title for p in catalogue.panels.values() if metric in metrics_of(p)]
        alerts = [a.name for a in catalogue.alerts.values() if metric in metrics_of(a)]
        if panels:
            parts.append(f"Shown in: {', '.join(panels)}.\n")
        if alerts:
            linked = [f"[{name}](alerts.md#{name.lower()})" for name in alerts]
            parts.append(f"Asked by: {', '.join(linked)}.\n")
        if metric.unshown:
            parts.append(f"Not shown: {metric.unshown}\n")
    return "\n".join(parts)


def alerts_page() -> str:
    """Return the page of every alert: when, how urgent, why, where to look and what to do."""
    parts = [
        "# Alerts\n",
        _NOTE,
        (
            "What somebody is called for, with the objectives of a service whose settings say "
            "nothing of `[slo]`. *page* wakes somebody, *ticket* is looked at in working hours, "
            "*info* is only shown. The conditions are in PromQL; without Prometheus the service "
            "evaluates the same.\n"
        ),
    ]
    for alert in _catalogue().alerts.values():
        parts.append(f"## {alert.name}\n")
        waits = f", after {alert.for_seconds:g} s" if alert.for_seconds else ""
        parts.append(f"*{alert.urgency}*{waits}: {_cell(alert.summary)}.\n")
        parts.append(f"```text\n{promql(alert.when, window='5m')}\n```\n")
        parts.append(f"Why\n: {_cell(alert.cause)}\n")
        parts.append(f"Look\n: {_cell(alert.look)}\n")
        parts.append(f"Do\n: {_cell(alert.act)}\n")
        parts.append(f"Try it\n: {_cell(alert.drill)}\n")
    return "\n".join(parts)


PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "cli.md": commands_page,
    "events.md": events_page,
    "metrics.md": metrics_page,
    "alerts.md": alerts_page,
}


def verbs() -> dict[str, set[str]]:
    """Return every command with its options; "" is none, "config show" a verb of a verb."""
    return {
        name: {option for names, _ in command["options"] for option in names}
        | {"--help", *(["--version"] if not name else [])}
        for name, command in _commands()
    }


def keys() -> set[str]:
    """Return the key of every setting."""
    _import_rooms()
    return {option.key for section in sections() for option in _written(section)}


def _written(section: Any) -> Iterator[Option]:
    """Yield what can be written of a section; in place of a table's name stands NAME."""
    for option in options_of(section):
        if not option.columns:
            yield option
        for column in option.columns:
            yield replace(column, key=f"{option.key}.NAME.{column.key}")


def facts() -> set[str]:
    """Return the name of every event."""
    _import_rooms()
    return set(_ours())


def metrics() -> set[str]:
    """Return every metric name that a query may use."""
    _import_rooms()
    found = set()
    for metric in _metrics():
        found.add(metric.name)
        if metric.kind == "histogram":
            found |= {f"{metric.name}_{part}" for part in ("bucket", "count", "sum")}
    return found


def _import_rooms() -> None:
    """Import every module that may declare something; the demo is a user of ours, not a room."""
    for module in pkgutil.walk_packages(shipworthy.__path__, "shipworthy."):
        if not module.name.startswith("shipworthy.demo") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _ours() -> dict[str, Any]:
    return {n: kind for n, kind in declared().items() if kind.__module__.startswith("shipworthy.")}


def declared_metrics() -> list[Metric]:
    """Return every metric of ours."""
    _import_rooms()
    return _metrics()


def _metrics() -> list[Metric]:
    import sys

    found = {
        value.name: value
        for name, module in sorted(sys.modules.items())
        if name.startswith("shipworthy.") and not name.startswith("shipworthy.demo")
        for held in list(vars(module).values())
        for value in (held if isinstance(held, tuple) else (held,))
        if isinstance(value, Metric)
    }
    return list(found.values())


def _catalogue() -> Catalogue:
    """Return what is shown of a service that was told nothing."""
    _import_rooms()
    return service_catalogue(load(environ={}, directory=FOLDER))


def _domain(domain: Domain) -> str:
    if isinstance(domain, OneOf):
        return ", ".join(f"`{value}`" for value in domain.values)
    return f"names that the service gives, at most {domain.most}"


def _commands() -> Iterator[tuple[str, dict[str, Any]]]:
    from shipworthy.cli import app

    yield from _walk("", typer.main.get_command(app))


def _walk(name: str, command: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    inner = getattr(command, "commands", {})
    options = [
        ([*param.opts, *param.secondary_opts], getattr(param, "help", "") or "")
        if param.param_type_name == "option"
        else ([str(param.name).upper()], getattr(param, "help", "") or "")
        for param in command.params
        if not getattr(param, "hidden", False) and "--install-completion" not in param.opts
        and "--show-completion" not in param.opts
    ]  # fmt: skip
    yield (
        name,
        {
            "help": inspect.cleandoc(command.help or ""),
            "examples": re.findall(r"Example: (.*)", command.epilog or ""),
            "options": options,
            "group": bool(inner) and not getattr(command, "invoke_without_command", False),
        },
    )
    for word, child in inner.items():
        yield from _walk(f"{name} {word}".strip(), child)


def _setting_row(option: Option) -> str:
    accepts = " or ".join(f"`{choice}`" for choice in option.choices) or option.kind.value
    bounds = [
        f"{word} {_bound(option, bound)}"
        for word, bound in (("at least", option.minimum), ("at most", option.maximum))
        if bound is not None and not (word == "at least" and bound == 0)
    ]
    default = _default(option, option.default)
    for environment in ENVIRONMENTS:
        if environment in option.profiles:
            default += f"; {environment}: {_default(option, option.profiles[environment])}"
    accepts = ", ".join([accepts, *bounds])
    return f"| `{option.key}` | {accepts} | {default} | {_cell(option.help)} |"


def _default(option: Option, value: Any) -> str:
    text = shown(option, value)
    return f"`{text}`" if text else "empty"


def _bound(option: Option, bound: float) -> str:
    whole = int(bound) if bound == int(bound) else bound
    return shown(option, whole)


def _sentence(thing: object) -> str:
    return (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    for page, write in PAGES.items():
        (FOLDER / page).write_text(write(), encoding="utf-8")
