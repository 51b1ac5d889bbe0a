"""What the service may be told about its page tokens: section [pages]."""

from dataclasses import dataclass

from shipworthy.settings import Secret, duration, secret, section

# 32 characters of base64 are 192 bits.
SHORTEST_KEY = 32


@section("pages")
@dataclass(frozen=True, slots=True, kw_only=True)
class PageSettings:
    """What page tokens are signed with, and how long they are good."""

    keys: Secret = secret(  # noqa: RUF009 - it makes a field
        "what signs page tokens: keys separated by spaces or lines; the first signs, all verify"
    )
    life_seconds: float = duration("1d", "how long a page token is good", minimum="1s")

    def refusals(self, environment: str) -> list[str]:
        """Return what `environment` refuses; development refuses nothing."""
        if environment == "development":
            return []
        return [
            f"pages.keys: key {number} has {len(key)} characters, use at least {SHORTEST_KEY} "
            "random ones"
            for number, key in enumerate(self.keys.reveal().split(), 1)
            if len(key) < SHORTEST_KEY
        ]
