"""Gentle traffic against the demo: mostly readers, now and then a project that comes and goes.

A process of its own (`python -m shipworthy.demo.traffic URL --parent PID`), so that it shares no
loop and no memory with what it looks at. At most `PER_SECOND` requests a second, one at a time. It
deletes whatever it creates, and at its start and every minute whatever an earlier one left behind,
so the database stays as large as it was. It ends on SIGTERM or SIGINT, or when `PID` is gone, and
writes one line at its end: how many requests it made, and how many of them failed. No request is
made a second time, so that none that failed is hidden.
"""

import argparse
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote, urlsplit

PER_SECOND = 10.0
TIMEOUT_SECONDS = 10.0
SWEEP_SECONDS = 60.0
# Every project of ours begins so, which is how leftovers are found.
MARK = "Visiting: "
# Who the trail says made its changes.
ACTOR = "traffic"
SHIPS = ("Aurora", "Bela Vista", "Cormorant", "Dona Inês", "Esperança", "Fair Wind", "Gannet")
# Out of this many visits one writes.
WRITES_ONE_IN = 8


@dataclass(frozen=True, slots=True)
class Errand:
    """One request."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What was answered; status 0, and `lost` with the reason, when there was no whole answer."""

    status: int
    body: Any = None
    lost: str = ""


Visit = Generator[Errand, Told, None]

REFUSED = "refused"
CUT = "cut off"
LATE = f"no answer in {TIMEOUT_SECONDS:g} s"


@dataclass(slots=True)
class TrafficCount:
    """What became of the requests.

    One has failed when it got no answer, or another one than a visitor expects: done, or 404 for
    what is not there. Refusals that nothing follows are told apart: the service had ended.
    """

    asked: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    refused_since_answer: int = 0

    def add(self, told: Told) -> None:
        """Count one more request."""
        if told.lost == REFUSED:
            self.refused_since_answer += 1
            return
        # It was not the end: whoever was refused meanwhile is one that failed.
        self.asked += self.refused_since_answer + 1
        self.failures[REFUSED] += self.refused_since_answer
        self.refused_since_answer = 0
        if told.lost:
            self.failures[told.lost] += 1
        elif told.status >= 400 and told.status != 404:
            self.failures[f"answered {told.status}"] += 1

    def sentence(self) -> str:
        """Say it in one line."""
        said = f"traffic: {self.asked:,} requests, {self.failures.total():,} failed"
        kinds = [f"{count:,} {kind}" for kind, count in sorted(self.failures.items()) if count]
        if kinds:
            said += f" ({', '.join(kinds)})"
        if self.refused_since_answer:
            said += f"; {self.refused_since_answer:,} more found nobody there any more"
        return said


def browse(draw: Random) -> Visit:
    """Look at a page of projects, open one, and look at one of its epics."""
    sort = draw.choice(("name", "-name", "created_at", "-budget"))
    listed = yield Errand("GET", f"/projects?size=20&sort={sort}")
    projects = listed.body["items"] if listed.status == 200 else []
    if not projects:
        return
    opened = yield Errand("GET", f"/projects/{draw.choice(projects)['id']}")
    epics = opened.body["epics"] if opened.status == 200 else []
    if epics:
        yield Errand("GET", f"/epics/{draw.choice(epics)['id']}")


def look_around(draw: Random) -> Visit:
    """Read what people keep open on a second screen, and sometimes something that is not there."""
    yield Errand("GET", f"/tasks?status={draw.choice(('todo', 'doing', 'blocked'))}")
    yield Errand("GET", "/summary")
    yield Errand("GET", "/clients?q=" + draw.choice("aeiou"))
    if draw.random() < 0.2:
        yield Errand("GET", "/projects/2147483647")


def export(draw: Random) -> Visit:
    """Download all tasks of one project."""
    listed = yield Errand("GET", "/projects?size=100")
    if listed.status == 200 and listed.body["items"]:
        yield Errand("GET", f"/projects/{draw.choice(listed.body['items'])['id']}/export")


