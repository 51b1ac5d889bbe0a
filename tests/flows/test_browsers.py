"""What a real browser makes of the guards: who may send what, and what a policy lets run."""

import pytest
from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import HTMLResponse, JSONResponse, Response

from flows.browsing import Seen, chromium, listening, serving, until, watched
from shipworthy import harden
from shipworthy.settings import load
from shipworthy.web import Sighting, csp_nonce, propose

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]

QUIET = {"SHIPWORTHY_WEB__ACCESS_LOG": "false"}
# A name whose addresses are no secure context, as those of an intranet are: no Sec-Fetch-*.
PLAIN = "shop.test"

FORM = """<form id=f method=post action="{at}"><input name=a value=1></form>
<script>document.getElementById('f').submit()</script>"""
HIDDEN = f"""<meta name=referrer content=no-referrer>{FORM}"""
FETCH = """<script>fetch("{at}", {{method: "POST", mode: "no-cors", credentials: "include",
body: "a=1"}}).catch(() => 0)</script>"""
BEACON = """<script>navigator.sendBeacon("{at}", "a=1")</script>"""
IMAGE = """<img src="{at}">"""
SOCKET = """<script>new WebSocket("{at}".replace("http", "ws"))</script>"""
SANDBOXED = """<iframe sandbox="allow-scripts allow-forms" srcdoc='
<form id=f method=post action="{at}"></form><script>f.submit()</script>'></iframe>"""


def pages_app(pages):
    """Pages by path; whatever else is asked for is fine, and so is every websocket."""
    app = FastAPI(openapi_url=None)

    @app.websocket("/{path:path}")
    async def talk(socket: WebSocket, path: str):
        await socket.accept()
        await socket.close()

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT", "OPTIONS"])
    def answer(path: str):
        page = pages.get(path)
        return JSONResponse({}) if page is None else HTMLResponse(page())

    return app


def hardened(app, tmp_path, **environ):
    return harden(app, settings=load(environ={**QUIET, **environ}, directory=tmp_path))


def test_who_may_send_what_is_as_a_browser_says_it(debian, tmp_path):
    """Own pages may, foreign ones may not: forms, fetch, beacons, websockets, with and without
    Sec-Fetch-Site, and from a trusted origin all the same. Pictures may always: GET is safe."""
    program = debian("chromium", "chromium")
    own, foreign, trusted = listening(), listening(), listening()
    here, there, friend = (sock.getsockname()[1] for sock in (own, foreign, trusted))
    secure, plain = f"http://127.0.0.1:{here}", f"http://{PLAIN}:{here}"
    other_site, same_site = f"http://localhost:{there}", f"http://127.0.0.1:{there}"
    # What is tried, on a page of which origin, towards which, and how it ends.
    tried = {
        "own-form": (FORM, secure, secure, 200),
        "own-fetch": (FETCH, secure, secure, 200),
        "own-beacon": (BEACON, secure, secure, 200),
        "own-socket": (SOCKET, secure, secure, 101),
        "own-hidden": (HIDDEN, secure, secure, 200),
        "site-form": (FORM, other_site, secure, 403),
        "site-fetch": (FETCH, other_site, secure, 403),
        "site-beacon": (BEACON, other_site, secure, 403),
        "site-image": (IMAGE, other_site, secure, 200),
        "site-socket": (SOCKET, other_site, secure, 403),
        "site-sandboxed": (SANDBOXED, other_site, secure, 403),
        "port-form": (FORM, same_site, secure, 403),
        "port-fetch": (FETCH, same_site, secure, 403),
        "port-socket": (SOCKET, same_site, secure, 403),
        "own-sandboxed": (SANDBOXED, secure, secure, 403),
        "friend-form": (FORM, f"http://localhost:{friend}", secure, 200),
        "friend-fetch": (FETCH, f"http://localhost:{friend}", secure, 200),
        "friend-socket": (SOCKET, f"http://localhost:{friend}", secure, 101),
        "plain-own-form": (FORM, plain, plain, 200),
        "plain-own-fetch": (FETCH, plain, plain, 200),
        "plain-own-socket": (SOCKET, plain, plain, 101),
        # It says null, and nothing besides: a page that hides where it is looks like a foreign one.
        "plain-own-hidden": (HIDDEN, plain, plain, 403),
        "plain-form": (FORM, f"http://evil.test:{there}", plain, 403),
        "plain-fetch": (FETCH, f"http://evil.test:{there}", plain, 403),
        "plain-image": (IMAGE, f"http://evil.test:{there}", plain, 200),
        "plain-socket": (SOCKET, f"http://evil.test:{there}", plain, 403),
        "plain-sandboxed": (SANDBOXED, plain, plain, 403),
    }
    pages = {
        f"page/{name}": lambda html=html, to=to, name=name: html.format(at=f"{to}/act/{name}")
        for name, (html, _, to, _) in tried.items()
    }
    frames = "".join(
        f'<iframe src="{at}/page/{name}"></iframe>' for name, (_, at, _, _) in tried.items()
    )
    pages["all"] = lambda: frames
    seen = Seen()
    app = hardened(
        pages_app(pages),
        tmp_path,
        SHIPWORTHY_CSRF__MODE="enforce",
        SHIPWORTHY_CSP__MODE="off",
        SHIPWORTHY_CSRF__TRUSTED_ORIGINS=f"http://localhost:{friend}",
    )
    bare = pages_app(pages)

    with (
        serving(watched(app, seen), own),
        serving(bare, foreign),
        serving(bare, trusted),
        chromium(
            program, tmp_path, f"{other_site}/all", "--host-resolver-rules=MAP *.test 127.0.0.1"
        ),
    ):
        until(lambda: all(seen.to(f"/act/{name}") for name in tried))

    first = {name: seen.to(f"/act/{name}")[0] for name in tried}
    ended = {name: visit.status for name, visit in first.items()}
    assert ended == {name: status for name, (_, _, _, status) in tried.items()}
    # That each was judged by what it was to be judged by: a browser that says more would prove
    # the other rule twice.
    without = {name for name, visit in first.items() if "sec-fetch-site" not in visit.headers}
    assert without == {name for name in tried if name.startswith("plain") or "socket" in name}


