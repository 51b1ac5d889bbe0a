"""Which roles each endpoint of the operations port asks for, in one table. Pure.

An endpoint that is not in it asks for an admin, so that forgetting a row opens nothing.
"""

from collections.abc import Mapping
from typing import Final

from shipworthy.access import ADMINS, OPERATORS, READERS, VIEWERS, AccessRole
from shipworthy.operations.access import Audience
from shipworthy.operations.endpoint import Endpoint

# By method and path, of the endpoints that nobody is let to without a token.
NEEDS: Final[Mapping[tuple[str, str], frozenset[AccessRole]]] = {
    ("GET", "/api/status"): READERS,
    ("GET", "/api/lifecycle"): READERS,
    ("GET", "/api/openapi.json"): READERS,
    ("GET", "/api/audit"): READERS,
    ("GET", "/api/audit/entries"): READERS,
    ("GET", "/api/requests"): VIEWERS,
    ("GET", "/api/breakers"): VIEWERS,
    ("GET", "/api/databases"): VIEWERS,
    ("GET", "/api/security"): VIEWERS,
    ("GET", "/api/security/csp"): VIEWERS,
    ("GET", "/api/config"): VIEWERS,
    ("GET", "/api/series"): VIEWERS,
    ("GET", "/api/panels"): VIEWERS,
    ("GET", "/api/alerts"): VIEWERS,
    ("GET", "/api/actions"): VIEWERS,
    ("GET", "/api/trash"): VIEWERS,
    ("GET", "/api/trash/{id}"): VIEWERS,
    # It asks the database to try a restore, and takes nothing back.
    ("GET", "/api/trash/{id}/plan"): VIEWERS,
    ("POST", "/api/breakers/{name:path}/isolate"): OPERATORS,
    ("POST", "/api/breakers/{name:path}/close"): OPERATORS,
    ("POST", "/api/drain"): OPERATORS,
    ("POST", "/api/restart"): OPERATORS,
    ("POST", "/api/actions/{name}"): OPERATORS,
    ("DELETE", "/api/actions/{name}"): OPERATORS,
    ("POST", "/api/trash/{id}/restore"): OPERATORS,
    ("POST", "/api/trash/{id}/undo"): OPERATORS,
    ("POST", "/api/trash/{id}/hold"): OPERATORS,
    # Nothing brings back what was purged.
    ("POST", "/api/trash/{id}/purge"): ADMINS,
}


def roles_for(endpoint: Endpoint) -> frozenset[AccessRole]:
    """Return the roles whose bearers `endpoint` answers."""
    match endpoint.audience:
        case Audience.PROBE | Audience.STATUS:
            return READERS
        case Audience.SCRAPE:
            return VIEWERS
        case _:
            return NEEDS.get((endpoint.method, endpoint.path), ADMINS)
