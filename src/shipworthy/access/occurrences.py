"""The facts this room states."""

from typing import Annotated

from shipworthy.events import Event, Measure, Severity, event


@event(severity=Severity.INFO)
class TokensRead(Event):
    """The file of tokens was read anew; what it says holds from now on."""

    tokens: Annotated[int, Measure]


@event(severity=Severity.ERROR)
class TokensUnread(Event):
    """The file of tokens cannot be used; the tokens from before it was so are kept."""

    because: str


@event(severity=Severity.WARNING)
class TokenUseUnsaved(Event):
    """When tokens were last used cannot be written beside their file; they open as before."""

    because: str
