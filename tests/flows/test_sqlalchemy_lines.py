"""The older line of SQLAlchemy that we support: the tests of the database room hold there too.

The environment has the newer one. That alone hid that `create_engine(echo=...)` failed under `run`
on the older: evidence runs both, but not with every change.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# `scripts/environment` installs it there.
OLDER = Path(sys.prefix) / "sqlalchemy-2.0" / "site-packages"
ASK = "import sqlalchemy; print(sqlalchemy.__version__)"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_database_room_holds_on_sqlalchemy_2_0(tmp_path):
    """Guard, pool, transaction and queries pass their own tests on the line before."""
    assert OLDER.is_dir(), f"SQLAlchemy 2.0 is not in {OLDER}: scripts/environment installs it"
    paths = [str(OLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    asked = subprocess.run(
        [sys.executable, "-c", ASK],
        env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert asked.stdout.startswith("2.0.")
    ran = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
            "--basetemp", str(tmp_path / "base"), "-m", "not slow and not evidence", "tests/db",
        ],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=360,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    assert " passed" in ran.stdout.splitlines()[-1]
