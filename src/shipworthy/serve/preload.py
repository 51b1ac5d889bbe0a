"""What a spare process imports beforehand, and how it waits to become a worker.

Only modules of libraries whose import does nothing but define things, only those that a worker of
this application has imported from the environment's own folders, and nothing of the application:
its code is read when the spare becomes a worker, as it stands then.
"""

import importlib
import os
import site
import socket
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from shipworthy.serve.channel import encoded
from shipworthy.serve.order import Order

# Each is slow to import or often there, starts nothing, and asks for no order among imports. None
# that patches others when it is imported (gevent, eventlet, tracers) may be added, and none that
# reads settings of the application (Django).
LIBRARIES = frozenset(
    {
        "aiosqlite",
        "annotated_types",
        "anyio",
        "asyncmy",
        "asyncpg",
        "click",
        "email_validator",
        "fastapi",
        "flask",
        "greenlet",
        "h11",
        "httpcore",
        "httptools",
        "httpx",
        "itsdangerous",
        "jinja2",
        "litestar",
        "markupsafe",
        "msgspec",
        "multipart",
        "orjson",
        "psycopg",
        "psycopg_pool",
        "pydantic",
        "pydantic_core",
        "pydantic_settings",
        "pymysql",
        "python_multipart",
        "quart",
        "redis",
        "requests",
        "sqlalchemy",
        "sqlmodel",
        "starlette",
        "typing_extensions",
        "typing_inspection",
        "urllib3",
        "uvloop",
        "websockets",
        "werkzeug",
    }
)
_LINE_BYTES_MAX = 1024 * 1024


def libraries_loaded() -> list[str]:
    """Return the modules of `LIBRARIES` and ours this process has imported, in the order it did.

    One that a folder of the application stands in for is not among them: nor is what is installed
    elsewhere than in the environment.
    """
    folders = tuple(f"{folder}{os.sep}" for folder in _installed_folders())
    return [
        name
        for name, module in list(sys.modules.items())
        if _is_ours(name) or (_is_library(name) and (_file_of(module) or "").startswith(folders))
    ]


def preload(names: Iterable[str]) -> list[str]:
    """Import these modules; return those that are left to whoever needs them: they cannot be."""
    left = []
    for name in names:
        if name in sys.modules:
            continue
        try:
            # Of anything else the import may do anything.
            if _is_ours(name) or _is_library(name):
                importlib.import_module(name)
            else:
                left.append(name)
        except Exception:  # noqa: BLE001 - the same import will say it where somebody needs it
            left.append(name)
    return left


def environment_stamp() -> tuple[int, ...]:
    """Return something that is another when packages were installed or removed meanwhile.

    The names in the environment's folders change then, and with them the time of the folder.
    """
    stamps = []
    for folder in [*_installed_folders(), str(Path(__file__).parent)]:
        try:
            stamps.append(Path(folder).stat().st_mtime_ns)
        except OSError:
            stamps.append(0)
    return tuple(stamps)


def await_call(wire: socket.socket, order: Order) -> Order | None:
    """Import what the supervisor names, wait to be needed, and return the order to begin with.

    None when the supervisor hangs up: then nobody will need us. Raises `OSError` when the
    directory of the application is gone.
    """
    wire.settimeout(None)
    while (said := _read_line(wire)) is not None:
        match said["kind"]:
            case "preload":
                left = preload(said["modules"])
                wire.sendall(encoded({"kind": "warm", "left": left}) + b"\n")
            case "serve":
                # By its name, as a fresh process would enter it: it may be another one by now.
                os.chdir(order.directory)
                return replace(
                    order,
                    spare=False,
                    generation=said["generation"],
                    workers=said["workers"],
                )
    return None


def _read_line(wire: socket.socket) -> dict[str, Any] | None:
    """Read one line and not a byte more: what follows belongs to the loop that is not there yet."""
    line = bytearray()
    while len(line) < _LINE_BYTES_MAX:
        try:
            ahead = wire.recv(65536, socket.MSG_PEEK)
        except ConnectionError:
            return None
        end = ahead.find(b"\n") + 1
        if not ahead:
            return None
        line += wire.recv(end or len(ahead))
        if end:
            message: dict[str, Any] = orjson.loads(line)
            return message
    return None


def _is_library(name: str) -> bool:
    return name.partition(".")[0] in LIBRARIES


def _is_ours(name: str) -> bool:
    # The demo is an application.
    return name.startswith("shipworthy.") and not name.startswith("shipworthy.demo")


def _installed_folders() -> list[str]:
    of_scheme = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return sorted({*of_scheme, *site.getsitepackages()})


def _file_of(module: Any) -> str | None:
    spec = getattr(module, "__spec__", None)
    return getattr(spec, "origin", None)
