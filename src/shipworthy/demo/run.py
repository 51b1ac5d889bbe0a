"""What `shipworthy demo` does: database, service, traffic; and all of it gone on Ctrl-C."""

import contextlib
import os
import subprocess
import sys
import threading
import webbrowser
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from shipworthy.errors import StartFailed

if TYPE_CHECKING:
    from shipworthy.serve import ReadyFacts

TARGET = "shipworthy.demo.hardened:app"
SETTINGS = Path(__file__).with_name("shipworthy.toml")
# What the extra brings, by the names they are imported by.
NEEDED = ("fastapi", "sqlalchemy", "alembic", "faker", "aiosqlite")
TRAFFIC_STOP_SECONDS = 2.0


def run(
    *,
    host: str | None = None,
    port: int | None = None,
    ops_port: int | None = None,
    browser: bool = True,
    config: Path | None = None,
    database: str | None = None,
) -> int:
    """Run the demo until Ctrl-C or SIGTERM; returns the exit code.

    `database` is a URL; without one, `DATABASE_URL`, else a SQLite file under `.shipworthy/demo`
    in the current directory. What cannot be used is said in one sentence on standard error, and
    the code is 3. Blocks; call it from the main thread.
    """
    # Imported here: whoever imports `service` to serve it bare gets nothing of ours with it.
    from shipworthy.lifecycle import Exit
    from shipworthy.operations import registered
    from shipworthy.serve import RunOptions, run as serve

    given: dict[str, object] = {
        "serve.host": host,
        "serve.port": port,
        "operations.port": ops_port,
    }
    traffic = Traffic()
    try:
        _refuse_without_extra()
        # Here, because it needs what the extra brings.
        from shipworthy.demo.breakage import breakable
        from shipworthy.demo.prepare import prepare

        prepared = prepare(database or os.environ.get("DATABASE_URL"), directory=Path.cwd())
        about = (
            f"{prepared.shown} ({prepared.clients} clients, {prepared.projects} projects, "
            f"{prepared.tasks} tasks)"
        )
        if prepared.untold:
            sys.stderr.write(f"shipworthy: changes are not recorded: {prepared.untold}\n")
        # Of the database itself, not of the proxy that breaks it: the trash is looked at then too.
        given |= {"db.url": prepared.url, "ledger.key_path": str(prepared.key_path)}

        def ready(facts: "ReadyFacts") -> None:
            pid = traffic.start(facts.url)
            action = next((action.name for action in broken.actions), "")
            said = welcome(
                facts,
                database=about,
                traffic_pid=pid,
                action=action,
                recorded=not prepared.untold,
            )
            sys.stdout.write(said)
            sys.stdout.flush()
            if browser and has_display(os.environ, sys.platform):
                open_browser(f"{facts.url}/docs")

        with (
            breakable(prepared.url) as broken,
            registered(*broken.actions),
            _environment("DATABASE_URL", broken.url),
        ):
            return serve(
                RunOptions(
                    target=TARGET,
                    config=config or SETTINGS,
                    overrides={
                        key: str(value) for key, value in given.items() if value is not None
                    },
                    on_ready=ready,
                )
            )
    except StartFailed as error:
        sys.stderr.write(f"shipworthy: {error}\n")
        return Exit.START_FAILED
    except KeyboardInterrupt:
        # Only before the service takes over the signal: nothing was begun.
        return Exit.CLEAN
    finally:
        # Past Python's buffer, which would make a failed exit of a terminal that has gone.
        with contextlib.suppress(OSError):
            os.write(1, traffic.stop().encode())


class Traffic:
    """The traffic's process, ended by its id at the end."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, url: str) -> int | None:
        """Start it and return its process id; None when the service does not speak plain HTTP."""
        if not url.startswith("http://"):
            return None
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "shipworthy.demo.traffic", url, "--parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            # A line at its end, which we pass on after our own.
            stdout=subprocess.PIPE,
            # Ctrl-C reaches every process of the terminal's group. The traffic goes on through the
            # drain, as traffic does, and is ended after it.
            start_new_session=True,
        )
        return self._process.pid

    def stop(self) -> str:
        """End it and return the line that counts its requests; again returns nothing."""
        if self._process is None:
            return ""
        self._process.terminate()
        try:
            said, _ = self._process.communicate(timeout=TRAFFIC_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            said, _ = self._process.communicate()
        self._process = None
        return said.decode() or "traffic: it had to be ended, and its count is lost\n"


def welcome(
    facts: "ReadyFacts",
    *,
    database: str,
    traffic_pid: int | None,
    action: str = "",
    recorded: bool = False,
) -> str:
    """Say where everything is, how to replace the workers, delete a client, and break the database.

    `recorded` is whether what is deleted can be put back.
    """
    lines = {
        "service": facts.url,
        "API page": f"{facts.url}/docs",
        "operations": facts.operations_url,
        "token": f"{facts.token}  (for {facts.operations_url}/api)",
        "database": database,
        "traffic": f"about 10 requests a second, process {traffic_pid}" if traffic_pid else "none",
    }
    post = f'curl -X POST -H "Authorization: Bearer {facts.token}" {facts.operations_url}/api'
    lines["replace"] = f"{post}/restart"
    if action:
        lines["break it"] = f"{post}/actions/{action}"
    if recorded:
        lines["delete"] = f"curl -X DELETE -H 'X-User: ana' {facts.url}/clients/1"
        lines["look"] = post.replace(" -X POST", "") + "/trash?limit=3"
        lines["put back"] = f"{post}/trash/ID/restore"
    rows = "".join(f"  {name:<11} {value}\n" for name, value in lines.items())
    story = (
        "'delete' takes a client with all that is below it; 'look' shows what went, by whom, and "
        "its\nid, and 'put back' returns exactly that.\n"
    )
    return (
        f"\nThe demo is ready.\n\n{rows}\n{story if recorded else ''}"
        f"'replace' gives each worker a successor while the traffic goes on; "
        f"{facts.operations_url}/health\nsays how far it is. Ctrl-C stops it"
        f"{', and then says how many requests of the traffic failed' if traffic_pid else ''}.\n\n"
    )


def has_display(environ: Mapping[str, str], platform: str) -> bool:
    """Tell whether a browser opened here would be seen by anybody."""
    return platform == "darwin" or bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def open_browser(url: str) -> None:
    """Open `url` without waiting: some browsers only return when they are closed."""
    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()


def _refuse_without_extra() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise StartFailed(
            f"the demo needs {', '.join(missing)}, which is not installed: "
            f"pip install 'shipworthy[demo]'"
        )


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable for the processes started inside the block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
