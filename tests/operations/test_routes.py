"""The endpoints of the room, and the page of the reference that lists them."""

import re
from pathlib import Path

from shipworthy.operations import Audience
from shipworthy.operations.routes import own_endpoints

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "operations.md"


def test_the_reference_lists_every_endpoint_with_its_audience(service):
    """The table of docs/reference/operations.md has the declared endpoints, in their order."""
    row = re.compile(r"^\| `(GET|POST) (/\S*)` \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)

    listed = row.findall(REFERENCE.read_text(encoding="utf-8"))

    declared = [(e.method, e.public_path, e.audience.value) for e in own_endpoints(service, ())]
    assert listed == declared


def test_everything_under_the_api_needs_the_token(service):
    """No endpoint below /api is open to anybody else."""
    below = [e for e in own_endpoints(service, ()) if e.path.startswith("/api/")]

    assert {endpoint.audience for endpoint in below} == {Audience.TOKEN}
    assert len(below) == 11


def test_only_commands_use_an_unsafe_method(service):
    """Reading is GET throughout, so that no link and no prefetch changes anything."""
    unsafe = [e.public_path for e in own_endpoints(service, ()) if e.method != "GET"]

    assert unsafe == [
        "/api/breakers/{name}/isolate",
        "/api/breakers/{name}/close",
        "/api/drain",
        "/api/restart",
    ]
