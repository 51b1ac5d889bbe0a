"""The facts this room states."""

from typing import Annotated

from shipworthy.events import Event, Label, Severity, event


@event(severity=Severity.WARNING)
class OperatorRefused(Event):
    """A call to the operations port was refused."""

    endpoint: Annotated[str, Label]
    status: Annotated[int, Label]
    client: str
    because: str


@event()
class OperatorCommanded(Event):
    """An operator gave a command through the operations port; `by` is the name of the token."""

    command: Annotated[str, Label]
    by: str
    client: str
    outcome: str


@event(severity=Severity.WARNING)
class ActionFailed(Event):
    """An action that an operator started did not go to its end."""

    action: Annotated[str, Label]
    because: str
