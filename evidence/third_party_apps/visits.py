"""What a person does with each application, step by step, and what must be seen.

Each visit makes something and reads it back, takes a static file, asks for what is not there and
logs in and out where that is possible. Every answer is kept without what differs between any two
runs of the same server (ids, times, signatures), so that two visits can be compared whole.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from itsdangerous import URLSafeSerializer
from websockets.sync.client import connect
from websockets.typing import Subprotocol

# What a server says of itself and of the moment, or adds by our own promise.
_OF_THE_SERVER = {
    "connection", "content-length", "date", "keep-alive", "server", "transfer-encoding",
    "sec-websocket-accept", "sec-websocket-extensions", "x-request-id",
}  # fmt: skip
_VOLATILE = tuple(
    re.compile(pattern)
    for pattern in (
        r"[\w-]+(?:\.[\w-]{5,8})?\.[\w-]{27,}",  # what itsdangerous has signed, maybe with its time
        r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        r"[0-9a-f]{32,}",
        r"\b1[0-9]{12}\b",  # milliseconds since 1970
        r"\d{1,2}:\d\d:\d\d(?:\s[AP]M| GMT)",
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?",
        r"\d+(?:\.\d+)?(?:e-\d+)?(?=ms)",
        r'(?<="query_ms": )[\d.e-]+',
        r"127\.0\.0\.1:\d+",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One answer: what was asked for, what is compared, and whether it was as expected."""

    what: str
    path: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: str
    as_expected: bool
    request_ids: int


@dataclass(slots=True)
class Visitor:
    """Somebody with a browser's memory for cookies who looks at every answer."""

    client: httpx.Client
    steps: list[Step] = field(default_factory=list)

    def ask(
        self, what: str, method: str, path: str, *, status: int = 200, sees: str = "", **more: Any
    ) -> httpx.Response:
        """Ask, and keep the answer; `sees` must be in its body and `status` must be its status."""
        answer = self.client.request(method, path, **more)
        self.steps.append(
            Step(
                what=what,
                path=path,
                status=answer.status_code,
                headers=tuple(sorted(_plain(answer.headers))),
                body=steady(answer.text),
                as_expected=answer.status_code == status and sees in answer.text,
                request_ids=len(answer.headers.get_list("x-request-id")),
            )
        )
        return answer

    def talk(
        self,
        what: str,
        path: str,
        *,
        protocol: Subprotocol,
        says: Sequence[tuple[Any, int]],
        sees: str,
    ) -> None:
        """Open a websocket, say each of `says` and hear as many answers; `sees` is in one."""
        url = f"{self.client.base_url.copy_with(scheme='ws')}".rstrip("/") + path
        heard = []
        with connect(url, subprotocols=[protocol], proxy=None) as wire:
            for word, answers in says:
                wire.send(json.dumps(word))
                heard += [str(wire.recv(timeout=10)) for _ in range(answers)]
            answer = wire.response
            chosen = wire.subprotocol
        assert answer is not None
        headers = httpx.Headers(list(answer.headers.raw_items()))
        body = "\n".join(heard)
        self.steps.append(
            Step(
                what=what,
                path=path,
                status=answer.status_code,
                headers=tuple(sorted(_plain(headers))),
                body=steady(body),
                as_expected=chosen == protocol and sees in body,
                request_ids=len(headers.get_list("x-request-id")),
            )
        )


def steady(text: str) -> str:
    """Return `text` without what differs between two runs of one server."""
    for pattern in _VOLATILE:
        text = pattern.sub("~", text)
    return text


def _plain(headers: httpx.Headers) -> list[tuple[str, str]]:
    return [
        (name, value.partition("=")[0] if name == "set-cookie" else steady(value))
        for name, value in headers.multi_items()
        if name not in _OF_THE_SERVER and not (name == "vary" and not value)
    ]


def _csrf(page: str) -> str:
    found = re.search(r'name="(?:csrf_token|csrftoken)"[^>]*value="([^"]+)"', page)
    return found[1] if found else "none was on the page"


