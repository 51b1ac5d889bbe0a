"""Over plain http a page is sent on, and everything else is refused."""

import json

import pytest

from shipworthy.web import HttpsSettings, RequestBlocked

pytestmark = pytest.mark.anyio

PAGE = (b"accept", b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")


async def fine(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"fine"})


@pytest.fixture
def asked(hull, ask):
    """Ask a service in production that wants https."""

    async def asked(path="/", *headers, mode="enforce", environment="production", **scope):
        settings = {
            name.removeprefix("set_"): scope.pop(name) for name in list(scope) if name[:4] == "set_"
        }
        said = {f"SHIPWORTHY_{name}": value for name, value in settings.items()}
        app = hull(fine, SHIPWORTHY_ENV=environment, SHIPWORTHY_HTTPS__MODE=mode, **said)
        return await ask(app, path, headers=headers, **scope)

    return asked


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_page_is_sent_to_https_at_the_same_place(asked, heard, method):
    """308, so that the method stays; without the port of http, and not to be kept."""
    told = await asked(
        "/a b", PAGE, method=method, raw_path=b"/a%20b//c", query_string=b"q=1&x=%22<"
    )

    assert (told.status, told.body) == (308, b"")
    assert told.one(b"location") == b"https://test/a%20b//c?q=1&x=%22%3C"
    assert told.one(b"cache-control") == b"no-store"
    assert not [fact for fact in heard if isinstance(fact, RequestBlocked)]


async def test_a_path_cannot_end_the_header_or_name_another_host(asked):
    """Whatever a server lets through."""
    odd = await asked("/x", PAGE, raw_path=b"//evil.example/\r\nx: y\xff")
    decoded = await asked("/ü?%", PAGE, raw_path=b"")

    assert odd.one(b"location") == b"https://test//evil.example/%0D%0Ax:%20y%FF"
    assert decoded.one(b"location") == b"https://test/%C3%BC%3F%25"


@pytest.mark.parametrize(
    ("headers", "scope"),
    [
        ([], {}),
        ([(b"accept", b"application/json")], {}),
        ([PAGE], {"method": "POST"}),
        ([PAGE], {"method": "OPTIONS"}),
        (
            [PAGE],
            {"type": "websocket", "scheme": "ws", "extensions": {"websocket.http.response": {}}},
        ),
    ],
)
async def test_what_is_no_page_is_refused_and_not_redirected(asked, heard, headers, scope):
    """A program that is sent on sends its token in the clear for ever (ASVS 4.1.2)."""
    told = await asked("/", *headers, **scope)

    assert (told.status, told.all(b"location")) == (403, [])
    assert json.loads(told.body)["type"] == "urn:shipworthy:problem:httpsneeded"
    (fact,) = [fact for fact in heard if isinstance(fact, RequestBlocked)]
    assert (fact.guard, fact.rule, fact.client) == ("https", "plain", "10.0.0.7")


async def test_over_https_and_for_a_probe_nothing_happens(asked):
    """As for a balancer that asks over plain http."""
    assert (await asked("/", scheme="https")).status == 200
    assert (await asked("/livez")).status == 200
    assert HttpsSettings().mode == "off"


async def test_the_scheme_is_that_of_the_client_where_its_proxy_is_believed(asked):
    """The proxy speaks http with us either way."""
    believed = {"set_CLIENT__TRUSTED_PROXIES": "10.0.0.7", "set_CLIENT__HEADER": "x-forwarded-for"}
    https, http = (b"x-forwarded-proto", b"https"), (b"x-forwarded-proto", b"http")
    claimed = (b"forwarded", b"proto=https")

    assert (await asked("/", https, **believed)).status == 200
    assert (await asked("/", http, PAGE, **believed)).status == 308
    assert (await asked("/", http, PAGE, claimed, **believed)).status == 308


@pytest.mark.parametrize(
    "claim", [(b"x-forwarded-proto", b"https"), (b"forwarded", b"for=1.2.3.4;proto=https")]
)
async def test_nobody_is_sent_round_for_ever(asked, heard, claim):
    """A proxy that is not believed would come back over http each time; it is said what to set."""
    told = await asked("/", PAGE, claim)

    assert told.status == 403
    assert "[client]" in json.loads(told.body)["detail"]
    assert [fact.rule for fact in heard if isinstance(fact, RequestBlocked)] == ["loop"]


@pytest.mark.parametrize(
    "case",
    [(b"a/b", "", 400), (b"evil.example", "shop.example", 421), (b"shop.example:80", "", 308)],
)
async def test_nobody_is_sent_to_a_host_that_is_not_ours(heard, hull, ask, case):
    """Whatever the mode of the host guard is: whoever chooses the host would choose the place."""
    host, allowed, status = case
    app = hull(
        fine,
        SHIPWORTHY_ENV="production",
        SHIPWORTHY_HTTPS__MODE="enforce",
        SHIPWORTHY_HOSTS__MODE="off",
        SHIPWORTHY_HOSTS__ALLOWED=allowed,
    )

    async def named(scope, receive, send):
        scope["headers"] = [(b"host", host), PAGE]
        await app(scope, receive, send)

    told = await ask(named)

    assert told.status == status
    assert told.all(b"location") == [b"https://shop.example/"][: status == 308]
    assert len([fact for fact in heard if isinstance(fact, RequestBlocked)]) == (status != 308)


async def test_in_report_it_only_tells(asked, heard):
    """Of pages, too, for they would be sent on."""
    statuses = [
        (await asked("/", PAGE, mode="report")).status,
        (await asked("/", mode="report")).status,
        (await asked("/", (b"x-forwarded-proto", b"https"), mode="report")).status,
    ]

    assert statuses == [200] * 3
    told = [(fact.rule, fact.mode) for fact in heard if isinstance(fact, RequestBlocked)]
    assert told == [("page", "report"), ("plain", "report"), ("loop", "report")]


async def test_where_one_develops_there_is_no_https(asked):
    """Staging has it as production has."""
    assert (await asked("/", PAGE, environment="development")).status == 200
    assert (await asked("/", PAGE, environment="staging")).status == 308
