"""`run --dry-run`."""

import json
from pathlib import Path

import pytest
from launch import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def test_dry_run_says_what_would_be_done_and_serves_nothing(run: Run, tmp_path: Path) -> None:
    """Framework, engines with their secrets hidden, guards, and what cannot be done."""
    (tmp_path / "shop.py").write_text(
        "import sqlalchemy as sa\nfrom fastapi import FastAPI\n"
        "engine = sa.create_engine('sqlite:///shop.db')\napp = FastAPI()\n"
    )
    with run("shop:app", "--dry-run") as service:
        code = service.ended()

    assert code == 0
    for words in ("FastAPI", "sqlite:///shop.db", "problems", "enforce", "cannot"):
        assert words.lower() in service.out.lower()
    assert not (tmp_path / "diary.txt").exists()


def test_json_is_all_there_is_on_standard_output(run: Run, tmp_path: Path) -> None:
    """Whatever the app prints when it is imported is on standard error."""
    (tmp_path / "shop.py").write_text(
        "print('welcome')\nimport sqlalchemy as sa\nfrom fastapi import FastAPI\n"
        "engine = sa.create_engine('sqlite:///shop.db')\napp = FastAPI()\n"
    )
    with run("shop:app", "--dry-run", "--json") as service:
        code = service.ended()

    report = json.loads(service.out)
    assert code == 0
    assert (report["framework"], report["environment"]) == ("FastAPI", "development")
    assert "welcome" in service.err
    assert {"guard": "database", "mode": "enforce"} in report["guards"]
    assert [engine["cut_at_deadline"] for engine in report["engines"]] == ["yes"]
