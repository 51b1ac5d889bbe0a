"""The lock belongs to this project file, and sends nobody to a registry of ours."""

import ast
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import packages_distributions

from tidy.house import ROOT, Module, modules_under, sample

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK_TEXT = (ROOT / "uv.lock").read_text(encoding="utf-8")
PUBLIC = {"pypi.org", "files.pythonhosted.org"}


def requirements(lines: list[str]) -> set[tuple[str, str]]:
    """Return names with their version ranges, markers and extras left out."""
    found = set()
    for line in lines:
        name, ranges = re.match(r"([\w.-]+)(?:\[[^\]]*\])?\s*([^;]*)", line).groups()  # type: ignore[union-attr]
        found.add((name.lower(), ",".join(sorted(ranges.replace(" ", "").split(",")))))
    return found


def foreign_hosts(lock: str) -> set[str]:
    """Return the hosts in a lock file that not everybody can reach."""
    return set(re.findall(r'"(?:https?|file)://([^/"]*)', lock)) - PUBLIC


# The applications' own frameworks: asked only when the application has imported them already.
GUESTS = {"django", "flask", "litestar", "quart"}
# Modules that are loaded only where the extra is installed, and the extra.
OF_AN_EXTRA = {
    "src/shipworthy/store/redis.py": "redis",
    "src/shipworthy/telemetry/spans.py": "otel",
}


def undeclared(
    modules: Sequence[Module], core: set[str], extras: Mapping[str, set[str]]
) -> list[str]:
    """Return the imports of packages that the project file does not ask for.

    A room may have an extra of its own name, for what only it needs, and a module may have one.
    """
    homes = packages_distributions()
    found = []
    for module in modules:
        extra = OF_AN_EXTRA.get(str(module.path), module.room.rpartition(".")[2])
        asked = core | extras.get(extra, set())
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            else:
                continue
            for name in (name.partition(".")[0] for name in names):
                known = name in sys.stdlib_module_names or name in {"shipworthy", *GUESTS}
                homes_of_it = {home.lower().replace("_", "-") for home in homes.get(name, [name])}
                if not known and not homes_of_it & asked:
                    found.append(f"{module.path}:{node.lineno}: imports {name}; declare it")
    return found


def test_whatever_is_imported_is_declared():
    """Nothing works only because another package happens to bring what is needed."""
    core = {name for name, _ in requirements(PROJECT["project"]["dependencies"])}
    extras = PROJECT["project"]["optional-dependencies"]

    own = {extra: {name for name, _ in requirements(lines)} for extra, lines in extras.items()}

    holes = undeclared(modules_under(), core, own)

    assert not holes, "\n".join(["", *holes])


def test_an_undeclared_import_is_reported():
    """The standard library, we ourselves and the frameworks of guests need no declaration."""
    house = sample(
        {
            "web/a.py": "import json, flask, sqlalchemy.orm\nimport shipworthy\nimport httpx",
            "demo/b.py": "from sqlalchemy import select",
        }
    )

    assert undeclared(house, {"orjson"}, {"demo": {"sqlalchemy"}}) == [
        "src/shipworthy/web/a.py:1: imports sqlalchemy; declare it",
        "src/shipworthy/web/a.py:3: imports httpx; declare it",
    ]


def test_the_lock_was_made_from_this_project_file():
    """Whoever changes a dependency locks anew: `.uv/bin/uv lock`."""
    (ours,) = (p for p in tomllib.loads(LOCK_TEXT)["package"] if p["name"] == "shipworthy")
    locked = {
        (entry["name"], ",".join(sorted(entry.get("specifier", "").split(","))))
        for entry in [*ours["metadata"]["requires-dist"], *ours["metadata"]["requires-dev"]["dev"]]
    }
    project = PROJECT["project"]
    asked = [*project["dependencies"], *PROJECT["dependency-groups"]["dev"]]
    for extra in project["optional-dependencies"].values():
        asked += extra

    assert requirements(asked) == locked


def test_the_lock_names_the_public_registry_only():
    """A lock made behind a mirror would work on one machine only."""
    assert foreign_hosts(LOCK_TEXT) == set()


def test_a_mirror_in_the_lock_is_reported():
    """Both addresses and files of a machine are seen."""
    lock = 'url = "https://mirror.example/simple" x = "file:///opt/x" y = "https://pypi.org/simple"'

    assert foreign_hosts(lock) == {"mirror.example", ""}
