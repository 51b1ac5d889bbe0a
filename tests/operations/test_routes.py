"""The endpoints of the room, and the page of the reference that lists them."""

import re
from pathlib import Path

from shipworthy.events import Catalogue
from shipworthy.operations import (
    Audience,
    RecordedApi,
    trail_endpoints,
    trash_endpoints,
    watch_endpoints,
)
from shipworthy.operations.routes import own_endpoints
from shipworthy.settings import load
from shipworthy.telemetry import Memory, Registry

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "operations.md"


def test_the_reference_lists_every_endpoint_with_its_audience(service, tmp_path):
    """The tables of docs/reference/operations.md have what `run` offers, in its order."""
    row = re.compile(r"^\| `(GET|POST) (/\S*)` \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)
    settings = load(directory=tmp_path, environ={})
    recorded = RecordedApi(settings)

    listed = row.findall(REFERENCE.read_text(encoding="utf-8"))

    offered = (
        *own_endpoints(service, ()),
        *trash_endpoints(recorded, settings),
        *trail_endpoints(recorded, settings),
        *watch_endpoints(Memory(settings, Registry(), tmp_path, Catalogue())),
    )
    assert listed == [(e.method, e.public_path, e.audience.value) for e in offered]


def test_everything_under_the_api_needs_the_token(service):
    """No endpoint below /api is open to anybody else."""
    below = [e for e in own_endpoints(service, ()) if e.path.startswith("/api/")]

    assert {endpoint.audience for endpoint in below} == {Audience.TOKEN}
    assert len(below) == 13


def test_only_commands_use_an_unsafe_method(service):
    """Reading is GET throughout, so that no link and no prefetch changes anything."""
    unsafe = [e.public_path for e in own_endpoints(service, ()) if e.method != "GET"]

    assert unsafe == [
        "/api/breakers/{name}/isolate",
        "/api/breakers/{name}/close",
        "/api/drain",
        "/api/restart",
    ]
