"""An operator and the breakers of a running service: command line, port, pipe, worker, database."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from serve.launch import TOKEN, During, Service, brisk, started
from shipworthy.cli import app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

LATENESS_SECONDS = 2.5
"""What a loaded machine may add to an exchange that is bounded to 1 s."""
SHOP = """
import time
from pathlib import Path
from sqlalchemy import create_engine, text
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

engine = create_engine("sqlite:///shop.sqlite3", pool_size=1, max_overflow=0)

def boats(request):
    with engine.connect() as connection:
        return PlainTextResponse(str(connection.scalar(text("SELECT 42"))))

def held(request):
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        while not Path("release").exists():
            time.sleep(0.02)  # the line that holds it
    return PlainTextResponse("held")

async def blocked(request):
    while not Path("release").exists():
        time.sleep(0.02)
    return PlainTextResponse("blocked")

app = Starlette(routes=[Route("/", boats), Route("/held", held), Route("/blocked", blocked)])
"""

LATE = """
from sqlalchemy import create_engine, text
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

def boats(request):
    engine = create_engine("sqlite:///late.sqlite3")
    with engine.connect() as connection:
        return PlainTextResponse(str(connection.scalar(text("SELECT 42"))))

app = Starlette(routes=[Route("/", boats)])
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with one database; who makes it wait makes the file `release` in the end."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "shop.py").write_text(SHOP)
    with started("shop:app", directory=folder, settings=brisk(grace="30s")) as service:
        yield service.until_ready()


@pytest.fixture(autouse=True)
def nothing_by_hand(shop: Service) -> Iterator[None]:
    """Each test begins and ends with a closed breaker and nobody who waits."""
    (shop.directory / "release").unlink(missing_ok=True)
    yield
    (shop.directory / "release").touch()
    shop.until(lambda: shipworthy(shop, "close", "db:main")[0] == 0)


def shipworthy(service: Service, *arguments: str, token: str = TOKEN) -> tuple[int, str, str]:
    """Type `shipworthy breakers ...`; exit code, standard output and standard error."""
    command = ["breakers", *arguments, "--ops", service.operations, "--token", token]
    done = CliRunner().invoke(app, command, prog_name="shipworthy")
    return done.exit_code, done.stdout, done.stderr


def breaker(service: Service) -> dict[str, Any]:
    """Return how the breaker of the database stands."""
    code, out, err = shipworthy(service, "list", "--json")
    assert code == 0, err
    (found,) = json.loads(out)["breakers"]
    return dict(found)


