"""`shipworthy generate`: exit codes, what is said, and declarations of the service itself."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from shipworthy.cli import app


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _generate(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["generate", "monitoring", *words])
    return done.exit_code, done.stdout, done.stderr


def test_it_writes_says_what_and_finds_nothing_to_do_the_second_time(here: Path) -> None:
    """The operations port of the settings is what is scraped."""
    (here / "shipworthy.toml").write_text(
        '[operations]\nport = 9123\n[monitoring]\npage = ["https://pager.example/hook"]\n'
    )
    code, out, _ = _generate("out")
    assert code == 0
    assert "added: prometheus.yml\n" in out
    assert "note: monitoring.ticket is empty" in out
    assert "note: monitoring.page" not in out
    scraped = yaml.safe_load((here / "out" / "prometheus.yml").read_text())["scrape_configs"][0]
    assert scraped["static_configs"] == [{"targets": ["127.0.0.1:9123"]}]
    code, out, _ = _generate("out", "--json")
    facts = json.loads(out)
    assert (code, facts["added"], facts["changed"], facts["removed"]) == (0, [], [], [])
    assert facts["unchanged"] == len([p for p in (here / "out").rglob("*") if p.is_file()]) - 1


def test_a_check_says_whether_the_folder_is_as_it_would_be_written(here: Path) -> None:
    """For a pipeline: 1 while it is not, and nothing is written."""
    code, out, _ = _generate("out", "--check")
    assert (code, (here / "out").exists()) == (1, False)
    assert "would be written" in out
    assert _generate("out")[0] == 0
    assert _generate("out", "--check")[0] == 0


def test_a_change_by_hand_is_kept_until_it_is_given_up(here: Path) -> None:
    """The answer is no, in one sentence that names the file and the way on."""
    _generate("out")
    (here / "out" / "alertmanager.yml").write_text("mine: true\n")
    code, _, err = _generate("out")
    assert code == 1
    assert "changed by hand since they were written: alertmanager.yml" in err
    assert err.count("\n") == 1
    assert (here / "out" / "alertmanager.yml").read_text() == "mine: true\n"
    code, out, _ = _generate("out", "--force")
    assert (code, "changed: alertmanager.yml" in out) == (0, True)


@pytest.mark.parametrize(
    ("settings", "words", "complaint"),
    [
        ("", ["shipworthy.toml"], "name a folder that can be made or written"),
        ("", ["."], "was not written by us"),
        ("", ["out", "--import", "no.such.module"], "--import no.such.module: ModuleNotFoundError"),
        ('[monitoring]\npage = ["bell"]\n', ["out"], "monitoring.page: 'bell' is none of"),
        ('[monitoring]\npages = ["bell"]\n', ["out"], "did you mean"),
    ],
)
def test_what_cannot_be_done_is_misuse(
    here: Path, settings: str, words: list[str], complaint: str
) -> None:
    """A file or a stranger's folder in the place, a module that is not there, wrong settings."""
    (here / "shipworthy.toml").write_text(settings)
    code, _, err = _generate(*words)
    assert code == 2
    assert complaint in err
    assert not (here / "out").exists()


@pytest.mark.slow
def test_what_the_service_declares_is_written_with_it(here: Path) -> None:
    """A metric, its panel and its alert, in a module of the service.

    In a process of its own: what is declared stays declared.
    """
    (here / "shop_declared_here.py").write_text(_SHOP)
    command = ["generate", "monitoring", "out", "--import", "shop_declared_here"]
    done = subprocess.run(
        [sys.executable, "-m", "shipworthy", *command],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "added: runbooks/NoOrders.md" in done.stdout
    board = json.loads((here / "out" / "dashboards" / "business.json").read_text())
    assert "Orders placed" in [panel["title"] for panel in board["panels"]]


_SHOP = """
from shipworthy.events import (
    Alert, Board, Compared, Increase, Metric, Number, OneOf, Panel, Rate, Selection, Urgency,
    declare,
)

ORDERS = Metric("shop_orders_total", "counter", "Orders.", {"channel": OneOf("web", "phone")})
BY_CHANNEL = Selection(metric=ORDERS, by=("channel",))
AN_HOUR = Increase(Selection(metric=ORDERS), 3600.0)
declare(
    Panel(title="Orders placed", help="By channel.", board=Board.BUSINESS, unit="per_second",
          shows=(("{channel}", Rate(BY_CHANNEL)),)),
    Alert(name="NoOrders", when=Compared(AN_HOUR, "<", Number(1.0)), for_seconds=600.0,
          urgency=Urgency.TICKET, summary="Nobody orders.", cause="The shop is shut.",
          look="Orders placed.", act="Open it.", drill="no traffic"),
)
"""