def ihatemoney(visitor: Visitor) -> None:
    """Share the bills of a holiday."""
    ask = visitor.ask
    page = ask("front page", "GET", "/", sees="Manage your shared").text
    project = {
        "name": "Holiday", "id": "holiday", "password": "sea", "contact_email": "a@example.org",
        "default_currency": "XXX", "project_history": "on",
    }  # fmt: skip
    ask("create without the token", "POST", "/create", data=project, sees="CSRF")
    page = ask("form", "GET", "/create", sees="csrf_token").text
    token = {"csrf_token": _csrf(page)}
    ask("create a project", "POST", "/create", data={**project, **token}, status=302)
    page = ask("its page", "GET", "/holiday/", sees="Holiday").text
    for name in ("Ann", "Bob"):
        form = {"name": name, "weight": "1", **token}
        ask(f"add {name}", "POST", "/holiday/members/add", data=form, status=302)
    page = ask("form for a bill", "GET", "/holiday/add", sees="Bob").text
    payers = re.findall(r'name="payed_for"[^>]*value="(\d+)"', page) or ["1", "2"]
    bill = {
        "date": "2026-01-31", "what": "Tent", "payer": payers[0], "amount": "84.50",
        "payed_for": payers, "bill_type": "Expense", "original_currency": "XXX", **token,
    }  # fmt: skip
    ask("add a bill", "POST", "/holiday/add", data=bill, status=302)
    ask("read it back", "GET", "/holiday/", sees="Tent")
    ask("who owes whom", "GET", "/holiday/settle_bills", sees="42.25")
    ask("statistics", "GET", "/holiday/statistics", sees="Ann")
    ask("history", "GET", "/holiday/history", sees="Tent")
    ask("as CSV", "GET", "/holiday/export/bills.csv", sees="84.5")
    ask("its API", "GET", "/api/projects/holiday/bills", auth=("holiday", "sea"), sees="Tent")
    ask(
        "its API, wrong password", "GET", "/api/projects/holiday", auth=("holiday", "x"), status=401
    )
    ask("log out", "POST", "/exit", data=token, status=302)
    ask("then it is closed", "GET", "/holiday/", status=303)
    page = ask("form to log in", "GET", "/authenticate?project_id=holiday", sees="password").text
    wrong = {"id": "holiday", "password": "mountain", "csrf_token": _csrf(page)}
    ask("wrong password", "POST", "/authenticate", data=wrong, sees="not the right one")
    ask("log in", "POST", "/authenticate", data={**wrong, "password": "sea"}, status=302)
    ask("then it is open", "GET", "/holiday/", sees="Tent")
    ask("static file", "GET", "/static/css/main.css", sees="{")
    ask("only its head", "HEAD", "/static/css/main.css")
    ask("what is not there", "GET", "/no/such/page/here", status=404)
    ask("a method that is not allowed", "DELETE", "/create", status=405)


def datasette(visitor: Visitor) -> None:
    """Look into a database of things, and add one."""
    ask = visitor.ask
    ask("front page", "GET", "/", sees="items")
    ask("a table", "GET", "/items/items", sees="lamp")
    ask("a row", "GET", "/items/items/1", sees="lamp")
    ask("as JSON", "GET", "/items/items.json?_shape=array", sees='"name": "lamp"')
    ask("as CSV, streamed", "GET", "/items/items.csv?_stream=1", sees="lamp")
    ask("SQL", "GET", "/items.json?sql=select+count(*)+from+items", sees="1000")
    ask("wrong SQL", "GET", "/items.json?sql=selec", status=400, sees="Statement must be a SELECT")
    page = ask("form", "GET", "/items/add_item", sees="csrftoken").text
    wrong = {"name": "kettle", "price": "30", "csrftoken": "x"}
    ask("write with a wrong token", "POST", "/items/add_item", data=wrong, status=403)
    form = {**wrong, "csrftoken": _csrf(page)}
    ask("write", "POST", "/items/add_item", data=form, status=302)
    ask("read it back", "GET", "/items/items.json?name=kettle&_shape=array", sees="kettle")
    ask("nobody is logged in", "GET", "/-/actor.json", sees="null")
    # What Datasette gives to whoever opens the link that it prints with --root.
    cookie = URLSafeSerializer("not-a-secret", "actor").dumps({"a": {"id": "root"}})
    visitor.client.cookies.set("ds_actor", str(cookie))
    ask("logged in", "GET", "/-/actor.json", sees='"root"')
    page = ask("form to log out", "GET", "/-/logout", sees="root").text
    ask("log out", "POST", "/-/logout", data={"csrftoken": _csrf(page)}, status=302)
    ask("static file", "GET", "/-/static/app.css", sees="{")
    ask("only its head", "HEAD", "/items/items")
    ask("what is not there", "GET", "/items/nothing", status=404, sees="404")


