"""Run the suite of an application twice, as it is and through the guards, and compare."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from third_party_apps import places
from third_party_apps.apps import HERE, Suite

SUITE_SECONDS = 900.0


def suite_twice(suite: Suite, folder: Path) -> dict[str, Any]:
    """Run a suite as it is and through the guards, and compare the outcomes test by test."""
    commands = places.environment(suite.name)
    versions = places.versions(commands, *suite.versions)
    folder.mkdir(parents=True)
    source, digest = places.source(suite.package, versions[suite.package], folder)
    bare, _ = _suite(commands, source, suite, folder / "bare.xml", ())
    plugin = ("-p", "hardened_clients")
    hardened, said = _suite(commands, source, suite, folder / "hardened.xml", plugin)
    passed = re.search(r"requests through the guards: (\d+)", said)
    names = sorted(bare.keys() | hardened.keys())
    return {
        "name": suite.name,
        "versions": versions,
        "archive_sha256": digest,
        "requests_through_the_guards": int(passed[1]) if passed else 0,
        "bare": _count(bare),
        "hardened": _count(hardened),
        "differ": {
            n: [bare.get(n), hardened.get(n)] for n in names if bare.get(n) != hardened.get(n)
        },
        "not_passed_bare": {
            n: bare[n] for n in sorted(bare) if bare[n] not in ("passed", "skipped")
        },
        "remark": suite.remark,
        "outcomes": hardened,
    }


def _suite(
    commands: Path, source: Path, suite: Suite, report_to: Path, plugin: tuple[str, ...]
) -> tuple[dict[str, str], str]:
    done = subprocess.run(
        [commands / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin,
         f"--junitxml={report_to}", suite.tests],
        cwd=source,
        env=places.surroundings(commands, PYTHONPATH=str(HERE)),
        capture_output=True,
        text=True,
        check=False,
        timeout=SUITE_SECONDS,
    )  # fmt: skip
    if done.returncode not in (0, 1):
        raise RuntimeError(f"pytest ended with {done.returncode}: {done.stdout[-2000:]}")
    return {
        f"{case.get('classname')}::{case.get('name')}": _outcome(case)
        for case in ET.parse(report_to).iter("testcase")
    }, done.stdout


def _outcome(case: ET.Element) -> str:
    return next(
        (said for tag, said in _TAGS.items() if case.find(tag) is not None),
        "passed",
    )


_TAGS = {"failure": "failed", "error": "error", "skipped": "skipped"}


def _count(outcomes: Mapping[str, str]) -> dict[str, int]:
    found = list(outcomes.values())
    return {outcome: found.count(outcome) for outcome in sorted(set(found))}
