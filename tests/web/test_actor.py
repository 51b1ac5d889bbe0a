"""Who a request is made by, wherever an application leaves it."""

from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from flask import Flask, session
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from starlette.authentication import SimpleUser, UnauthenticatedUser

from shipworthy.context import Actor, current_actor, current_request
from shipworthy.web import (
    ActorFinder,
    ActorHeaderRefused,
    ActorSettings,
    ActorUnreadable,
    ClientSettings,
    Forwarded,
    actor_named,
)
from web.conftest import http_scope

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0


def finder(*sources, trusted_proxies=(), **settings):
    return ActorFinder(
        ActorSettings(from_=sources, **settings),
        lambda _: "/route",
        forwarded=Forwarded(ClientSettings(trusted_proxies=trusted_proxies)),
        wall=lambda: NOW,
    )


def found(*sources, headers=(), scope=None, **settings):
    seen = http_scope("/", **(scope or {}))
    seen["headers"] = [(b"host", b"test"), *headers]
    return finder(*sources, **settings).actor_of(seen)


class Row(DeclarativeBase):
    pass


class User(Row):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]


@pytest.mark.parametrize(
    ("user", "name"),
    [
        ("ana", "ana"),
        (7, "7"),
        (SimpleUser("ana"), "ana"),
        (SimpleNamespace(username="ana", id=3), "3"),
        (SimpleNamespace(username="ana", email="ana@example.org"), "ana"),
        (SimpleNamespace(id=3), "3"),
        (SimpleNamespace(get_username=lambda: "ana", pk=3), "3"),
        (SimpleNamespace(get_username=lambda: "ana", email="ana@example.org"), "ana"),
        ({"sub": "ana"}, "ana"),
        ({"email": "ana@example.org", "sub": "u-7"}, "u-7"),
        ({"email": "ana@example.org", "name": "Ana"}, "ana@example.org"),
        (User(id=3, email="ana@example.org"), "3"),
    ],
)
def test_a_user_of_any_framework_has_a_name(user, name):
    """Its id where it has one, and an e-mail address only where there is nothing better."""
    assert actor_named(user) == Actor(name)


@pytest.mark.parametrize(
    "user", [None, "", UnauthenticatedUser(), SimpleNamespace(is_authenticated=False, id=3), {}]
)
def test_who_has_not_signed_in_is_nobody(user):
    """An anonymous user is an object too."""
    assert actor_named(user) is None


def test_a_row_that_has_expired_is_named_by_its_key_and_not_loaded():
    """To load it would ask the database in the middle of a statement."""
    engine = sa.create_engine("sqlite://")
    Row.metadata.create_all(engine)
    with Session(engine) as work:
        user = User(id=3, email="ana@example.org")
        work.add(user)
        work.commit()
        statements = []
        sa.event.listen(engine, "before_cursor_execute", lambda *told: statements.append(told))

        assert actor_named(user) == Actor("3")
        assert statements == []
    engine.dispose()


def test_the_first_source_that_knows_names_the_actor():
    """In the order of the setting."""
    scope = {"state": {"user": "ben"}}

    assert found("scope.user", "scope.state.user", scope=scope) == Actor("ben")
    assert found("scope.user", scope=scope) is None
    assert found("scope.session.user_id", scope={"session": {"user_id": 9}}) == Actor("9")
    assert found("scope.user.id", scope={"user": SimpleNamespace(id=4)}) == Actor("4")


def test_an_application_whose_user_cannot_be_read_names_nobody_and_that_is_said_once(heard):
    """What its property raises is not the request's failure."""

    class Broken:
        @property
        def is_authenticated(self):
            raise RuntimeError("no database here")

    asked = finder("scope.user")
    for _ in range(3):
        assert asked.actor_of(http_scope("/", user=Broken())) is None

    (said,) = [fact for fact in heard if isinstance(fact, ActorUnreadable)]
    assert said.source == "scope.user"


def asked_function(scope):
    """Stand for a function of an application."""
    return scope["path"].strip("/") or None


def test_a_function_of_the_application_is_asked():
    """With the scope; it returns a name, a user or an actor."""
    source = f"{__name__}:asked_function"

    assert finder(source).actor_of(http_scope("/ana")) == Actor("ana")
    assert finder(source).actor_of(http_scope("/")) is None


@pytest.mark.parametrize(
    ("proxies", "client", "named"),
    [
        (("10.0.0.7",), ("10.0.0.7", 1), True),
        (("10.0.0.0/8",), ("10.0.0.7", 1), True),
        (("10.0.0.0/8",), ("192.0.2.1", 1), False),
        (("10.0.0.0/8",), None, False),
        (("unix",), None, True),
        (("unix",), ("10.0.0.7", 1), False),
        (("::1",), ("not an address", 1), False),
    ],
)
def test_a_header_names_the_actor_only_from_a_trusted_proxy(proxies, client, named, heard):
    """From others it is ignored, and that is said."""
    actor = found(
        "header:X-User",
        headers=[(b"x-user", b"ana")],
        scope={"client": client},
        trusted_proxies=proxies,
    )

    assert actor == (Actor("ana") if named else None)
    assert any(isinstance(fact, ActorHeaderRefused) for fact in heard) is not named


def test_a_header_that_came_twice_names_nobody():
    """Of two, nobody can say which one the proxy set."""
    twice = [(b"x-user", b"ana"), (b"x-user", b"ben")]

    assert found("header:X-User", headers=twice, trusted_proxies=("10.0.0.7",)) is None


async def test_a_user_whom_the_application_learns_after_our_guards_is_known_when_it_is_needed(
    hull, ask
):
    """And after the answer too, for what works on."""
    seen = []
    record = []

    async def app(scope, receive, send):
        seen.append(current_actor())
        scope["user"] = SimpleUser("ana")
        seen.append(current_actor())
        record.append(current_request())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    await ask(hull(app), "/")

    assert seen == ["", "ana"]
    assert (record[0].actor, record[0].scope, record[0].facts) == ("ana", None, None)


async def test_flask_login_is_found_in_the_session_that_flask_has_signed(hull, ask):
    """In the thread that does the work; its environ is in the scope."""
    app = Flask("app")
    app.secret_key = "for this test"
    seen = []

    @app.get("/")
    def root():
        seen.append(current_actor())
        session["_user_id"] = "ana"
        seen.append(current_actor())
        return ""

    await ask(hull(app), "/")

    assert seen == ["", "ana"]
