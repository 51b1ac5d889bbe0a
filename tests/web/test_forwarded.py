"""One client for a request, whoever looks: the log, the trail, the application."""

import pytest
from hypothesis import given, strategies as st
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

from shipworthy.context import current_request
from shipworthy.web import Correlation, Forwarded, ForwardedIgnored
from shipworthy.web.client_settings import ClientSettings
from shipworthy.web.forwarded import CLIENT, peer_of
from shipworthy.web.line import Call, Line
from web.conftest import http_scope

pytestmark = pytest.mark.anyio

XFF = ClientSettings(header="x-forwarded-for", trusted_proxies=("10.0.0.7", "unix"))


def call(*headers, **scope):
    line = Line(None, (), answers=None, route_of=str, now=lambda: 0.0)
    seen = http_scope("/", **scope)
    seen["headers"] = [(b"host", b"inner:8000"), *headers]
    return Call(line, seen, None, None)


def looked_at(*headers, settings=XFF, **scope):
    made = call(*headers, **scope)
    return Forwarded(settings).address(made), made


def test_of_a_proxy_the_application_sees_the_client():
    """Address, port and scheme, as a server would show them; and why, beside it."""
    address, made = looked_at(
        (b"x-forwarded-for", b"6.6.6.6"),
        (b"x-forwarded-for", b"192.0.2.1:99"),
        (b"x-forwarded-proto", b"http, https"),
        (b"x-forwarded-host", b"shop.example"),
    )

    assert address == "192.0.2.1"
    assert (made.scope["client"], made.scope["scheme"]) == (("192.0.2.1", 99), "https")
    assert (made.headers[b"host"], peer_of(made.scope)) == (b"inner:8000", "10.0.0.7")
    assert made.scope[CLIENT].because == "10.0.0.7 wrote it, as entry 1 from the right"


def test_a_websocket_has_the_scheme_of_a_websocket():
    """Whichever of the two the proxy wrote."""
    for said in (b"https", b"wss"):
        _, made = looked_at((b"x-forwarded-proto", said), type="websocket", scheme="ws")
        assert made.scope["scheme"] == "wss"


@pytest.mark.parametrize("said", [b"gopher", b"", b"https\x00", b"https, "])
def test_a_scheme_that_is_none_is_not_taken(said):
    """It stays as the connection has it."""
    assert looked_at((b"x-forwarded-proto", said))[1].scope["scheme"] == "http"


def test_the_host_is_taken_only_where_the_settings_say_that_proxies_set_it():
    """Then everybody sees that one, and no other."""
    settings = ClientSettings(
        header="forwarded", trusted_proxies=("10.0.0.7",), forwarded_host=True
    )
    written = (b"forwarded", b'for=192.0.2.1;host="shop.example:443"')
    _, made = looked_at(written, (b"x-forwarded-host", b"evil.example"), settings=settings)
    _, malformed = looked_at((b"forwarded", b'for=192.0.2.1;host="a b"'), settings=settings)

    hosts = [value for name, value in made.scope["headers"] if name == b"host"]
    assert hosts == [b"shop.example:443"] == [made.headers[b"host"]]
    assert malformed.headers[b"host"] == b"inner:8000"


def test_what_a_socket_brings_is_of_its_own_kind_and_may_be_a_proxy_too():
    """It is never taken for this machine."""
    address, made = looked_at(client=None)
    behind, through = looked_at((b"x-forwarded-for", b"192.0.2.1"), client=None)

    assert (address, made.scope["client"]) == ("unix", None)
    assert (behind, through.scope["client"]) == ("192.0.2.1", ("192.0.2.1", 0))


def test_who_is_not_believed_is_told_of_once(heard):
    """As soon as somebody says for whom he comes: behind a proxy, all clients look like it."""
    forwarded = Forwarded(ClientSettings())
    for _ in range(3):
        assert forwarded.address(call((b"x-forwarded-for", b"1.2.3.4"))) == "10.0.0.7"
        assert forwarded.address(call((b"forwarded", b"for=1.2.3.4"))) == "10.0.0.7"
    assert forwarded.address(call()) == "10.0.0.7"

    (said,) = heard
    assert isinstance(said, ForwardedIgnored)
    assert (said.reason, said.because) == ("peer", "10.0.0.7 is no proxy of [client]")


