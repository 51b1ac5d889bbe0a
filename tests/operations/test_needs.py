"""Which role each endpoint asks for: the table is whole, and says what people would expect."""

from pathlib import Path

import pytest

from operations.shop import everything
from shipworthy.access import ADMINS, OPERATORS, READERS, VIEWERS
from shipworthy.events import Catalogue
from shipworthy.operations import Action, Audience, Endpoint, Reply, watch_endpoints
from shipworthy.operations.needs import NEEDS, roles_for
from shipworthy.operations.routes import own_endpoints
from shipworthy.settings import load
from shipworthy.telemetry import Memory, Registry

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "access.md"


async def perform(_):
    """Do nothing for no time."""


@pytest.fixture
def offered(service, tmp_path):
    """Every endpoint that `run`, or the demo, has."""
    settings = load(directory=tmp_path, environ={})
    return (
        *own_endpoints(service, (), (Action(name="x", sentence="X.", perform=perform),)),
        *everything(""),
        *watch_endpoints(Memory(settings, Registry(), tmp_path, Catalogue())),
    )


def test_the_table_has_every_endpoint_that_asks_for_a_token_and_no_other(offered):
    """So that a new one gets its row, and one that went leaves none."""
    asking = {(one.method, one.path) for one in offered if one.audience is Audience.TOKEN}

    assert set(NEEDS) == asking


def test_a_command_asks_for_an_operator_and_reading_for_less(offered):
    """No role that only reads may command, and what cannot be taken back asks for an admin."""
    for endpoint in offered:
        if endpoint.audience is Audience.TOKEN:
            roles = roles_for(endpoint)
            assert (roles <= OPERATORS) is (endpoint.method != "GET"), endpoint.path
    assert [path for (_, path), roles in NEEDS.items() if roles == ADMINS] == [
        "/api/trash/{id}/purge"
    ]


def test_the_auditor_reads_the_trail_and_health(offered):
    """And nothing of the requests, rows and settings of the service."""
    auditors = {one.path for one in offered if roles_for(one) == READERS}

    assert auditors == {
        *("/livez", "/readyz", "/startupz", "/health", "/", "/style.css"),
        *("/api/status", "/api/lifecycle", "/api/openapi.json"),
        *("/api/audit", "/api/audit/entries"),
    }
    assert {one.path for one in offered if one.audience is Audience.SCRAPE} == {"/metrics"}
    assert all(roles_for(one) == VIEWERS for one in offered if one.path == "/metrics")


def test_an_endpoint_without_a_row_asks_for_an_admin():
    """To forget a row opens nothing."""
    new = Endpoint(
        path="/api/new",
        summary="New",
        replies=(Reply(says="It.", schema={}),),
        answer=perform,
    )

    assert roles_for(new) == ADMINS


def test_the_reference_has_the_table():
    """docs/reference/access.md says of each endpoint who is answered, in the order of the table."""
    words = {READERS: "all four", VIEWERS: "viewer", OPERATORS: "operator", ADMINS: "admin"}
    rows = [
        f"| `{method} {path.replace(':path', '')}` | {words[roles]} |"
        for (method, path), roles in NEEDS.items()
    ]

    assert "\n".join(rows) in REFERENCE.read_text(encoding="utf-8")
