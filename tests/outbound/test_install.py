"""The hook: what it reaches, when, and that nothing of it stays."""

import os
import subprocess
import sys
from types import ModuleType

import httpx
import httpx2
import pytest
import requests

from outbound.play import answer
from shipworthy import outbound
from shipworthy.events import listen
from shipworthy.outbound import CallsGuarded, CallsUnguarded, OutboundSettings

METHODS = [
    (httpx.HTTPTransport, "handle_request"),
    (httpx.AsyncHTTPTransport, "handle_async_request"),
    (httpx2.HTTPTransport, "handle_request"),
    (httpx2.AsyncHTTPTransport, "handle_async_request"),
    (requests.adapters.HTTPAdapter, "send"),
]


def run(code, *paths):
    """Run `code` in a process that has imported nothing yet."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False,
        env=os.environ | {"PYTHONPATH": ":".join([*map(str, paths), *sys.path])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_clients_made_before_are_reached_and_let_go(service, install):
    """A client made at the import of the app is guarded from now on, until it is undone."""
    with httpx.Client(trust_env=False) as client:
        installed = install()
        service.then(answer(503))
        guarded = client.get(service.url).status_code
        outbound.uninstall()
        service.then(answer(503))
        bare = client.get(service.url).status_code

    assert (guarded, bare) == (200, 503)
    assert installed.reached == ("httpx", "httpx2", "requests")


def test_everything_is_taken_back(install):
    """After `uninstall` each method is the one that was there before, and no finder is left."""
    before = [owner.__dict__[name] for owner, name in METHODS]
    finders = list(sys.meta_path)

    install()
    during = [owner.__dict__[name] for owner, name in METHODS]
    stays = outbound.uninstall()

    assert [owner.__dict__[name] for owner, name in METHODS] == before
    assert all(one is not other for one, other in zip(during, before, strict=True))
    assert (stays, sys.meta_path) == ((), finders)
    assert outbound.uninstall() == ()


def test_installing_twice_is_installing_once(service, install):
    """The same settings change nothing; what is known of the targets stays."""
    first = install()
    methods = [owner.__dict__[name] for owner, name in METHODS]
    requests.get(service.url, timeout=5)

    second = install()

    assert second is first
    assert [owner.__dict__[name] for owner, name in METHODS] == methods
    assert [one.target for one in second.statistics()] == [service.url]


def test_other_settings_hold_from_then_on(service, install):
    """Installing under others replaces the settings, not the hook."""
    first = install()

    second = install(mode="report")
    service.then(answer(503))

    assert second is first
    assert requests.get(service.url, timeout=5).status_code == 503


def test_off_installs_nothing_and_takes_back():
    """With the mode `off` no class is touched, and one that was is given back."""
    before = [owner.__dict__[name] for owner, name in METHODS]
    outbound.install()

    assert outbound.install(OutboundSettings(mode="off")) is None
    assert [owner.__dict__[name] for owner, name in METHODS] == before


def test_what_others_wrapped_since_stays_and_does_nothing(service, install):
    """Where another library stands on ours, ours says so and only calls on."""
    install()
    owner, name = httpx.HTTPTransport, "handle_request"
    ours = owner.__dict__[name]
    original = ours.__wrapped__
    owner.handle_request = lambda transport, request: ours(transport, request)
    service.then(answer(503))

    try:
        stays = outbound.uninstall()
        status = httpx.get(service.url, trust_env=False).status_code
    finally:
        owner.handle_request = original

    assert (stays, status) == (("httpx.HTTPTransport.handle_request",), 503)


def test_a_hook_held_by_somebody_only_calls_on(service, install):
    """A method that was read while it was ours goes on working after it was taken back."""
    install()
    send = requests.adapters.HTTPAdapter.send
    outbound.uninstall()
    service.then(answer(503))

    with requests.Session() as session:
        prepared = requests.Request("GET", service.url).prepare()
        got = send(session.get_adapter(service.url), prepared, timeout=5)

    assert (got.status_code, got.content) == (503, b"ok")


@pytest.mark.anyio
async def test_an_async_hook_held_by_somebody_only_calls_on(service, install):
    """The same with an async transport."""
    install()
    handle = httpx.AsyncHTTPTransport.handle_async_request
    outbound.uninstall()
    service.then(answer(503))

    async with httpx.AsyncHTTPTransport() as transport:
        got = await handle(transport, httpx.Request("GET", service.url))
        await got.aread()

    assert (got.status_code, got.content) == (503, b"ok")


def test_what_cannot_be_reached_is_said(install, monkeypatch):
    """Clients with a way of their own to the network, and transports that may not pass us."""

    class Tunnel(httpx.BaseTransport):
        pass

    class Passing(httpx.HTTPTransport):
        pass

    monkeypatch.setitem(sys.modules, "aiohttp", ModuleType("aiohttp"))
    heard = []
    stop = listen(heard.append, CallsUnguarded)
    installed = install()
    stop()

    said = installed.not_reached()
    assert any(one.startswith("aiohttp ") for one in said)
    assert any("Tunnel sends in a way of its own" in one for one in said)
    assert not any("Passing" in one for one in said)
    assert [one.what for one in heard] == list(said)


@pytest.mark.slow
def test_nothing_is_imported_and_a_later_import_is_reached():
    """An app without httpx does not pay for it; one that imports it later is guarded."""
    said = run(
        "import sys\n"
        "from shipworthy.outbound import install, uninstall\n"
        "installed = install()\n"
        "print(*sorted({'httpx', 'httpx2', 'requests', 'urllib3'} & set(sys.modules)), 'none')\n"
        "import httpx, requests\n"
        "print(*installed.reached)\n"
        "print(httpx.HTTPTransport.handle_request.__wrapped__.__module__)\n"
        "print('exec_module' in vars(httpx.__spec__.loader))\n"
        "uninstall()\n"
        "print(hasattr(httpx.HTTPTransport.handle_request, '__wrapped__'))\n"
    )

    assert said == ["none", "httpx", "requests", "httpx._transports.default", "False", "False"]


@pytest.mark.slow
def test_an_import_is_never_broken_by_the_hook(tmp_path):
    """A library that is not as we know it, is missing, or fails once, imports as it would alone."""
    (tmp_path / "httpx.py").write_text("import os\nif 'OK' not in os.environ: raise ImportError\n")
    (tmp_path / "requests.py").write_text("here = True\n")

    said = run(
        "import os\n"
        "from shipworthy.events import listen\n"
        "from shipworthy.outbound import CallsUnguarded, install\n"
        "listen(lambda fact: print(fact.what.split()[0]), CallsUnguarded)\n"
        "installed = install()\n"
        "import requests\n"
        "try: import httpx\n"
        "except ImportError: print('failed')\n"
        "os.environ['OK'] = '1'\n"
        "import httpx\n"
        "print(*installed.reached, 'nothing')\n",
        tmp_path,
    )

    assert said == ["requests", "failed", "httpx", "nothing"]


@pytest.mark.slow
def test_a_library_that_is_not_installed_is_no_matter():
    """Without it on the path, importing it fails as ever."""
    said = run(
        "import sys\n"
        "from shipworthy.outbound import install\n"
        "installed = install()\n"
        "sys.path[:] = [path for path in sys.path if 'site-packages' not in path]\n"
        "try: import httpx2\n"
        "except ModuleNotFoundError as error: print(error.name)\n"
    )

    assert said == ["httpx2"]


def test_being_guarded_is_stated(install):
    """Each library says once that its calls are guarded, and in which mode."""
    heard = []
    stop = listen(heard.append, CallsGuarded)
    install(mode="report")
    stop()

    assert {(one.library, one.mode) for one in heard} == {
        ("httpx", "report"),
        ("httpx2", "report"),
        ("requests", "report"),
    }


def test_the_door_names_what_it_has():
    """The classes that need a library are loaded on demand; anything else is said to be missing."""
    assert outbound.GuardedTransport.__module__ == "shipworthy.outbound.httpx"
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = outbound.Nothing


def test_whether_calls_are_seen_is_known(install):
    """Whoever would run a request again asks."""
    before = outbound.sees_calls()
    install(mode="report")
    during = outbound.sees_calls()
    outbound.install(OutboundSettings(mode="off"))

    assert (before, during, outbound.sees_calls()) == (False, True, False)