def operations(service: Service, path: str) -> Any:
    """Ask the operations port with its token."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.get(service.operations + path, headers=headers, timeout=5).json()


def test_an_isolated_database_is_not_asked_and_a_closed_one_is_again(shop: Service) -> None:
    """503 with Retry-After, nothing of the reason to the client; the port says it to people."""
    before = shop.get("/")
    code, out, _ = shipworthy(shop, "isolate", "db:main", "--because", "we move house")
    refused = shop.get("/")
    stands = breaker(shop)
    health = operations(shop, "/health")
    closed, _, _ = shipworthy(shop, "close", "db:main")
    after = shop.get("/")

    assert (before.status_code, refused.status_code, after.status_code) == (200, 503, 200)
    assert int(refused.headers["retry-after"]) >= 1
    assert "house" not in refused.text
    assert (code, closed) == (0, 0)
    assert re.split(r"  +", out)[::2][:2] == ["db:main", "isolated"]
    assert "we move house" in out
    assert (stands["state"], stands["because"]) == ("isolated", "we move house")
    assert stands["refused_total"] >= 1
    assert stands["worker"] == shop.worker_pid()
    assert health["status"] == "warn"
    assert health["checks"]["database main:connectionsInUse"][0]["capacity"] == 1


def test_a_breaker_stays_isolated_when_its_worker_is_replaced(shop: Service) -> None:
    """The order is the service's, not the process's; it holds before the first request."""
    shipworthy(shop, "isolate", "db:main", "--because", "maintenance")
    old = shop.worker_pid()
    os.kill(old, signal.SIGKILL)
    answer = shop.get("/")
    shop.until(lambda: operations(shop, "/api/breakers")["silent"] == [])
    stands = breaker(shop)
    closed, _, _ = shipworthy(shop, "close", "db:main")

    assert answer.status_code == 503
    assert (stands["state"], stands["because"]) == ("isolated", "maintenance")
    assert stands["worker"] != old
    assert closed == 0
    assert shop.get("/").status_code == 200


def test_an_order_ends_though_no_worker_has_the_breaker_yet(tmp_path: Path) -> None:
    """After a restart, whoever closes need not wait for the first call; the order is forgotten."""
    (tmp_path / "late.py").write_text(LATE)
    with started("late:app", directory=tmp_path, settings=brisk(grace="30s")) as service:
        service.until_ready()
        first = service.get("/")
        isolated = shipworthy(service, "isolate", "db:main", "--because", "maintenance")
        os.kill(service.worker_pid(), signal.SIGKILL)
        none = {"breakers": [], "silent": []}
        service.until(lambda: operations(service, "/api/breakers") == none)
        code, out, err = shipworthy(service, "close", "db:main")
        after = service.get("/")

    assert (first.status_code, isolated[0]) == (200, 0)
    assert (code, err) == (0, "")
    assert "not be held open any more" in out
    assert after.status_code == 200


def test_another_service_at_the_address_is_said_to_be_one() -> None:
    """It answers in JSON, and knows nothing of breakers."""

    class Other(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        done = CliRunner().invoke(app, ["breakers", "list", "--ops", url], prog_name="shipworthy")
        thread.join()

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"shipworthy: {url} does not answer as an operations port; see --ops\n"


def test_who_holds_a_connection_is_named_by_his_lines(shop: Service) -> None:
    """Which line took it, for how long, for which request, and who waits for it."""
    holding = During(shop, "/held", headers={"X-Request-ID": "from-the-test"})
    shop.until(lambda: operations(shop, "/api/databases")["databases"][0]["holders"])
    (database,) = operations(shop, "/api/databases")["databases"]
    (shop.directory / "release").touch()
    holding.result()

    (holder,) = database["holders"]
    assert (database["name"], database["capacity"], database["in_use"]) == ("main", 1, 1)
    assert holder["taken_at"].startswith("shop.py:")
    assert holder["taken_at"].endswith(" in held")
    assert holder["stands_at"].endswith(" in held")
    assert holder["held_seconds"] >= 0
    assert holder["request_id"] == "from-the-test"


def test_a_worker_that_does_not_answer_is_named_and_not_waited_for(shop: Service) -> None:
    """What is not known is not called closed: exit 1, within the second and its lateness."""
    blocking = During(shop, "/blocked")
    shop.until(lambda: operations(shop, "/api/breakers")["silent"] != [])
    began = time.monotonic()
    code, out, err = shipworthy(shop, "list")
    took = time.monotonic() - began
    refused, _, why = shipworthy(shop, "isolate", "db:main")
    (shop.directory / "release").touch()
    blocking.result()

    assert (code, out) == (1, "")
    assert f"worker {shop.worker_pid()} did not answer in time" in err
    assert took < 1.0 + LATENESS_SECONDS
    assert refused == 1
    assert "no worker answered within 0.8 s" in why
    assert "say it again" in why


def test_mistakes_are_said_in_a_sentence(shop: Service) -> None:
    """A wrong token and a mistyped breaker are misuse; neither shows the token."""
    wrong = shipworthy(shop, "list", token="not-the-token-at-all")
    mistyped = shipworthy(shop, "isolate", "db:mian")
    strange = shipworthy(shop, "close", "ledger")

    assert (wrong[0], mistyped[0], strange[0]) == (2, 2, 2)
    assert "the token sent is not the operations token; set operations.token" in wrong[2]
    assert "not-the-token-at-all" not in "".join(wrong[1:])
    assert mistyped[1:] == (
        "",
        "shipworthy: there is no breaker 'db:mian'; did you mean 'db:main'?\n",
    )
    assert "there is no breaker 'ledger'; there is db:main" in strange[2]


def test_under_run_there_are_no_actions(shop: Service) -> None:
    """What breaks things exists in the demo only."""
    answer = httpx.get(
        f"{shop.operations}/api/actions", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=5
    )

    assert answer.status_code == 404
