"""The index page: what it shows, to whom, and that nothing in it is taken for markup."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from shipworthy.lifecycle import Answer
from shipworthy.operations.actions import ActionFacts
from shipworthy.operations.page import age, index_page, stylesheet
from shipworthy.operations.routes import own_endpoints

NOW = 1_700_003_600.0


class Reading(HTMLParser):
    """Reads a page into its elements and its text; unbalanced elements show in `open`."""

    VOID = frozenset({"meta", "link"})

    def __init__(self, page):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data.split()

    @property
    def text(self):
        return " ".join(self.words)


@pytest.fixture
def read(service):
    """Read the page of some facts."""

    def page(facts, *, detailed=True, actions=()):
        endpoints = own_endpoints(service, ())
        text = index_page(
            facts,
            endpoints,
            actions=actions,
            here="http://localhost:9000",
            now_wall=NOW,
            detailed=detailed,
        )
        return Reading(text)

    return page


def test_a_service_that_is_well_shows_what_runs_and_how_it_is(facts, read):
    """Target, environment, age, phase, answers, worker and check are on the page."""
    page = read(facts)

    assert page.open == []
    for words in (
        "orders.main:app",
        "production, under Shipworthy 0.1.0 for 1 h since 2023-11-14 22:13:20 UTC",
        "Phase ready",
        "Ready yes",
        "4711 ready 3 12 87.0 MiB 0.2 s ago 0",
        "orders-db 4711 pass 1.5 s ago 2.1 ms",
    ):
        assert words in page.text


@pytest.mark.parametrize(
    ("change", "head", "row"),
    [
        ({}, "Ready", "Ready yes"),
        ({"ready": Answer(False, "draining")}, "Not ready : draining", "Ready no : draining"),
        ({"live": Answer(False, "it stands")}, "Not live : it stands", "Live no : it stands"),
    ],
)
def test_the_verdict_stands_in_title_and_head_with_its_reason(facts, read, change, head, row):
    """A tab is enough for the verdict, a glance for its reason; the table has every answer."""
    page = read(replace(facts, **change))

    assert page.text.startswith(f"{head.partition(' :')[0]} - orders.main:app orders.main:app")
    assert f"UTC {head} State" in page.text
    assert row in page.text


def test_a_blocked_worker_and_a_failing_check_are_told(facts, read):
    """What is known of a loop that stands and what the check said are on the page, redacted."""
    check = facts.workers[0].health["checks"][0]
    wrong = check | {
        "status": "fail",
        "age_seconds": None,
        "output": "postgresql://user:hunter2@db refused",
    }
    worker = replace(facts.workers[0], blocked="its loop stands", health={"checks": [wrong]})

    page = read(replace(facts, workers=(worker,)))

    assert "Ready, with warnings" in page.text
    assert "ready, blocked: its loop stands" in page.text
    assert "fail : postgresql://user:***@db refused not yet" in page.text


def test_databases_stand_with_their_breaker_and_their_pool(facts, read):
    """A pool without a limit says so; a breaker that refuses is marked, and so is the whole."""
    pools = [
        {"name": "main", "capacity": 15, "in_use": 3, "waiting": 2, "breaker": "open"},
        {"name": "main-2", "capacity": None, "in_use": 0, "waiting": 0, "breaker": "closed"},
    ]
    worker = replace(facts.workers[0], health={"databases": pools})

    page = read(replace(facts, workers=(worker,)))

    assert page.open == []
    assert "Databases Database Process Breaker In use Of Waiting" in page.text
    assert "main 4711 open 3 15 2" in page.text
    assert "main-2 4711 closed 0 no limit 0" in page.text
    assert "Ready, with warnings" in page.text
    assert ("span", {"class": "warn"}) in page.elements


def test_actions_stand_with_the_command_that_starts_or_stops_them(facts, read):
    """What runs says for how long; what failed says why; the token is a variable."""
    actions = [
        ActionFacts(
            name=name,
            sentence="It rocks.",
            running=running,
            left_seconds=12.0 if running else 0.0,
            failed=failed,
        )
        for name, running, failed in (("a", False, ""), ("b", True, ""), ("c", False, "no boat"))
    ]

    page = read(facts, actions=actions)

    curl = 'curl -X {} -H "Authorization: Bearer $TOKEN" http://localhost:9000/api/actions/{}'
    assert page.open == []
    assert f"a does not run It rocks. {curl.format('POST', 'a')}" in page.text
    assert f"b runs for 12 s more It rocks. {curl.format('DELETE', 'b')}" in page.text
    assert f"c failed : no boat It rocks. {curl.format('POST', 'c')}" in page.text


def test_without_databases_and_actions_the_page_says_nothing_of_them(facts, read):
    """Most services have no action, and some no database."""
    page = read(facts)

    assert "Databases" not in page.text
    assert "Actions" not in page.text


def test_empty_states_say_what_to_do(facts, read):
    """Without workers and checks the page says where to look and what to set."""
    page = read(replace(facts, workers=()))

    assert "No worker is running. The log says why" in page.text
    assert "lifecycle.ready_route" in page.text


def test_every_endpoint_is_listed_and_those_that_are_open_are_links(facts, read, service):
    """The list derives from the declarations; what needs a token or a method is no link."""
    page = read(facts)

    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert links == ["/livez", "/readyz", "/startupz", "/health", "/metrics", "/", "/style.css"]
    for endpoint in own_endpoints(service, ()):
        assert f"{endpoint.method} {endpoint.public_path} {endpoint.summary}" in page.text


def test_without_details_the_page_tells_the_verdict_only(facts, read):
    """No target, reason, worker, check or version is shown to those who may not have them."""
    page = read(replace(facts, ready=Answer(False, "check 'orders-db' failed")), detailed=False)

    assert page.open == []
    assert page.text == (
        "Not ready Operations port Not ready This port listens on more than loopback, "
        "so details are shown to the operations token only."
    )


def test_whatever_others_wrote_stays_text(facts, read):
    """Markup in a target, a phase, a reason, a place or a check is shown, never obeyed."""
    evil = "<script>alert(1)</script><img src=x onerror='x'>\"'"
    check = facts.workers[0].health["checks"][0]
    worker = replace(
        facts.workers[0],
        phase=evil,
        blocked=evil,
        health={"checks": [check | {"name": evil, "output": evil}]},
    )

    page = read(
        replace(
            facts,
            target=evil,
            environment=evil,
            version=evil,
            phase=evil,
            live=Answer(True, evil),
            ready=Answer(False, evil),
            workers=(worker,),
        )
    )

    assert page.open == []
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "img"})
    assert page.text.count("<script>alert(1)</script>") == 12


def test_nothing_on_the_page_is_loaded_from_elsewhere(facts, read):
    """One style sheet of ours; no script, no inline style, no address of another host."""
    page = read(facts)

    assert [a["href"] for tag, a in page.elements if tag == "link"] == ["/style.css"]
    assert "script" not in {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert "style" not in attributes
        assert "//" not in "".join(value or "" for value in attributes.values())
    assert b"url(" not in stylesheet()
    assert b"@import" not in stylesheet()


def test_the_style_sheet_knows_light_and_dark():
    """Every colour of the light theme has its counterpart in the dark one."""
    light, dark = stylesheet().decode().split("prefers-color-scheme: dark")

    def names(sheet):
        return {line.split(":")[0].strip() for line in sheet.splitlines() if ": #" in line}

    assert names(light) == names(dark)
    assert names(light) >= {"--ground", "--ink"}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-0.1, "0.0 s"),
        (0, "0.0 s"),
        (0.26, "0.3 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (86_400 + 59, "1 d"),
        (2 * 86_400 + 4 * 3600, "2 d 4 h"),
    ],
)
def test_a_length_is_told_in_its_two_largest_units(seconds, expected):
    """Short ones have a decimal; what is below the second unit is left out."""
    assert age(seconds) == expected
