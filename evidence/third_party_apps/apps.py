"""The applications and the suites: how each is served, and what its drain is tried with."""

import re
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One application: how it is served, and what its drain is tried with.

    `versions` are the packages to name. `environ` and `prepare` get the folder it runs in.
    `made_up` finds what the visit has put into paths, which no metric may have as a label.
    `in_flight` is a request that is at work when SIGTERM comes; `kept` looks whether what it wrote
    is in the database, None where it writes nothing.
    """

    name: str
    versions: tuple[str, ...]
    interface: str
    target: str
    bare: tuple[str, ...]
    environ: Callable[[Path], Mapping[str, str]]
    prepare: Callable[[Path], None]
    made_up: re.Pattern[str]
    in_flight: "InFlight"
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """A request for the drain: a body of which half is sent before SIGTERM, or a slow answer."""

    what: str
    method: str
    path: str
    body: str
    content_type: str
    sees: str
    kept: tuple[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The test suite of an application, in its source archive."""

    name: str
    package: str
    versions: tuple[str, ...]
    tests: str
    remark: str = ""


def _nothing(_folder: Path) -> None:
    return


def _ihatemoney_settings(folder: Path) -> None:
    (folder / "ihatemoney.cfg").write_text(
        f'SQLALCHEMY_DATABASE_URI = "sqlite:///{folder}/app.db"\nSECRET_KEY = "not-a-secret"\n'
        "SESSION_COOKIE_SECURE = False\n",
        encoding="utf-8",
    )


def _datasette_files(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "items.db")) as made, made:
        made.execute("create table items (id integer primary key, name text, price integer)")
        rows = [("lamp" if n == 1 else f"thing {n}", n) for n in range(1, 1001)]
        made.executemany("insert into items (name, price) values (?, ?)", rows)
    (folder / "datasette_app.py").write_bytes((HERE / "datasette_app.py").read_bytes())


def _dagster_files(folder: Path) -> None:
    (folder / "home").mkdir()
    (folder / "dagster_app.py").write_bytes((HERE / "dagster_app.py").read_bytes())


_COUNT = (
    "with recursive c(n) as (select 1 union all select n + 1 from c limit 4000000) "
    "select count(*) from c"
)

SERVED = (
    App(
        name="ihatemoney",
        versions=("ihatemoney", "Flask", "Flask-SQLAlchemy", "SQLAlchemy", "gunicorn"),
        interface="WSGI: Flask, Flask-SQLAlchemy",
        target="ihatemoney.wsgi:application",
        bare=("gunicorn", "-k", "gthread", "--threads", "8", "-b", "127.0.0.1:{port}",
              "ihatemoney.wsgi:application"),
        environ=lambda folder: {"IHATEMONEY_SETTINGS_FILE_PATH": f"{folder}/ihatemoney.cfg"},
        prepare=_ihatemoney_settings,
        made_up=re.compile(r"holiday|no/such|/\d+(?:/|$)|[0-9a-f]{16}"),
        in_flight=InFlight(
            what="a project is created, half of the body before SIGTERM",
            method="POST", path="/api/projects",
            body='{"name": "Late", "id": "late", "password": "sea", '
                 '"contact_email": "a@example.org", "default_currency": "XXX"}',
            content_type="application/json", sees="late",
            kept=("app.db", "select count(*) from project where id = 'late'"),
        ),
    ),
    App(
        name="datasette",
        versions=("datasette", "uvicorn"),
        interface="ASGI: its own router",
        target="datasette_app.py:app",
        bare=("uvicorn", "datasette_app:app", "--port", "{port}"),
        environ=lambda _folder: {},
        prepare=_datasette_files,
        made_up=re.compile(r"items|nothing|/\d+(?:/|$)|[0-9a-f]{16}"),
        in_flight=InFlight(
            what="an SQL query that takes a second or more",
            method="GET", path=f"/items.json?_shape=array&sql={quote(_COUNT)}",
            body="", content_type="", sees="4000000", kept=None,
        ),
        remark="Its router is its own, so the routes of its requests are not known. With Rich in "
        "its environment, which Shipworthy brings along, Datasette prints a traceback for whatever "
        "it answers with an error; so it does for the questions at the start by which it is found "
        "out whether the application has probes of its own.",
    ),
    App(
        name="mlflow",
        versions=("mlflow", "fastapi", "Flask", "SQLAlchemy", "uvicorn"),
        interface="ASGI: FastAPI with Flask mounted in it, SQLAlchemy",
        target="mlflow.server.fastapi_app:app",
        bare=("uvicorn", "mlflow.server.fastapi_app:app", "--port", "{port}"),
        environ=lambda folder: {
            "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/app.db",
            "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
            "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"{folder}/artifacts",
            "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        },
        prepare=_nothing,
        made_up=re.compile(r"tides|no-such|note|/\d+(?:/|$)|[0-9a-f]{16}"),
        in_flight=InFlight(
            what="an experiment is created, half of the body before SIGTERM",
            method="POST", path="/api/2.0/mlflow/experiments/create",
            body='{"name": "late"}' + " " * 5000,
            content_type="application/json", sees="experiment_id",
            kept=("app.db", "select count(*) from experiments where name = 'late'"),
        ),
    ),
    App(
        name="dagster-webserver",
        versions=("dagster-webserver", "starlette", "SQLAlchemy", "uvicorn"),
        interface="ASGI: Starlette with GraphQL and websockets, SQLAlchemy",
        target="dagster_app.py:app",
        bare=("uvicorn", "dagster_app:app", "--port", "{port}"),
        environ=lambda folder: {
            "DAGSTER_HOME": f"{folder}/home", "DAGSTER_DISABLE_TELEMETRY": "1",
        },
        prepare=_dagster_files,
        made_up=re.compile(r"synthetic|_next/static/chunks|/\d+(?:/|$)|[0-9a-f]{16}"),
        in_flight=InFlight(
            what="a limit is set, half of the body before SIGTERM",
            method="POST", path="/graphql",
            body='{"query": "mutation { setConcurrencyLimit(concurrencyKey: '
                 '\\"late\\", limit: 3) }"}',
            content_type="application/json", sees="true",
            kept=(
                "home/history/runs/index.db",
                "select count(*) from concurrency_limits where concurrency_key = 'late'",
            ),
        ),
    ),
)  # fmt: skip

SUITES = (
    Suite(
        name="ihatemoney", package="ihatemoney", versions=("ihatemoney", "Flask", "pytest"),
        tests="ihatemoney/tests",
        remark="Without a name server, as here, it takes every e-mail address for undeliverable.",
    ),
    Suite(
        name="dagster-webserver", package="dagster-webserver",
        versions=("dagster-webserver", "starlette", "SQLAlchemy", "pytest"),
        tests="dagster_webserver_tests",
        remark="Tests that start its command line run it bare both times. Of the two that fail, "
        "one expects the words of an older Click; the cause of the other was not looked for.",
    ),
)  # fmt: skip
