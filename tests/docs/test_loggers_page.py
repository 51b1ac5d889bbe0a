"""What the page about other loggers shows is tried as it stands there, with the real libraries."""

import json
import subprocess
import sys
from typing import Any

import pytest

from docs.documents import ROOT, Document

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "how-to" / "keep-your-logger.md"
BEFORE = """
from shipworthy.context import RequestRecord, request_scope
from shipworthy.settings import load
from shipworthy.telemetry import settle_logging, start_logging

stop = start_logging(load(environ={}), app_first=True)
"""
# What an application does with its logger: a line, an exception, a secret, a thing bound.
USE = """
settle_logging(started=True)

def use():
    bound = logger.bind(berth=12)
    bound.info("sold")
    bound.warning("Authorization: Bearer hunter2hunter2")
    try:
        unnamed = "un" + "seen"  # a value that loguru would show
        raise LookupError("mysql://root:hunter2@db/x")
    except LookupError:
        bound.exception("failed")

with request_scope(RequestRecord("req-1", "req-1", "t" * 32, "s" * 16)):
    use()
stop()
"""


def shown(*words: str) -> str:
    """Return the piece of Python of the page that has all these words."""
    page = Document(PAGE.name, PAGE.read_text(encoding="utf-8"))
    (found,) = [block for block in page.blocks("python") if all(word in block for word in words)]
    return found


def said(piece: str) -> list[dict[str, Any]]:
    """Return the lines of an application that sets its logger up like that."""
    return [json.loads(line) for line in written(piece).splitlines()]


def written(piece: str) -> str:
    """Return what such an application writes."""
    get = "" if "loguru" in piece else "logger = structlog.get_logger('app')\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{BEFORE}\n{piece}\n{get}{USE}"],
        capture_output=True,
        text=True,
        check=True,
        timeout=40,
    )
    assert done.stderr == ""
    assert "hunter2" not in done.stdout
    assert "unseen" not in done.stdout
    return done.stdout


@pytest.mark.parametrize(
    "words", [("render_to_log_kwargs",), ("ToLogging",)], ids=["structlog", "loguru"]
)
def test_lines_of_another_logger_become_lines_of_the_log(words: tuple[str, ...]) -> None:
    """With level, fields, stack, ids and without secrets, each once."""
    lines = said(shown(*words))

    assert [line["level"] for line in lines] == ["info", "warning", "error"]
    assert [line["message"] for line in lines][::2] == ["sold", "failed"]
    assert lines[1]["message"].startswith("Authorization: ***")
    for line in lines:
        assert (line["request_id"], line["trace_id"]) == ("req-1", "t" * 32)
        assert (line.get("berth") or line["extra"]["berth"]) == 12
        assert line["pid"]
    assert lines[2]["error_type"] == "LookupError"
    assert "mysql://root:***@db/x" in lines[2]["stack"]
    assert lines[2]["stack"].count("Traceback") == 1


def test_structlog_with_lines_of_its_own_has_ids_and_no_secrets() -> None:
    """Two processors, and nothing of ours writes."""
    lines = said(shown("structlog", "JSONRenderer"))

    assert [line["event"] for line in lines][::2] == ["sold", "failed"]
    for line in lines:
        assert (line["request_id"], line["trace_id"]) == ("req-1", "t" * 32)
        assert line["berth"] == 12
        assert "pid" not in line
    assert "mysql://root:***@db/x" in lines[2]["exception"]


def test_loguru_with_lines_of_its_own_has_ids_and_no_secrets() -> None:
    """A patcher and a sink, and nothing of ours writes."""
    text = written(shown("loguru", "patcher"))

    first, second, third, *stack = text.splitlines()
    extra = {"berth": 12, "request_id": "req-1", "trace_id": "t" * 32}
    assert " INFO sold " in first
    assert first.endswith(str(extra))
    assert " WARNING Authorization: ***" in second
    assert " ERROR failed " in third
    assert stack[-1] == "LookupError: mysql://root:***@db/x"


def test_a_thread_that_was_handed_the_context_knows_its_request() -> None:
    """A bare one does not, as Python does it."""
    code = f"""
import logging
from shipworthy.context import RequestRecord, log_fields, request_scope
{shown("copy_context")}
known = []
with request_scope(RequestRecord("req-1", "req-1", "t" * 32, "s" * 16)):
    in_thread(lambda: known.append(log_fields())).join()
    bare = threading.Thread(target=lambda: known.append(log_fields()))
    bare.start()
    bare.join()
assert known[0]["request_id"] == "req-1"
assert known[1] == {{}} or __import__("sys").flags.thread_inherit_context
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=40)
