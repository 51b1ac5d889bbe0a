"""What can go wrong, drawn once.

ShipworthyError
├── Misuse                 what was asked for cannot be done as it was asked (exit 2)
│   ├── UnitInvalid        a quantity that is not one: "5 parsecs", "30" where "30s" is meant
│   ├── SettingsInvalid    settings that cannot be used: every problem with its place (exit 78)
│   └── TargetInvalid      the text after `run` names no application
├── StartFailed            the service could not start (exit 3)
│   ├── ComponentFailed    a component did not start, or did not within its time
│   └── PortTaken          somebody else listens there
├── RequestInvalid         what a client sent cannot be used (400)
└── Rejected               never begun, so safe to send again; says when
    └── Draining           this process is leaving

Rooms add leaves for what only they can meet: `serve.target.AppRaised`, `web.wsgi.ThreadsBusy`.

Messages say what happened with its numbers, where that came from and what to do next; the same
facts are attributes. They start in lower case and never hold a secret.
"""

from collections.abc import Sequence


class ShipworthyError(Exception):
    """Anything Shipworthy raises on purpose."""


class Misuse(ShipworthyError):
    """What was asked for cannot be done as it was asked; the message says what would work."""


class UnitInvalid(Misuse, ValueError):
    """A text that should be a quantity with its unit, and is not."""


class SettingsInvalid(Misuse):
    """Settings that cannot be used; `problems` holds one sentence for each, with its place."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class TargetInvalid(Misuse):
    """The text after `run` names no application."""


class StartFailed(ShipworthyError):
    """The service could not start; whatever had been started was stopped again."""


class ComponentFailed(StartFailed):
    """A component did not start; `name` is the component, `seconds` how long it was given."""

    def __init__(self, name: str, because: str, *, seconds: float | None = None) -> None:
        self.name = name
        self.because = because
        self.seconds = seconds
        super().__init__(f"component '{name}' did not start: {because}")


class PortTaken(StartFailed):
    """Somebody else listens on the address; `host` and `port` say which."""

    def __init__(self, host: str, port: int, *, option: str) -> None:
        self.host = host
        self.port = port
        super().__init__(
            f"{host}:{port} is in use by another process; stop it, or choose another with {option} "
            f"(0 means any free port)"
        )


class RequestInvalid(ShipworthyError):
    """What a client sent cannot be used; the message is for the client, and tells nothing else.

    `told` is set where whoever refused it states that by itself.
    """

    status = 400
    told = False


class Rejected(ShipworthyError):
    """The call it names was never begun; what was done before that call is not undone by it.

    `told` is set where whoever rejected it states that by itself.
    """

    status = 503
    told = False

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)

    @property
    def public_detail(self) -> str:
        """Return what a client may be told; a leaf that names our inside overrides it."""
        return str(self)


class Draining(Rejected):
    """This process is leaving and takes nothing new; another instance will."""

    def __init__(self, *, retry_after_seconds: float = 1.0) -> None:
        super().__init__(
            "this instance is shutting down; send the request again",
            retry_after_seconds=retry_after_seconds,
        )
