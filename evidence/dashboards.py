"""Dashboards against the types of Grafana 13

Each dashboard that `shipworthy generate monitoring` writes, for all that the rooms declare and for
the sample catalogue of the tests, becomes a constant of type `Dashboard` of the npm package
`@grafana/schema` and is compiled with `tsc --strict`, which refuses a property that Grafana does
not have. What a dashboard leaves untyped is typed by its plugin: options and fields of the panels
by those of the time series. Queries have no type there; `tests/deploy/test_grafana.py` parses them.
A dashboard that is spoilt in six ways shows that the compiler sees it.
"""

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
COVERS = ("src/shipworthy/deploy/grafana.py", "tests/deploy/sample.py", "evidence/dashboards.py")
_SCHEMA, _TYPESCRIPT = "13.2.3", "5.9.3"
_TYPES = """\
import type { Dashboard, DataQuery } from '@grafana/schema';
import type {
  Options, FieldConfig
} from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
// JSON has texts where the types have members of an enum with that text.
type Plain<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Query = DataQuery & {
  expr: string; interval?: string; legendFormat?: string; range?: boolean; instant?: boolean;
  exemplar?: boolean;
};
"""
_Spoil = Callable[[dict[str, Any]], object]
_SPOILT: dict[str, _Spoil] = {
    "a refresh that is a number": lambda it: it.update(refresh=7),
    "a variable with a property of its own": lambda it: it["templating"]["list"][0].update(x=1),
    "a panel without a type": lambda it: it["panels"][0].pop("type"),
    "a place that is a text": lambda it: it["panels"][0]["gridPos"].update(x="left"),
    "a legend nobody knows": lambda it: it["panels"][0]["options"]["legend"].update(
        displayMode="poem"
    ),
    "a line style nobody knows": lambda it: it["panels"][0]["fieldConfig"]["defaults"][
        "custom"
    ].update(drawStyle="crayon"),
}


def run(folder: Path) -> tuple[str, dict[str, str]]:
    """Compile every dashboard, and the spoilt ones; an outcome that is not expected is an error."""
    sys.path.insert(0, str(ROOT / "tests"))
    from deploy.sample import catalogue  # type: ignore[import-not-found]
    from shipworthy.deploy.alarms import Prometheus
    from shipworthy.deploy.grafana import dashboard_files
    from shipworthy.serve import service_catalogue

    shop = Prometheus(job="shop", scrape_interval_seconds=15.0)
    (folder / "package.json").write_text('{"private": true}\n')
    packages = [f"@grafana/schema@{_SCHEMA}", f"typescript@{_TYPESCRIPT}"]
    _checked(folder, "npm", "install", "--no-audit", "--no-fund", "--silent", *packages)
    rows = []
    for name, declared in (("rooms", service_catalogue()), ("sample", catalogue())):
        for path, text in dashboard_files(declared.panels.values(), shop).items():
            dashboard = json.loads(text)
            complaint = _compiled(folder, dashboard)
            if complaint:
                raise SystemExit(f"{name}: {path}: {complaint}")
            rows.append(f"| {name} | `{path}` | {len(dashboard['panels'])} | yes |")
    for what, spoil in _SPOILT.items():
        dashboard = copy.deepcopy(json.loads(next(iter(
            dashboard_files(catalogue().panels.values(), shop).values()
        ))))  # fmt: skip
        spoil(dashboard)
        if not _compiled(folder, dashboard):
            raise SystemExit(f"spoilt by {what}, it compiles all the same")
        rows.append(f"| spoilt | {what} | {len(dashboard['panels'])} | no, as it should |")
    table = "\n".join(["| of | dashboard | panels | compiles |", "|---|---|---|---|", *rows])
    node = _checked(folder, "node", "--version").strip()
    return table, {"@grafana/schema": _SCHEMA, "TypeScript": _TYPESCRIPT, "Node": node}


def _compiled(folder: Path, dashboard: dict[str, Any]) -> str:
    """Return what the compiler says against a dashboard; nothing is good."""
    written = copy.deepcopy(dashboard)
    queries = [one["target"] for one in written["annotations"]["list"]]
    for number, one in enumerate(written["annotations"]["list"]):
        # A place for the name of a constant, which has the wider type of a query.
        one["target"] = f"@query{number}@"
    queries += [target for panel in written["panels"] for target in panel["targets"]]
    body = json.dumps(written)
    for number in range(len(written["annotations"]["list"])):
        body = body.replace(f'"@query{number}@"', f"queries[{number}]!")
    options = [panel["options"] for panel in written["panels"]]
    fields = [panel["fieldConfig"]["defaults"]["custom"] for panel in written["panels"]]
    (folder / "dashboard.ts").write_text(
        f"{_TYPES}"
        f"const queries: Query[] = {json.dumps(queries)};\n"
        f"export const options: Plain<Options>[] = {json.dumps(options)};\n"
        f"export const fields: Plain<FieldConfig>[] = {json.dumps(fields)};\n"
        f"export const dashboard: Dashboard = {body};\n"
    )
    done = subprocess.run(
        [
            "node_modules/.bin/tsc",
            *("--strict", "--noEmit", "--skipLibCheck", "--moduleResolution", "bundler"),
            *("--module", "esnext", "--target", "es2022", "dashboard.ts"),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr if done.returncode else ""


def _checked(folder: Path, *command: str) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
