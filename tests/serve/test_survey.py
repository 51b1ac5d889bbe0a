"""`run --dry-run`."""

import json
from pathlib import Path

import pytest
from launch import Run

from shipworthy.serve.survey import survey
from shipworthy.settings import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def test_dry_run_says_what_would_be_done_and_serves_nothing(run: Run, tmp_path: Path) -> None:
    """Framework, engines with their secrets hidden, guards, and what cannot be done.

    JSON is all there is on standard output: what the app prints when it is imported is on standard
    error. The same in lines for people is in test_cli.py.
    """
    (tmp_path / "shop.py").write_text(
        "print('welcome')\nimport sqlalchemy as sa\nfrom fastapi import FastAPI\n"
        "engine = sa.create_engine('sqlite:///shop.db')\n"
        "other = sa.create_engine('postgresql+psycopg://shop:s3cret@db/shop')\napp = FastAPI()\n"
        "from starlette_exporter import PrometheusMiddleware\n"
        "app.add_middleware(PrometheusMiddleware)\n"
        "import httpx\nclass Tunnel(httpx.BaseTransport): ...\n"
        "from django.conf import settings\n"
        "settings.configure(DATABASES={'default': {'ENGINE': 'django.db.backends.sqlite3'}})\n"
    )
    with run("shop:app", "--dry-run", "--json") as service:
        code = service.ended()

    report = json.loads(service.out)
    assert code == 0
    assert (report["framework"], report["environment"]) == ("FastAPI", "development")
    assert "welcome" in service.err
    engines = {engine["url"]: engine["cut_at_deadline"] for engine in report["engines"]}
    assert engines["sqlite:///shop.db"] == "yes"
    assert "postgresql+psycopg://shop:***@db/shop" in engines
    assert "s3cret" not in service.out + service.err
    assert {"guard": "problems", "mode": "enforce"} in report["guards"]
    assert {"guard": "database", "mode": "enforce"} in report["guards"]
    assert any(said.startswith("Django's ORM has a way") for said in report["not_done"])
    assert any("Tunnel sends in a way of its own" in said for said in report["not_done"])
    (counted_twice,) = report["counted_twice"]
    assert counted_twice.startswith("starlette-exporter ")
    assert report["undecided"] == []
    assert "answers at" not in service.err


def test_in_production_a_dry_run_asks_for_a_decision(tmp_path: Path) -> None:
    """One remark on the guards that only report because nobody has decided."""

    async def app(scope: object, receive: object, send: object) -> None: ...

    settings = load(environ={"SHIPWORTHY_ENV": "production"}, directory=tmp_path)
    (remark,) = survey(app, settings)["undecided"]
    assert remark.startswith("csp and csrf only report")


def test_a_lazy_object_of_a_framework_is_not_woken(tmp_path: Path) -> None:
    """Django's settings, imported and never configured, raise when they are asked for a class."""

    class Lazy:
        __slots__ = ("held",)

        @property  # type: ignore[misc]
        def __class__(self) -> type:
            raise RuntimeError("woken")

    async def app(scope: object, receive: object, send: object) -> None: ...

    lazy = Lazy()
    lazy.held = [lazy]  # type: ignore[attr-defined]  # so that the collector knows of it
    settings = load(environ={}, directory=tmp_path)
    assert survey(app, settings)["guards"]
