"""The settings of the operations port: section `operations`."""

from dataclasses import dataclass

from shipworthy.operations.access import is_loopback
from shipworthy.settings import Secret, option, secret, section

# 24 characters of base64 are 144 bits: more than anybody guesses over a network.
SHORTEST_TOKEN = 24


@section("operations")
@dataclass(frozen=True, slots=True, kw_only=True)
class OperationsSettings:
    """Where the operations port listens, and whom it answers."""

    host: str = option("127.0.0.1", "the address of the operations port")
    port: int = option(
        9000,
        "the operations port; 0 means any free one",
        minimum=0,
        maximum=65535,
        flag="--ops-port",
    )
    allowed_hosts: tuple[str, ...] = option(
        (), "host names clients may use for the operations port, besides localhost and its address"
    )
    token: Secret = secret(  # noqa: RUF009 - it makes a field
        "the bearer token of /api; when not set, each start makes one",
        least_characters=SHORTEST_TOKEN,
    )
    scrape_token: Secret = secret(  # noqa: RUF009
        "a bearer token that opens /metrics and nothing else", least_characters=SHORTEST_TOKEN
    )

    @property
    def url(self) -> str:
        """Where a command on this machine finds the port; not to be found where it is any."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def refusals(self, environment: str) -> list[str]:
        """Return what `environment` refuses; development refuses nothing."""
        if environment == "development":
            return []
        if not is_loopback(self.host) and not self.token:
            unusable = (
                f"operations.token: not set while operations.host is '{self.host}'; the token made "
                "at start is printed on a terminal only, so nobody could use /api"
            )
            return [unusable]
        return []