PAGE = """<!doctype html><title>page</title>
<script nonce="{nonce}">fetch("/ran/nonced")</script>
<script>fetch("/ran/injected")</script>
<img src="x:" onerror="fetch('/ran/attribute')">
<script nonce="{nonce}" src="/part.js"></script>
<script src="/typed-as-a-page"></script>
<script src="{other}/foreign.js"></script>
<style>body {{ color: red }}</style>
<img src="{other}/picture.png">
<script nonce="{nonce}">
addEventListener("load", () => setTimeout(() => fetch("/ran/end"), 300))
</script>"""


def service_with_pages(other):
    app = FastAPI()

    @app.get("/page")
    def page():
        return HTMLResponse(PAGE.format(nonce=csp_nonce(), other=other))

    @app.get("/part.js")
    def part():
        return Response("fetch('/ran/part')", media_type="text/javascript")

    @app.get("/typed-as-a-page")
    def wrong():
        return HTMLResponse("fetch('/ran/typed-as-a-page')")

    @app.get("/framed")
    def framed():
        return HTMLResponse("framed")

    @app.get("/ran/{what}")
    def ran(what: str):
        return what

    return app


def foreign_parts():
    app = FastAPI(openapi_url=None)

    @app.get("/foreign.js")
    def script(request: Request):
        back = request.headers["referer"]
        return Response(f"fetch('{back}ran/foreign')", media_type="text/javascript")

    @app.get("/picture.png")
    def picture():
        return Response(b"", media_type="image/png")

    return app


