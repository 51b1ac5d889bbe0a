"""What `shipworthy run` is: check, bind, supervise, and end with a code that says how it went."""

import asyncio
import os
import secrets
import socket
import ssl
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Every room that has a section registers it when it is imported, and this imports them all.
import shipworthy.assembly  # noqa: F401
from shipworthy.errors import SettingsInvalid, StartFailed, TargetInvalid
from shipworthy.lifecycle import (
    Exit,
    LifecycleSettings,
    ResourceSettings,
    Signal,
    cpu_count_allowed,
    heard_early,
    raise_descriptors,
)
from shipworthy.operations import OperationsSettings
from shipworthy.redact import printable, redact
from shipworthy.serve.channel import Channel
from shipworthy.serve.handed import OPERATIONS, Handed, take_handed
from shipworthy.serve.order import Order
from shipworthy.serve.reload import code_changes
from shipworthy.serve.settings import ServeSettings
from shipworthy.serve.sockets import address_of, listen_tcp, listen_unix, remove_unix
from shipworthy.serve.supervision import Leave, SupervisionRule, workers_wanted
from shipworthy.serve.supervisor import ReadyFacts, Supervisor, start_worker
from shipworthy.serve.systemd import Notifier, notifier_from
from shipworthy.serve.target import entrypoint, parse_target
from shipworthy.settings import Loaded, load
from shipworthy.telemetry import TraceSettings, start_logging

# Eight heartbeats; a worker that was only short of CPU must not be ended for it.
_WEDGED_SECONDS_MIN = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The command line of `run`; `overrides` are settings by key, as text."""

    target: str | None
    config: Path | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    reload: bool = False
    on_ready: Callable[[ReadyFacts], None] | None = None


def run(options: RunOptions) -> int:
    """Serve the target until told to leave; returns the exit code (see `Exit`).

    Takes over SIGTERM and SIGINT of this process and writes what went wrong to standard error in
    one sentence. Blocks; call it from the main thread.
    """
    _open_standard_streams()
    early = heard_early(Signal.SIGTERM, Signal.SIGINT)
    directory = Path.cwd()
    try:
        # First of all: what we open ourselves must not be taken for what was handed over.
        handed = take_handed(os.environ)
        notifier = notifier_from(os.environ)
        target = options.target or entrypoint(directory)
        parse_target(target)
        settings = load(file=options.config, directory=directory, overrides=options.overrides)
        _refuse_impossible(settings)
        return _serve(
            options, target, directory, settings, early=early, handed=handed, notifier=notifier
        )
    except TargetInvalid as error:
        return _say(error, Exit.MISUSE)
    except SettingsInvalid as error:
        return _say(error, Exit.SETTINGS)
    except StartFailed as error:
        return _say(error, Exit.START_FAILED)


def _open_standard_streams() -> None:
    """Open what of 0 to 2 is closed on /dev/null: else a socket of ours gets the number."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w", closefd=False)


def survey_target(options: RunOptions) -> dict[str, Any]:
    """Import the target in a worker process and return what `run` would do to it.

    Raises `StartFailed` with the worker's sentence when the app cannot be imported in time.
    """
    directory = Path.cwd()
    target = options.target or entrypoint(directory)
    parse_target(target)
    settings = load(file=options.config, directory=directory, overrides=options.overrides)
    _refuse_impossible(settings)
    return asyncio.run(_survey(options, target, directory, settings))


async def _survey(
    options: RunOptions, target: str, directory: Path, settings: Loaded
) -> dict[str, Any]:
    start_seconds, environment = settings.of(LifecycleSettings).start_seconds, settings.environment
    ours, theirs = socket.socketpair()
    process = await start_worker(
        Order(
            target=target,
            directory=str(directory),
            config=str(options.config) if options.config else None,
            overrides=options.overrides,
            channel_fd=theirs.fileno(),
            listen_fds=(),
            generation=0,
            survey=True,
        )
    )
    theirs.close()
    channel = await Channel.over(ours)

    async def first() -> dict[str, Any]:
        async for message in channel.messages():
            return message
        return {"kind": "failed", "because": "the process that imported it ended without a word"}

    listening = asyncio.create_task(first())
    await asyncio.wait({listening}, timeout=start_seconds)
    channel.close()
    if not listening.done():
        listening.cancel()
        process.kill()
        await process.wait()
        raise StartFailed(f"importing '{target}' took longer than {start_seconds:g} s")
    await process.wait()
    message = listening.result()
    if message["kind"] == "failed":
        raise StartFailed(message["because"])
    report: dict[str, Any] = message["report"]
    return {"target": target, "environment": environment, **report}