def test_a_proxy_that_hides_its_client_is_told_of_once(heard):
    """The request counts as the proxy's."""
    forwarded = Forwarded(XFF)
    for _ in range(3):
        assert forwarded.address(call((b"x-forwarded-for", b"unknown"))) == "10.0.0.7"

    (said,) = heard
    assert (said.reason, said.because) == ("unclear", "10.0.0.7 does not say who called it")


names = st.sampled_from(
    [
        b"x-forwarded-for",
        b"forwarded",
        b"x-real-ip",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-client-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"client-ip",
        b"via",
        b"x_forwarded_for",
        b"host",
        b"x-forwarded",
        b"x-cluster-client-ip",
        b"x-original-forwarded-for",
    ]
)
values = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"10.0.0.7", b"127.0.0.1", b"unix", b"for=10.0.0.7;proto=https", b"::1"]),
)


@pytest.mark.slow
@given(st.lists(st.tuples(names, values), max_size=6), st.integers(0, 2**32 - 1))
def test_a_client_that_is_no_proxy_never_chooses_its_address_scheme_or_host(headers, peer):
    """Whatever it sends, in whichever header, and whatever the settings believe of others."""
    client = (".".join(str(peer >> shift & 255) for shift in (24, 16, 8, 0)), 4711)
    for settings in (
        ClientSettings(),
        ClientSettings(header="x-forwarded-for", trusted_proxies=("240.0.0.1", "::1", "unix")),
        ClientSettings(
            header="forwarded", trusted_proxies=("240.0.0.1",), hops=2, forwarded_host=True
        ),
    ):
        if client[0] == "240.0.0.1":
            continue
        made = call(*headers, client=client)
        sent = list(made.scope["headers"])
        assert Forwarded(settings).address(made) == client[0]
        assert (made.scope["client"], made.scope["scheme"]) == (client, "http")
        assert made.scope["headers"] == sent


async def test_without_settings_the_record_has_the_one_way_to_write_the_peer(ask):
    """And the scope stays as the server made it."""
    seen = []

    async def app(scope, receive, send):
        seen.append((current_request().client, scope["client"]))

    line = Line(app, (Correlation(),), answers=Nothing(), route_of=str, now=lambda: 0.0)
    await ask(line, client=("::ffff:192.0.2.1", 1))

    assert seen == [("192.0.2.1", ("::ffff:192.0.2.1", 1))]


class Nothing:
    """Answers nothing."""

    holds = False

    async def finish(self, call):
        pass

    async def answer(self, call, error):
        pass


async def test_the_record_the_actor_and_the_application_agree(hull, ask):
    """The client is the proxy's, and whether the header of the actor counts is the peer's."""
    seen = []

    async def root(request):
        record = current_request()
        seen.append((record.client, record.actor, request.client.host, request.url.scheme))
        return JSONResponse({})

    async def socket(websocket):
        await websocket.accept()
        seen.append((current_request().client, websocket.client.host, websocket.url.scheme))
        await websocket.close()

    app = hull(
        Starlette(routes=[Route("/", root), WebSocketRoute("/ws", socket)]),
        SHIPWORTHY_ACTOR__FROM="header:X-User",
        SHIPWORTHY_CLIENT__TRUSTED_PROXIES="10.0.0.7",
        SHIPWORTHY_CLIENT__HEADER="x-forwarded-for",
    )
    headers = [
        (b"x-forwarded-for", b"192.0.2.1"),
        (b"x-forwarded-proto", b"https"),
        (b"x-user", b"ana"),
    ]
    await ask(app, headers=headers)
    await ask(app, headers=headers, client=("192.0.2.66", 1))
    await ask(app, "/ws", headers=headers, type="websocket", scheme="ws")

    assert seen == [
        ("192.0.2.1", "ana", "192.0.2.1", "https"),
        ("192.0.2.66", "", "192.0.2.66", "http"),
        ("192.0.2.1", "192.0.2.1", "wss"),
    ]