def mlflow(visitor: Visitor) -> None:
    """Track an experiment."""
    ask = visitor.ask
    api = "/api/2.0/mlflow"
    ask("front page", "GET", "/", sees="MLflow")
    ask("version", "GET", "/version")
    made = ask("create", "POST", f"{api}/experiments/create", json={"name": "tides"}).json()
    which = {"experiment_id": made.get("experiment_id", "")}
    ask(
        "create it twice", "POST", f"{api}/experiments/create", json={"name": "tides"}, status=400,
        sees="RESOURCE_ALREADY_EXISTS",
    )  # fmt: skip
    ask("read it back", "GET", f"{api}/experiments/get", params=which, sees="tides")
    spring = {"start_time": 1, "run_name": "spring"}
    run = ask("a run", "POST", f"{api}/runs/create", json={**which, **spring}).json()
    run_id = run.get("run", {}).get("info", {}).get("run_id", "")
    metric = {"run_id": run_id, "key": "height", "value": 2.5, "timestamp": 1, "step": 0}
    ask("a metric", "POST", f"{api}/runs/log-metric", json=metric)
    ask("read it back", "GET", f"{api}/runs/get", params={"run_id": run_id}, sees="height")
    search = {"experiment_ids": [which["experiment_id"]], "filter": "metrics.height > 2"}
    ask("search", "POST", f"{api}/runs/search", json=search, sees="height")
    ask("wrong search", "POST", f"{api}/runs/search", json={**search, "filter": "("}, status=400)
    place = f"/api/2.0/mlflow-artifacts/artifacts/{which['experiment_id']}/{run_id}/note.txt"
    ask("a file", "PUT", place, content=b"ebb and flow" * 20_000)
    ask("read it back", "GET", place, sees="ebb and flow")
    ask("static file", "GET", "/static-files/favicon.ico")
    ask("what is not there", "GET", f"{api}/no-such-thing", status=404)
    ask("a method that is not allowed", "GET", f"{api}/experiments/create", status=405)
    ask("a run that is not there", "GET", f"{api}/runs/get", params={"run_id": "x"}, status=404)


def dagster(visitor: Visitor) -> None:
    """Look at an orchestrator that has nothing to do, and set a limit."""

    def query(what: str, text: str, *, status: int = 200, sees: str) -> None:
        visitor.ask(what, "POST", "/graphql", json={"query": text}, status=status, sees=sees)

    page = visitor.ask("front page", "GET", "/", sees="Dagster").text
    visitor.ask("versions", "GET", "/server_info", sees="dagster_version")
    query("a question", "{ version }", sees='"version"')
    query("a wrong question", "{ no }", status=400, sees="Cannot query field")
    visitor.ask("no question", "GET", "/graphql", status=400, sees="No GraphQL query")
    query(
        "a limit", 'mutation { setConcurrencyLimit(concurrencyKey: "db", limit: 2) }', sees="true"
    )
    query(
        "read it back", '{ instance { concurrencyLimit(concurrencyKey: "db") { slotCount } } }',
        sees='"slotCount":2',
    )  # fmt: skip
    run = 'subscription { pipelineRunLogs(runId: "none") { __typename } }'
    visitor.talk(
        "events, by websocket",
        "/graphql",
        protocol=Subprotocol("graphql-ws"),
        says=(
            ({"type": "connection_init"}, 1),
            # What it has to tell, and that this is all.
            ({"type": "start", "id": "1", "payload": {"query": run}}, 2),
            ({"type": "start", "id": "2", "payload": {"query": "subscription { oops }"}}, 1),
        ),
        sees="PipelineRunLogsSubscriptionFailure",
    )
    script = re.search(r'src="(/_next/static/[^"]+\.js)"', page)
    visitor.ask("static file", "GET", script[1] if script else "/none", sees="function")
    visitor.ask("only its head", "HEAD", "/favicon.png")
    visitor.ask("a page of the browser's own", "GET", "/runs/synthetic", sees="Dagster")
    visitor.ask("what is not there", "GET", "/notebook?path=no&repoLocName=no", status=400)
    visitor.ask("a method that is not allowed", "PUT", "/server_info", status=405)


VISITS: Mapping[str, Any] = {
    "ihatemoney": ihatemoney,
    "datasette": datasette,
    "mlflow": mlflow,
    "dagster-webserver": dagster,
}