def _serve(
    options: RunOptions,
    target: str,
    directory: Path,
    settings: Loaded,
    *,
    early: Sequence[int],
    handed: Sequence[Handed],
    notifier: Notifier | None,
) -> int:
    serve = settings.of(ServeSettings)
    operations = settings.of(OperationsSettings)
    lifecycle = settings.of(LifecycleSettings)
    traces = settings.of(TraceSettings)
    tls = bool(serve.tls_cert)
    for_app = [one for one in handed if one.name != OPERATIONS]
    operations_sockets = [one.sock for one in handed if one.name == OPERATIONS] or listen_tcp(
        operations.host, operations.port, backlog=128, option="--ops-port"
    )
    inode = 0
    try:
        if for_app:
            sockets = [one.sock for one in for_app]
        elif serve.uds:
            sockets = [listen_unix(Path(serve.uds), backlog=serve.backlog)]
            inode = Path(serve.uds).stat().st_ino
        else:
            sockets = listen_tcp(serve.host, serve.port, backlog=serve.backlog, option="--port")
    except StartFailed:
        for sock in operations_sockets:
            sock.close()
        raise
    listens = [address_of(sock, tls=tls) for sock in sockets]
    if for_app:
        listens = [f"{at} {one.origin}" for at, one in zip(listens, for_app, strict=True)]
    url, operations_url = address_of(sockets[0], tls=tls), address_of(operations_sockets[0])
    token = operations.token.reveal() or secrets.token_urlsafe(24)
    said_ready = False

    def ready(pid: int) -> None:
        nonlocal said_ready
        if said_ready:
            return
        said_ready = True
        facts = ReadyFacts(
            url=url,
            operations_url=operations_url,
            token=token,
            pid=pid,
            listens=tuple(listens),
            traces_url=traces.url if traces.endpoint else "",
        )
        (options.on_ready or _announce)(facts)

    stop_logging = start_logging(settings)
    if settings.of(ResourceSettings).raise_descriptors:
        # Ours too, and before workers inherit them: one that cannot be started for want of a
        # descriptor is missing until somebody lets go of one.
        raise_descriptors()
    supervisor = Supervisor(
        target=target,
        directory=directory,
        config=options.config,
        overrides=options.overrides,
        settings=settings,
        rule=SupervisionRule(
            start_seconds=lifecycle.start_seconds,
            grace_seconds=lifecycle.grace_seconds,
            workers=workers_wanted(serve.workers, cpus=cpu_count_allowed()),
            # Under --reload somebody may be sitting at a breakpoint.
            wedged_seconds=0.0 if options.reload else serve.wedged_seconds,
            recycle_interval_seconds=serve.recycle_interval_seconds,
            waits_for_change=options.reload,
        ),
        sockets=sockets,
        operations_sockets=operations_sockets,
        token=token,
        on_ready=ready,
        keep_listening=bool(for_app),
        listens=listens,
        notifier=notifier,
    )
    try:
        changes = code_changes(directory) if options.reload else None
        left = asyncio.run(supervisor.run(changes, early=early))
    finally:
        stop_logging()
        if inode:
            remove_unix(Path(serve.uds), inode=inode)
    return _farewell(left, target)


def _farewell(left: Leave, target: str) -> int:
    if left.code is not Exit.CLEAN:
        _write(f"'{target}': {left.because}")
    return left.code


def _write(sentence: str) -> None:
    """Write one sentence of ours to standard error, whose reader may be gone.

    What others say in it (an exception's text) shows no secret and steers no terminal.
    """
    with suppress(OSError):
        sys.stderr.write(f"shipworthy: {printable(redact(sentence))}\n")
        sys.stderr.flush()


def _announce(facts: ReadyFacts) -> None:
    """Say on a terminal where everything is; the token is shown nowhere else."""
    for address in facts.listens:
        _write(f"the app answers at {address}")
    _write(f"the operations port is at {facts.operations_url}")
    if facts.traces_url:
        _write(f"traces are sent to {facts.traces_url}")
    if sys.stderr.isatty():
        sys.stderr.write(f"shipworthy: token for its /api: {facts.token}\n")
        sys.stderr.flush()


def _say(error: Exception, code: Exit) -> int:
    for line in str(error).splitlines():
        _write(line)
    return code


def _refuse_impossible(settings: Loaded) -> None:
    """Raise `SettingsInvalid` for what this environment refuses, and for what cannot work."""
    problems = settings.refusals()
    serve = settings.of(ServeSettings)
    if bool(serve.tls_cert) != bool(serve.tls_key):
        given, missing = ("tls_cert", "tls_key") if serve.tls_cert else ("tls_key", "tls_cert")
        problems.append(f"serve.{given} is set and serve.{missing} is not: TLS needs both")
    elif serve.tls_cert:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(serve.tls_cert, serve.tls_key)
        except FileNotFoundError:
            missing = next(f for f in (serve.tls_cert, serve.tls_key) if not Path(f).exists())
            problems.append(f"there is no TLS file {missing}")
        except OSError as error:  # ssl.SSLError is one
            problems.append(
                f"the TLS files {serve.tls_cert} and {serve.tls_key} cannot be used: {error}"
            )
    if 0 < serve.wedged_seconds < _WEDGED_SECONDS_MIN:
        problems.append(
            f"serve.wedged is {serve.wedged_seconds:g}s, and what is shorter than "
            f"{_WEDGED_SECONDS_MIN:g}s happens to every loop on a busy machine; raise it to "
            f"{_WEDGED_SECONDS_MIN:g}s, or set 0 to end no worker for it"
        )
    if problems:
        raise SettingsInvalid(problems)
