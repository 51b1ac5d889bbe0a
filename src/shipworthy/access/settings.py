"""The settings of who may come in: section `access`."""

from dataclasses import dataclass

from shipworthy.settings import option, section


@section("access")
@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSettings:
    """Where the tokens for the operations port are kept."""

    tokens_file: str = option(
        "",
        "the file of the tokens that `shipworthy tokens` makes; without one there are none but "
        "operations.token",
    )
