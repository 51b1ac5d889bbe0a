"""What the service may be told about its databases: section [db]."""

from dataclasses import dataclass, replace
from typing import Final, Literal, Self

from shipworthy.settings import Secret, duration, option, secret, section

URL_FORM: Final = "postgresql+psycopg://user:password@host:5432/database"


def url_problem(text: str) -> str:
    """Say why `text` is no URL of a database, without a word of it; '' for one, and for none."""
    if not text:
        return ""
    # Not above: whoever names no database needs no SQLAlchemy.
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(text)
    except (ArgumentError, ValueError) as error:
        # What is said there may be the URL, and the URL may hold a password.
        said = str(error)
        is_port = "invalid literal for int" in said or "port" in said.lower()
        return "its port is no number" if is_port else "it cannot be read"
    return ""


@section("db")
@dataclass(frozen=True, slots=True, kw_only=True)
class DbSettings:
    """How long things around a database may take; a length of 0 is no limit of ours."""

    mode: Literal["off", "report", "enforce"] = option(
        "enforce",
        "off: engines are left alone; report: what is slow or leaked is told, nothing is cut or "
        "refused; enforce: every wait has a deadline, and a breaker",
    )
    url: Secret = secret(  # noqa: RUF009 - it makes a field
        "the database that commands, and what keeps tables of its own, work on; SQLAlchemy's form"
    )
    checkout_seconds: float = duration(
        "5s", "how long a caller waits for a connection to come back, a shorter pool_timeout wins"
    )
    connect_seconds: float = duration(
        "3s", "how long a new connection may take, with its handshake and the check before use"
    )
    statement_seconds: float = duration("30s", "how long a statement may run before it is cut")
    server_limit: bool = option(
        True,  # noqa: FBT003
        "whether the server is told the limit too, by one statement on each new connection",
    )
    statement_warn_seconds: float = duration("5s", "how long a statement runs before it is named")
    reset_seconds: float = duration(
        "1s", "how long the rollback of a returned connection may take before the socket is cut"
    )
    deadlocks: Literal["refuse", "wait"] = option(
        "refuse",
        "whether a caller is refused at once whose connection would never come, or waits",
    )
    leak_after_seconds: float = duration(
        "30s", "how long a connection is out before the line that took it is named"
    )
    required: tuple[str, ...] = option(
        (), "names of the databases without which this service is not ready"
    )

    def in_force(self) -> Self:
        """Return what is done in this mode: in `report` no limit of ours holds."""
        if self.mode != "report":
            return self
        return replace(
            self,
            checkout_seconds=0.0,
            connect_seconds=0.0,
            statement_seconds=0.0,
            server_limit=False,
            reset_seconds=0.0,
            deadlocks="wait",
        )

    def refusals(self, environment: str) -> list[str]:
        """Name a URL that is none, and lengths that contradict each other; refused everywhere."""
        del environment
        problem = url_problem(self.url.reveal())
        found = [f"db.url: {problem}; its form is {URL_FORM}"] if problem else []
        if 0 < self.statement_seconds <= self.statement_warn_seconds:
            found.append(
                f"db.statement_warn = {self.statement_warn_seconds:g} s is never reached: "
                f"db.statement cuts after {self.statement_seconds:g} s; make it shorter"
            )
        return found
