"""What was found, as Markdown: the tables, and under them whatever differed."""

from collections.abc import Mapping
from typing import Any


def report(visited: list[dict[str, Any]], suites: list[dict[str, Any]]) -> str:
    """Return the Markdown of what was found, with what differed under it."""
    rows = [
        f"| {_named(app)} | {app['interface']} | {app['bare']} "
        f"| {len(app['steps'])} | {len(app['steps']) - len(app['differ'])} "
        f"| {len(app['steps']) - len(app['without_one_request_id'])} "
        f"| {_yes(set(app['probes'].values()) == {200})} "
        f"| {_yes(app['drain']['answered'] and app['drain']['in_the_database'] is not False)} "
        f"| {app['drain']['exit_code']} "
        f"| {sum(app['errors_not_there_bare'].values())} |"
        for app in visited
    ]
    suite_rows = [
        f"| {_named(suite)} | {_counted(suite['bare'])} | {_counted(suite['hardened'])} "
        f"| {suite['requests_through_the_guards']} | {len(suite['differ'])} |"
        for suite in suites
    ]
    return "\n".join(
        [
            "## Served",
            "",
            _head(
                "application", "made with", "bare server", "steps", "alike",
                "with one `X-Request-ID`", "probes on both ports", "in flight at SIGTERM answered",
                "exit code", "errors in the log that are not there bare",
            ),
            *rows,
            "",
            *(line for app in visited for line in _about(app)),
            "## Their own suites",
            "",
            _head(
                "suite", "bare", "hardened", "requests through the guards",
                "tests with another outcome",
            ),
            *suite_rows,
            "",
            *(line for suite in suites for line in _about_suite(suite)),
        ]
    )  # fmt: skip


def _head(*columns: str) -> str:
    return f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|"


def _about(app: dict[str, Any]) -> list[str]:
    drained = app["drain"]
    routes = ", ".join(f"`{route}`" for route in app["routes"] if route not in app["probe_paths"])
    lines = [
        f"### {app['name']}",
        "",
        f"- In flight at SIGTERM: {drained['in_flight']}; not ready "
        f"{drained['seconds_to_not_ready']} s and gone {drained['seconds_to_exit']} s after it."
        + (" What it wrote is in the database." if drained["in_the_database"] else ""),
        f"- Routes in the metrics: {routes}.",
    ]
    if app["raw_paths_in_metrics"]:
        lines.append(f"- Paths among them, which must not be: {app['raw_paths_in_metrics']}.")
    lines += [f"- Not as expected: {step}." for step in app["unexpected"]]
    lines += [
        f"- Not alike: {one['step']}, in {' and '.join(one['differs'])}." for one in app["differ"]
    ]
    lines += [
        f"- In the log, {count} more than bare: {line[:200]}"
        for line, count in app["errors_not_there_bare"].items()
    ]
    if app["remark"]:
        lines.append(f"- {app['remark']}")
    return [*lines, ""]


def _about_suite(suite: dict[str, Any]) -> list[str]:
    lines = [
        f"- {suite['name']}, another outcome: `{name}`: {bare} bare, {hardened} hardened."
        for name, (bare, hardened) in suite["differ"].items()
    ]
    lines += [
        f"- {suite['name']}, {outcome} bare as well: `{name}`."
        for name, outcome in suite["not_passed_bare"].items()
    ]
    if suite["remark"]:
        lines.append(f"- {suite['name']}: {suite['remark']}")
    return lines


def _named(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in found["versions"].items())


def _counted(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())


def _yes(so: bool) -> str:  # noqa: FBT001 - it is the answer
    return "yes" if so else "no"
