"""Who a request is made by, found where an application that knows nothing of us leaves it.

It is looked for when somebody must know, because the application's own middleware learns it after
our guards ran. Nothing is imported that the application has not imported, no attribute is asked for
that may ask a database.

Not here: who may do what (the application), and what is recorded (`audit`).
"""

import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Annotated, Any, Final, final

from shipworthy.admission import address_of
from shipworthy.context import Actor
from shipworthy.errors import SettingsInvalid
from shipworthy.events import Event, Label, Severity, emit, event
from shipworthy.web.actor_settings import ActorSettings
from shipworthy.web.bearer import read_claims, verifier_of
from shipworthy.web.client_settings import ClientSettings
from shipworthy.web.forwarded import Forwarded, peer_of
from shipworthy.web.line import Scope

Source = Callable[[Scope], Actor | None]

# What a user is called. Ids first: an actor stands in the log for good, where no erasure reaches,
# and an id says nothing of a person once his row is gone.
_NAMES: Final = (
    "identity",
    "sub",
    "id",
    "pk",
    "get_username",
    "username",
    "email",
    "display_name",
    "name",
)


@event(severity=Severity.WARNING)
class ActorUnreadable(Event):
    """The actor of a request could not be read from where the settings say; said once for each."""

    source: Annotated[str, Label]
    because: str


@event(severity=Severity.WARNING)
class ActorHeaderRefused(Event):
    """A header named the actor and did not come from a trusted proxy; said once."""

    source: Annotated[str, Label]
    peer: str


@final
class ActorFinder:
    """Looks for the actor where the section [actor] says; the facts of a record of a request.

    `forwarded` knows whose headers name one; without it nobody's do. `asks_always`: it looks where
    every request may tell something, so an access line asks too.
    """

    def __init__(
        self,
        settings: ActorSettings,
        route_of: Callable[[Scope], str],
        *,
        forwarded: Forwarded | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.route_of = route_of
        self._forwarded = forwarded or Forwarded(ClientSettings())
        self.asks_always = any(
            not source.startswith("scope.") and source != "flask-login" for source in settings.from_
        )
        self._said: set[str] = set()
        self._wall = wall
        self._sources = [(source, self._source(source, settings)) for source in settings.from_]

    def actor_of(self, scope: Scope) -> Actor | None:
        """Return who the first source that knows names; what cannot be read names nobody."""
        for text, source in self._sources:
            try:
                found = source(scope)
            except Exception as error:  # noqa: BLE001 - an application's own property or function
                self._say(text, partial(emit, ActorUnreadable, source=text, because=repr(error)))
                continue
            if found is not None:
                return found
        return None

    def _source(self, text: str, settings: ActorSettings) -> Source:
        kind, _, rest = text.partition(":")
        if text == "flask-login":
            return _from_flask
        if not rest:
            return partial(_from_scope, tuple(text.split(".")[1:]))
        if kind == "jwt":
            return partial(self._from_token, rest, _verifier(settings))
        if kind == "header":
            return partial(self._from_header, rest.lower().encode())
        return _Asked(kind, rest)

    def _from_token(self, claim: str, verifier: Any, scope: Scope) -> Actor | None:
        sent = _once(scope, b"authorization")
        if sent is None or sent[:7].lower() != b"bearer ":
            return None
        claims = read_claims(sent[7:].strip(), verifier, self._wall())
        name = None if claims is None else claims.get(claim)
        if claims is None or not isinstance(name, str | int) or name == "":
            return None
        # Token exchange (RFC 8693): who acts, and the subject in whose place.
        act = claims.get("act")
        acting = act.get(claim) if isinstance(act, Mapping) else None
        kind: Any = "claimed" if verifier is None else "user"
        if isinstance(acting, str) and acting:
            return Actor(acting, kind, on_behalf_of=str(name))
        return Actor(str(name), kind)

    def _from_header(self, name: bytes, scope: Scope) -> Actor | None:
        sent = _once(scope, name)
        if not sent:
            return None
        if not self._forwarded.from_proxy(scope):
            text, peer = f"header:{name.decode()}", address_of(peer_of(scope))
            self._say(text, partial(emit, ActorHeaderRefused, source=text, peer=peer))
            return None
        return Actor(sent.decode("utf-8", "replace").strip()) if sent.strip() else None

    def _say(self, source: str, say: Callable[[], None]) -> None:
        if source not in self._said:
            self._said.add(source)
            say()


@final
class _Asked:
    """A function of the application that is asked; imported when it is first needed."""

    def __init__(self, module: str, function: str) -> None:
        self._module, self._function = module, function

    def __call__(self, scope: Scope) -> Actor | None:
        found = getattr(import_module(self._module), self._function)(scope)
        return found if found is None or isinstance(found, Actor) else actor_named(found)


def actor_named(user: Any) -> Actor | None:
    """Return the actor that a user of any framework is, None for one who has not signed in.

    A text is a name. Of an object it is its id before any name that it has; of a row of SQLAlchemy
    that has expired it is the key, because nothing is loaded for us.
    """
    if isinstance(user, str | int) and not isinstance(user, bool):
        return Actor(str(user)) if user != "" else None
    if user is None or getattr(user, "is_authenticated", True) is False:
        return None
    name = _loaded_name(user) if hasattr(user, "_sa_instance_state") else _name(user)
    return Actor(name) if name else None


def _name(user: Any) -> str:
    if isinstance(user, Mapping):
        return next((_text(user[name]) for name in _NAMES if _text(user.get(name))), "")
    for name in _NAMES:
        try:
            said = getattr(user, name, None)
            found = _text(said() if name == "get_username" and callable(said) else said)
        except NotImplementedError:  # as Starlette's own users raise for what they do not have
            continue
        if found:
            return found
    return ""


def _loaded_name(user: Any) -> str:
    loaded = vars(user)
    found = next((_text(loaded[name]) for name in _NAMES if _text(loaded.get(name))), "")
    key = user._sa_instance_state.key  # noqa: SLF001
    return found or ("" if key is None else ",".join(map(str, key[1])))


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool) or callable(value):
        return ""
    return str(value)


def _from_scope(path: tuple[str, ...], scope: Scope) -> Actor | None:
    found: Any = scope
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
        if found is None:
            return None
    return actor_named(found)


def _from_flask(_scope: Scope) -> Actor | None:
    """Return who Flask-Login knows, or has written into Flask's own signed session."""
    flask = sys.modules.get("flask")
    if flask is None or not flask.has_request_context():
        return None
    user = flask.g.get("_login_user")
    if user is not None:
        if not getattr(user, "is_authenticated", True):
            return None
        return actor_named(user.get_id() if callable(getattr(user, "get_id", None)) else user)
    # Without a secret key there is no session, and asking it raises.
    return actor_named(flask.session.get("_user_id")) if flask.current_app.secret_key else None


def _once(scope: Scope, name: bytes) -> bytes | None:
    """Return a header that came once: of two, nobody can say which one is meant."""
    found = [value for key, value in scope["headers"] if key.lower() == name]
    return found[0] if len(found) == 1 else None


def _verifier(settings: ActorSettings) -> Any:
    key = settings.jwt_key.reveal()
    if not key:
        return None
    try:
        return verifier_of(key)
    except ValueError as error:
        raise SettingsInvalid([f"actor.jwt_key: {error}"]) from error
