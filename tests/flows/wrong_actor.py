"""Requests of many users at once through the whole hull, each writing who it is for.

Every row says in its own column for whom it was written; its context in the log must say the same.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from starlette.authentication import AuthCredentials, AuthenticationBackend, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware

from shipworthy import db
from shipworthy.assembly import harden
from shipworthy.audit import CONTEXTS, ENTRIES, install
from shipworthy.context import actor
from shipworthy.settings import load

ASYNC_NAMES = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "mariadb": "asyncmy"}
POOL = 10
TASKS = 200
WAIT_SECONDS = 60.0
WAYS = (
    "async route", "sync route", "thread sets the state", "siblings", "background task",
    "worker thread", "savepoint", "nobody",
)  # fmt: skip

TABLE = sa.Table(
    "said",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("who", sa.String(40), nullable=False),
    mysql_engine="InnoDB",
    mariadb_engine="InnoDB",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributed:
    """What the log says of all rows: `wrong` named another, `lost` nobody though one was known."""

    kind: str
    writes: int
    wrong: int
    lost: int
    invented: int
    ways: dict[str, int]
    refused: int


class _Backend(AuthenticationBackend):
    async def authenticate(self, conn: Any) -> tuple[AuthCredentials, SimpleUser] | None:
        name = conn.headers.get("authorization")
        return (AuthCredentials(), SimpleUser(name)) if name else None


def _service(engine: Engine, own: AsyncEngine) -> FastAPI:
    """Return an application that knows nothing of us but, for its siblings, `actor`."""
    app = FastAPI()
    app.add_middleware(AuthenticationMiddleware, backend=_Backend())
    numbers = count(1)

    def write(who: str) -> None:
        with engine.begin() as connection:
            connection.execute(sa.select(TABLE).limit(1))
            connection.execute(sa.insert(TABLE).values(id=next(numbers), who=who))

    async def write_async(who: str) -> None:
        async with own.begin() as connection:
            await connection.execute(sa.select(TABLE).limit(1))
            await connection.execute(sa.insert(TABLE).values(id=next(numbers), who=who))

    def named(request: Request) -> str:
        request.state.user = request.headers["x-name"]
        return str(request.state.user)

    @app.post("/async-route")
    async def async_route(request: Request) -> None:
        await write_async(request.user.display_name)

    @app.post("/sync-route")
    def sync_route(request: Request) -> None:
        write(request.user.display_name)

    @app.post("/thread-sets-the-state")
    async def thread_sets_the_state(name: Annotated[str, Depends(named)]) -> None:
        await write_async(name)

    @app.post("/siblings")
    async def siblings(request: Request) -> None:
        async def one(who: str) -> None:
            async with actor(who):
                await asyncio.sleep(0)
                await write_async(who)

        name = request.user.display_name
        await asyncio.gather(one(f"{name}-a"), one(f"{name}-b"), write_async(name))

    @app.post("/background-task")
    async def background_task(request: Request, tasks: BackgroundTasks) -> None:
        tasks.add_task(write_async, request.user.display_name)
        tasks.add_task(write, request.user.display_name)

    @app.post("/worker-thread")
    async def worker_thread(request: Request) -> None:
        await asyncio.to_thread(write, request.user.display_name)

    @app.post("/savepoint")
    async def savepoint(request: Request) -> None:
        name = request.user.display_name
        async with own.begin() as connection:
            inner = await connection.begin_nested()
            await connection.execute(sa.insert(TABLE).values(id=next(numbers), who="gone"))
            await inner.rollback()
            await connection.execute(sa.insert(TABLE).values(id=next(numbers), who=name))

    @app.post("/nobody")
    async def nobody() -> None:
        await write_async("")

    return app


def attributed(url: str, folder: Path, writes: int) -> Attributed:
    """Serve until so many rows are written to the database at `url`, and read what was recorded."""
    kind = make_url(url).get_backend_name()
    kind = "mariadb" if kind == "mysql" else kind
    outside = sa.create_engine(url)
    TABLE.metadata.create_all(outside)
    if kind == "sqlite":
        with outside.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    install(outside, say=lambda _: None)
    with ExitStack() as stack:
        stack.callback(outside.dispose)
        # What is done after an answer waits as long as a request does, on a busy machine too.
        stack.callback(db.install(db.DbSettings(checkout_seconds=WAIT_SECONDS)))
        codes, ways = asyncio.run(_served(url, kind, folder, writes))
        return _read(outside, kind, ways, codes)


async def _served(
    url: str, kind: str, folder: Path, writes: int
) -> tuple[Counter[int], Counter[str]]:
    waits = {"connect_args": {"timeout": 30}} if kind == "sqlite" else {}
    sizes: dict[str, Any] = {"pool_size": POOL, "max_overflow": 0, **waits}
    engine = sa.create_engine(url, **sizes)
    own = create_async_engine(make_url(url).set(drivername=f"{kind}+{ASYNC_NAMES[kind]}"), **sizes)
    environ = {"SHIPWORTHY_WEB__ACCESS_LOG": "false", "SHIPWORTHY_DB__CHECKOUT": f"{WAIT_SECONDS}s"}
    app = harden(_service(engine, own), settings=load(environ=environ, directory=folder))
    codes: Counter[int] = Counter()
    ways: Counter[str] = Counter()
    turns = count()

    async def client(number: int) -> None:
        while sum(ways.values()) < writes:
            way = WAYS[next(turns) % len(WAYS)]
            ways[way] += {"siblings": 3, "background task": 2}.get(way, 1)
            codes[await _ask(app, f"/{way.replace(' ', '-')}", f"user-{number}", way)] += 1

    async with AsyncExitStack() as stack:
        stack.push_async_callback(own.dispose)
        stack.callback(engine.dispose)
        async with asyncio.TaskGroup() as clients:
            for number in range(TASKS):
                clients.create_task(client(number))
    return codes, ways


async def _ask(app: Callable[..., Awaitable[None]], path: str, name: str, way: str) -> int:
    """Ask once, as a server would, in this task; return the status."""
    header = {"thread sets the state": b"x-name", "nobody": b"x-nobody"}.get(way, b"authorization")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"test"), (header, name.encode())],
        "client": ("10.0.0.7", 40000),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    status = 0

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)

    await app(scope, receive, send)
    return status


def _read(outside: Engine, kind: str, ways: Counter[str], codes: Counter[int]) -> Attributed:
    wrong = lost = invented = writes = 0
    for who, name, actor_kind in _recorded(outside):
        writes += 1
        known = actor_kind == "user"
        wrong += known and bool(who) and name != who
        lost += bool(who) and not known
        invented += known and not who
    return Attributed(
        kind=kind,
        writes=writes,
        wrong=wrong,
        lost=lost,
        invented=invented,
        ways=dict(ways),
        refused=sum(number for status, number in codes.items() if status != 200),
    )


def _recorded(outside: Engine) -> Iterator[tuple[str, str | None, str | None]]:
    """Return of each entry what its row says, and what its context does."""
    query = (
        sa.select(ENTRIES.c.new, CONTEXTS.c.actor, CONTEXTS.c.actor_kind)
        .select_from(ENTRIES.outerjoin(CONTEXTS, CONTEXTS.c.tx == ENTRIES.c.tx))
        .order_by(ENTRIES.c.seq)
    )
    with _streaming(outside) as connection:
        for new, name, kind in connection.execute(query):
            yield _who(new), name, kind


@contextmanager
def _streaming(outside: Engine) -> Iterator[sa.Connection]:
    with outside.connect() as connection:
        yield connection.execution_options(yield_per=1000)


def _who(image: str) -> str:
    from shipworthy.audit import read_image

    cell = str(read_image(image)["who"])
    # On SQLite the first letter of a cell is its storage class.
    return cell.removeprefix("t") if cell.startswith("tuser") or cell == "t" else cell
