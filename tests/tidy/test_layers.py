"""The contract of who may import whom reports what it should: tried on a copy of the sources."""

import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from tidy.house import ROOT

pytestmark = pytest.mark.slow


def lint_imports(copy: Path) -> tuple[int, str]:
    """Run import-linter over the copy, with the contracts of this repository."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [linter, "--config", ROOT / "pyproject.toml", "--no-cache"],
        cwd=copy,
        env={"PYTHONPATH": str(copy), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources, to be spoiled."""
    copytree(
        ROOT / "src" / "shipworthy",
        tmp_path / "shipworthy",
        ignore=ignore_patterns("__pycache__"),
    )
    return tmp_path


def test_the_house_as_it_is_passes(copy):
    """Otherwise the samples below would fail for a reason of their own."""
    status, output = lint_imports(copy)

    assert status == 0, output


def test_an_import_upwards_is_reported_with_its_chain(copy):
    """A room may not know what stands on it."""
    with (copy / "shipworthy" / "events" / "emit.py").open("a") as file:
        file.write("\nimport shipworthy.web\n")

    status, output = lint_imports(copy)

    assert status == 1
    assert "shipworthy.events.emit -> shipworthy.web" in output


def test_a_room_that_the_contract_does_not_name_is_reported(copy):
    """A new drawer cannot be opened without saying where it stands."""
    (copy / "shipworthy" / "oddments").mkdir()
    (copy / "shipworthy" / "oddments" / "__init__.py").touch()

    status, output = lint_imports(copy)

    assert status == 1
    assert "oddments" in output


def test_a_decision_that_reads_a_clock_is_reported(copy):
    """A pure module takes the time as an argument."""
    with (copy / "shipworthy" / "lifecycle" / "drain.py").open("a") as file:
        file.write("\nimport time\n")

    status, output = lint_imports(copy)

    assert status == 1
    assert "shipworthy.lifecycle.drain -> time" in output


def test_every_forbidden_contract_names_rooms_that_exist(copy):
    """A contract about a module that was renamed would pass for ever, so import-linter refuses."""
    (copy / "shipworthy" / "units.py").rename(copy / "shipworthy" / "quantities.py")

    status, output = lint_imports(copy)

    assert status != 0
    assert "shipworthy.units" in output