def test_a_policy_lets_run_what_has_the_nonce_and_a_reported_one_says_what_has_not(
    debian, tmp_path
):
    """Enforced, what was injected does not run, and what is named by the nonce does. Reported, all
    of it runs, and the reports arrive, of FastAPI's own /docs, too: its CDN is in the proposal."""
    program = debian("chromium", "chromium")
    strict, learning, elsewhere = listening(), listening(), listening()
    at, learns, other = (
        f"http://127.0.0.1:{sock.getsockname()[1]}" for sock in (strict, learning, elsewhere)
    )
    kept, told = Seen(), Seen()
    enforcing = hardened(service_with_pages(other), tmp_path, SHIPWORTHY_CSP__MODE="enforce")
    reporting = hardened(service_with_pages(other), tmp_path)
    start = FastAPI(openapi_url=None)

    @start.get("/")
    def opens():
        # In windows of their own: shown in a frame, they would be judged for that.
        return HTMLResponse(
            f"<iframe src='{learns}/framed'></iframe><script>"
            f"for (const at of ['{at}/page', '{learns}/page', '{learns}/docs']) open(at)</script>"
        )

    start.mount("/", foreign_parts())

    def learned():
        return {(one["source"], one["route"]) for one in reporting.learned_policy["seen"]}

    expected = {
        ("inline", "/page"),
        (other, "/page"),
        ("https://cdn.jsdelivr.net", "/docs"),
        ("https://fastapi.tiangolo.com", "/docs"),
        ("inline", "/docs"),
        # It is the page's address alone that Chromium names, and without its path.
        ("frame", "_unmatched"),
    }
    with (
        serving(watched(enforcing, kept), strict),
        serving(watched(reporting, told), learning),
        serving(start, elsewhere),
        chromium(program, tmp_path, f"{other}/", "--disable-popup-blocking"),
    ):
        until(lambda: kept.to("/ran/end") and told.to("/ran/end") and expected <= learned())

    ran = {visit.path.removeprefix("/ran/") for visit in kept.visits if "/ran/" in visit.path}
    assert ran == {"nonced", "part", "typed-as-a-page", "end"}
    ran = {visit.path.removeprefix("/ran/") for visit in told.visits if "/ran/" in visit.path}
    assert ran >= {"nonced", "injected", "attribute", "part", "foreign", "end"}
    reports = [v for v in told.visits if v.path == "/.well-known/shipworthy/csp"]
    assert {visit.status for visit in reports} == {204}
    assert {visit.headers["content-type"] for visit in reports} == {"application/csp-report"}
    described = reporting.learned_policy
    proposal = propose(described["policy"], [Sighting(**one) for one in described["seen"]])
    assert f"script-src 'self' {{nonce}} {other} https://cdn.jsdelivr.net" in proposal.policy
    assert "unsafe" not in proposal.policy
    assert any("the nonce of csp_nonce()" in told for told in proposal.advice)
    assert not kept.to("/.well-known/shipworthy/csp")


def service_with_a_login(provider):
    """A page that opens a login in a popup, and where the popup comes back to; and some data."""
    app = FastAPI()

    @app.get("/start")
    def start(request: Request):
        back = f"{request.url.scheme}://{request.url.netloc}/callback"
        return HTMLResponse(f"<script>open('{provider}/login?back={back}')</script>")

    @app.get("/callback")
    def callback():
        return HTMLResponse(
            "<script>fetch('/told/' + (opener ? 'opener-kept' : 'opener-lost'))</script>"
        )

    @app.get("/data")
    def data():
        return {}

    @app.get("/told/{what}")
    def told(what: str):
        return what

    return app


def test_what_waits_for_a_setting_would_break_pages(debian, tmp_path):
    """By default a login in a popup finds its opener, and others may fetch without CORS; with the
    mildest of the headers that wait for a setting, neither."""
    program = debian("chromium", "chromium")
    lenient, careful, elsewhere = listening(), listening(), listening()
    at, strict, other = (
        f"http://localhost:{lenient.getsockname()[1]}",
        f"http://localhost:{careful.getsockname()[1]}",
        f"http://127.0.0.1:{elsewhere.getsockname()[1]}",
    )
    foreign = FastAPI(openapi_url=None)

    @foreign.get("/login")
    def login(back: str):
        return HTMLResponse(f"<script>location = '{back}'</script>")

    @foreign.get("/")
    def opens():
        return HTMLResponse(
            f"<script>for (const at of ['{at}', '{strict}']) {{ open(at + '/start');"
            "fetch(at + '/data', {mode: 'no-cors'}).then(() => 'fetched', () => 'not-fetched')"
            ".then(told => new Image().src = at + '/told/' + told) }</script>"
        )

    by_default, set_apart = Seen(), Seen()
    with (
        serving(watched(hardened(service_with_a_login(other), tmp_path), by_default), lenient),
        serving(
            watched(
                hardened(
                    service_with_a_login(other),
                    tmp_path,
                    SHIPWORTHY_HEADERS__OPENER="same-origin-allow-popups",
                    SHIPWORTHY_HEADERS__RESOURCES="same-site",
                ),
                set_apart,
            ),
            careful,
        ),
        serving(foreign, elsewhere),
        chromium(program, tmp_path, f"{other}/", "--disable-popup-blocking"),
    ):
        until(lambda: by_default.to("/told/opener-kept") and by_default.to("/told/fetched"))
        until(lambda: set_apart.to("/told/opener-lost") and set_apart.to("/told/not-fetched"))