def plan_and_cancel(draw: Random) -> Visit:
    """Create a project with an epic and a few tasks, work on them, and delete it all again."""
    clients = yield Errand("GET", "/clients?size=100")
    if clients.status != 200 or not clients.body["items"]:
        return
    client = draw.choice(clients.body["items"])["id"]
    name = f"{MARK}{draw.choice(SHIPS)} {draw.randrange(1000)}"
    project = yield Errand("POST", f"/clients/{client}/projects", {"name": name})
    if project.status != 201:
        return
    home = f"/projects/{project.body['id']}"
    epic = yield Errand("POST", f"{home}/epics", {"name": "Before she sails"})
    if epic.status == 201:
        tasks = f"/epics/{epic.body['id']}/tasks"
        parent = None
        for title in ("Fuel and water", "Fill the aft tank", "Sign the receipt"):
            task = yield Errand("POST", tasks, {"title": title, "parent_id": parent})
            if task.status != 201:
                break
            parent = task.body["id"]
            yield Errand("PATCH", f"/tasks/{parent}", {"status": draw.choice(("doing", "done"))})
    yield Errand("DELETE", home)


def sweep() -> Visit:
    """Delete the projects that an interrupted visit left behind."""
    left = yield Errand("GET", f"/projects?size=100&q={quote(MARK)}")
    for project in left.body["items"] if left.status == 200 else []:
        if project["name"].startswith(MARK):
            yield Errand("DELETE", f"/projects/{project['id']}")


def visits(draw: Random, now: Callable[[], float]) -> Generator[Visit, None, None]:
    """Yield one visit after the other, for ever: readers, some writers, a sweep each minute."""
    swept = -SWEEP_SECONDS
    while True:
        if now() - swept >= SWEEP_SECONDS:
            swept = now()
            yield sweep()
        elif draw.randrange(WRITES_ONE_IN) == 0:
            yield plan_and_cancel(draw)
        else:
            yield draw.choice((browse, browse, look_around, export))(draw)


class Caller:
    """Sends one request after the other over a kept connection; never raises for what happens."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_SECONDS)

    def __call__(self, ask: Errand) -> Told:
        body = None if ask.body is None else json.dumps(ask.body)
        headers = {
            "Accept": "application/json",
            "User-Agent": "shipworthy-demo-traffic",
            "X-User": ACTOR,
        }
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            self._connection.request(ask.method, ask.path, body, headers)
            response = self._connection.getresponse()
            content = response.read()
            if response.headers.get_content_type() != "application/json" or not content:
                return Told(response.status)
            return Told(response.status, json.loads(content))
        except ConnectionRefusedError:
            lost = REFUSED
        except TimeoutError:
            lost = LATE
        except (OSError, http.client.HTTPException, ValueError):
            # Half an answer is none, nor is one that says it is JSON and is not.
            lost = CUT
        self.close()
        return Told(0, lost=lost)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._connection.close()


def drive(
    visiting: Generator[Visit, None, None],
    call: Callable[[Errand], Told],
    pause: Callable[[], bool],
) -> None:
    """Make the visits until `pause`, asked before each request, answers that it is over."""
    for visit in visiting:
        answer = None
        while True:
            try:
                ask = next(visit) if answer is None else visit.send(answer)
            except StopIteration:
                break
            if pause():
                return
            answer = call(ask)


def main(arguments: list[str]) -> int:
    """Run until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m shipworthy.demo.traffic", description=__doc__)
    parser.add_argument("url", help="where the demo answers, such as http://127.0.0.1:8000")
    parser.add_argument("--parent", type=int, default=os.getppid(), help="end when it is gone")
    parser.add_argument("--seed", type=int, default=None, help="the same visits every time")
    options = parser.parse_args(arguments)

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def pause() -> bool:
        # A full pause before every request: a slow service is asked less often, never in a burst.
        return stop.wait(1 / PER_SECOND) or os.getppid() != options.parent

    draw = Random(options.seed)  # noqa: S311 - which page to look at is no secret
    caller = Caller(options.url)
    count = TrafficCount()

    def counted(ask: Errand) -> Told:
        told = caller(ask)
        count.add(told)
        return told

    drive(visits(draw, time.monotonic), counted, pause)
    caller.close()
    # Past Python's buffer, which would complain at the exit where nobody reads any more.
    with suppress(OSError):
        os.write(1, f"{count.sentence()}\n".encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
