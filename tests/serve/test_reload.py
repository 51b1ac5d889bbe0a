"""`run --reload`."""

import time
from pathlib import Path

import pytest
from launch import Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def test_new_code_serves_after_a_change_and_broken_code_does_not(run: Run, tmp_path: Path) -> None:
    """`--reload`: ready before the old one goes; a mistake leaves the old one serving (L29)."""
    shop = tmp_path / "shop.py"
    source = (
        "from starlette.applications import Starlette\n"
        "from starlette.responses import PlainTextResponse\n"
        "from starlette.routing import Route\n"
        "app = Starlette(routes=[Route('/', lambda r: PlainTextResponse('{0}'))])\n"
    )
    shop.write_text(source.format("old"))
    with run("shop:app", "--reload") as service:
        service.until_ready()
        first = service.get("/").text
        time.sleep(0.5)  # the watcher needs a moment to be watching
        shop.write_text(source.format("new"))
        service.until(lambda: service.get("/").text == "new")
        shop.write_text("def broken(:\n")
        service.until(lambda: "serve.replacement_failed" in service.out)
        still = service.get("/").text
        service.signal()
        code = service.ended()

    assert (first, still, code) == ("old", "new", 0)
    assert "SyntaxError" in service.err
