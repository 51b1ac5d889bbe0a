"""The command line."""

import contextlib
import http.server
import json
import os
import pty
import re
import socket
import sqlite3
import subprocess
import sys
import threading

import pytest
from typer.testing import CliRunner

import shipworthy
from shipworthy.cli import app

COMMANDS = [
    [],
    ["run"],
    ["demo"],
    ["config"],
    ["config", "show"],
    ["config", "check"],
    ["db"],
    ["db", "check"],
    ["db", "migrate"],
    ["breakers"],
    ["breakers", "list"],
    ["breakers", "isolate"],
    ["breakers", "close"],
    ["audit"],
    ["audit", "plan"],
    ["audit", "install"],
    ["audit", "uninstall"],
    ["audit", "check"],
    ["audit", "log"],
]


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A directory without settings, and an environment that says nothing to us."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SHIPWORTHY_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def call():
    """Run the command line in this process."""

    def run(*arguments, **environ):
        return CliRunner().invoke(app, list(arguments), env=environ, prog_name="shipworthy")

    return run


@pytest.fixture
def taken():
    """A port on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_help_has_an_example_that_parses(call, command):
    """The example begins as the command does, and knows no option that is not there."""
    result = call(*command, "--help")

    (example,) = re.findall(r"Example: shipworthy (.+)", result.output)
    assert result.exit_code == 0
    assert example.split()[: len(command)] == command
    parsed = call(*example.split(), "--help")
    assert parsed.exit_code == 0


def test_it_says_its_version(call):
    """The version of the package, and nothing else."""
    result = call("--version")

    assert (result.output, result.exit_code) == (f"shipworthy {shipworthy.__version__}\n", 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rum"], "No such command 'rum'"),
        (["run", "--prt", "1"], "No such option: --prt"),
        (["run", "x:app", "--port", "70000"], "Invalid value for '--port'"),
        (["run", "x:app", "--ops-port", "-1"], "Invalid value for '--ops-port'"),
        (["run", "x:app", "--json"], "--json prints what --dry-run finds; add --dry-run"),
        (["config", "show", "extra"], "Got unexpected extra argument"),
    ],
)
def test_a_command_line_that_cannot_be_followed_is_misuse(call, arguments, sentence):
    """Exit 2, on standard error, with the word that is wrong."""
    result = call(*arguments)

    assert result.exit_code == 2
    assert sentence in result.stderr
    assert result.stdout == ""


def test_nothing_asked_is_answered_with_help(call):
    """What can be asked is the answer."""
    assert "Commands:" in call().output
    assert "Commands:" in call("config").output


@pytest.mark.slow
def test_the_command_line_starts_without_the_rooms():
    """Help and mistyped options do not wait for a server and a framework to be imported."""
    code = (
        "import sys, shipworthy.cli\n"
        "heavy = {'starlette', 'uvicorn', 'fastapi', 'sqlalchemy', 'asyncio', 'rich.console',\n"
        "  'shipworthy.serve', 'shipworthy.assembly', 'shipworthy.settings'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )

    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (imported.stdout, imported.stderr) == ("[]\n", "")


@pytest.mark.slow
def test_the_package_runs_as_a_module():
    """`python -m shipworthy` is the same command line, under the same name."""
    result = subprocess.run(
        [sys.executable, "-m", "shipworthy", "run", "--help"], capture_output=True, text=True
    )

    assert result.returncode == 0
    assert result.stdout.startswith("Usage: shipworthy run ")


def test_config_show_prints_every_value_with_its_origin_in_columns(call, tmp_path):
    """Plain lines where nobody looks at a terminal; an empty value is shown as one."""
    (tmp_path / "shipworthy.toml").write_text("[serve]\nport = 80\n")

    result = call("config", "show", SHIPWORTHY_OPERATIONS__TOKEN="hunter2hunter2")

    lines = result.stdout.splitlines()
    rows = [re.split(r"  +", line) for line in lines]
    starts = {line.index(row[1], len(row[0])) for line, row in zip(lines, rows, strict=True)}
    assert result.exit_code == 0
    assert rows[0] == ["environment", "development", "default"]
    assert ["serve.port", "80", "shipworthy.toml:2"] in rows
    assert ["serve.uds", '""', "default"] in rows
    assert ["operations.token", "set, 14 characters", "SHIPWORTHY_OPERATIONS__TOKEN"] in rows
    assert len(starts) == 1


def test_config_show_prints_json_with_the_same_facts(call, tmp_path):
    """For programs: the environment, the file, and a list of key, value and origin."""
    file = tmp_path / "other.toml"
    file.write_text("[serve]\nport = 80\n")

    result = call("config", "show", "--json", "--config", str(file), SHIPWORTHY_ENV="staging")

    facts = json.loads(result.stdout)
    assert (facts["environment"], facts["file"]) == ("staging", str(file))
    assert {"key": "serve.port", "value": "80", "origin": f"{file}:2"} in facts["values"]
    assert {"key": "operations.token", "value": "not set", "origin": "default"} in facts["values"]


def test_what_config_show_prints_can_be_set_again(call):
    """Every default is within its own bounds, and is shown as a variable would hold it."""
    shown = json.loads(call("config", "show", "--json").stdout)["values"]
    environ = {
        f"SHIPWORTHY_{value['key'].replace('.', '__').upper()}": value["value"]
        for value in shown
        if value["value"] != "not set"
    }

    again = json.loads(call("config", "show", "--json", **environ).stdout)["values"]

    assert [value["value"] for value in again] == [value["value"] for value in shown]
    assert {value["origin"] for value in again} == {*environ, "default"}


def test_config_show_names_the_variable_that_chose_the_environment(call):
    """It is a value like the others."""
    result = call("config", "show", SHIPWORTHY_ENV="production")

    assert result.stdout.splitlines()[0].split() == ["environment", "production", "SHIPWORTHY_ENV"]


@pytest.mark.slow
def test_config_show_prints_a_table_on_a_terminal(tmp_path):
    """With heads over the columns, and brackets in values as they are."""
    (tmp_path / "shipworthy.toml").write_text("[operations]\nhost = '[red]x'\n")
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            [sys.executable, "-m", "shipworthy", "config", "show"],
            stdout=theirs,
            env=os.environ | {"COLUMNS": "120", "TERM": "dumb"},
        )
        os.close(theirs)
        shown = b""
        # EIO is how Linux says that nobody has the terminal open any more.
        with contextlib.suppress(OSError):
            while chunk := screen.read(4096):
                shown += chunk

    assert process.wait(10) == 0
    lines = shown.decode().splitlines()
    assert lines[0].split() == ["setting", "value", "from"]
    assert ["operations.host", "[red]x", "shipworthy.toml:2"] in [line.split() for line in lines]


@pytest.mark.parametrize("verb", ["show", "check"])
def test_settings_that_cannot_be_used_are_misuse_of_config(call, tmp_path, verb):
    """Every problem is a line on standard error, and the exit code is 2."""
    (tmp_path / "shipworthy.toml").write_text("[serve]\nprot = 80\nport = 'x'\n")

    result = call("config", verb)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        (
            "shipworthy: serve.prot: no such setting (did you mean 'serve.port'?) "
            "(from shipworthy.toml:2)"
        ),
        (
            "shipworthy: serve.port: expected a whole number from 0 to 65535, got 'x' "
            "(from shipworthy.toml:3)"
        ),
    ]


def test_config_check_accepts_what_production_would(call):
    """The defaults are fit for production, and the answer says how much was looked at."""
    result = call("config", "check")

    assert result.exit_code == 0
    assert re.fullmatch(r"production would accept these \d\d+ settings\n", result.stdout)


def test_config_check_says_what_production_would_refuse(call, tmp_path):
    """Read as production reads them, also on a laptop; exit 1 means that the answer is no."""
    (tmp_path / "shipworthy.toml").write_text("[profile.production.operations]\nhost = '0.0.0.0'\n")

    result = call("config", "check", SHIPWORTHY_ENV="development")
    as_json = call("config", "check", "--json")

    (line,) = result.stdout.splitlines()
    assert (result.exit_code, as_json.exit_code) == (1, 1)
    assert line.startswith("refused: operations.token: not set while operations.host is '0.0.0.0'")
    assert json.loads(as_json.stdout) == {"refusals": [line.removeprefix("refused: ")], "notes": []}


def test_config_check_notes_a_secret_that_all_may_read(call, tmp_path):
    """It is worth a line; the answer is yes all the same, because containers mount secrets so."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123456789abcdef")
    token.chmod(0o644)

    result = call("config", "check", SHIPWORTHY_OPERATIONS__TOKEN_FILE=str(token))

    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == (
        f"note: operations.token: secret file {token}: every user of this machine can read it "
        f"(mode 644): chmod 600"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["run"], 2, "no application was named: write `shipworthy run"),
        (["run", "x:app", "--config", "none.toml"], 78, "settings file none.toml: does not exist"),
        (["run", "x:app", "--tls-cert", "a.pem"], 78, "serve.tls_cert is set and serve.tls_key is"),
        (["run", "x:app", "--tls-key", "a.pem"], 78, "serve.tls_key is set and serve.tls_cert is"),
        (["run", "--dry-run"], 2, "no application was named"),
        (["run", "x:app", "--dry-run", "--config", "none.toml"], 78, "none.toml: does not exist"),
        (["run", "x:app", "--port", "0", "--host", "::g"], 3, "::g"),
        (["run", "x:app", "--uds", "none/app.sock"], 3, "none/app.sock"),
        pytest.param(["demo", "--database", "nonsense://"], 3, "nonsense", marks=pytest.mark.slow),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_start_that_cannot_be_made_says_so_in_a_sentence(call, arguments, code, sentence):
    """2 is misuse, 3 a failed start, 78 unusable settings: what restarts a service can tell."""
    result = call(*arguments)

    assert (result.exit_code, sentence in result.stderr) == (code, True), result.stderr
    assert all(line.startswith("shipworthy: ") for line in result.stderr.splitlines())
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "arguments", [["--port", "{}"], ["--port", "0", "--ops-port", "{}"]], ids=" ".join
)
def test_ports_of_the_command_line_are_the_ones_that_are_used(call, taken, arguments):
    """A taken one is named, with the option that chooses another."""
    result = call("run", "x:app", *(argument.format(taken) for argument in arguments))

    assert result.exit_code == 3
    assert f"127.0.0.1:{taken} is in use by another process" in result.stderr
    assert f"choose another with {arguments[-2]}" in result.stderr


@pytest.mark.slow
def test_a_dry_run_says_what_would_be_done_to_the_app(call, tmp_path):
    """In lines for people and as JSON for programs; nothing is served."""
    (tmp_path / "shop.py").write_text(
        "from starlette.applications import Starlette\napp = Starlette()\n"
    )

    result = call("run", "shop.py:app", "--dry-run")
    as_json = call("run", "shop.py:app", "--dry-run", "--json")

    rows = [re.split(r"  +", line, maxsplit=1) for line in result.stdout.splitlines()]
    report = json.loads(as_json.stdout)
    assert (result.exit_code, as_json.exit_code) == (0, 0)
    assert rows[0] == ["target", "shop.py:app"]
    assert re.fullmatch(r"Starlette [\d.]+ \(asgi\)", rows[1][1])
    assert ["guard", "drain: enforce"] in rows
    assert any(head == "not done" for head, _ in rows)
    assert {"guard": "drain", "mode": "enforce"} in report["guards"]


@pytest.mark.slow
def test_a_dry_run_of_an_app_that_is_not_there_fails(call):
    """With the sentence of the process that looked for it."""
    result = call("run", "nowhere_at_all:app", "--dry-run")

    assert result.exit_code == 3
    assert "nowhere_at_all" in result.stderr


# -- db --

PROJECT = """
[alembic]
script_location = {folder}/migrations
path_separator = os
sqlalchemy.url = sqlite:///{folder}/app.db
"""
ENV_PY = """
from alembic import context

context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
REVISION = """
from alembic import op

revision, down_revision = "r1", None


def upgrade():
    op.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    op.execute("UPDATE t SET id = 1")
    op.execute("DELETE FROM big")
"""


@pytest.fixture
def project(tmp_path):
    """An Alembic project with one revision, and a table with three rows that it empties."""
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    (tmp_path / "alembic.ini").write_text(PROJECT.format(folder=tmp_path))
    (tmp_path / "migrations" / "env.py").write_text(ENV_PY)
    (tmp_path / "migrations" / "versions" / "r1.py").write_text(REVISION)
    connection = sqlite3.connect(tmp_path / "app.db")
    connection.executescript("CREATE TABLE big (id INTEGER); INSERT INTO big VALUES (1), (2), (3)")
    connection.close()
    return tmp_path


def test_a_database_that_waits_for_a_revision_is_not_well(call, project):
    """Exit 1, with what is there and what waits; after the migration, exit 0."""
    before = call("db", "check")
    migrated = call("db", "migrate")
    after = call("db", "check")

    assert before.exit_code == 1
    assert "these revisions wait: r1; run `shipworthy db migrate`" in before.output
    assert migrated.exit_code == 0
    assert migrated.output.endswith("running r1: \ndone: 1 revisions applied\n")
    assert after.exit_code == 0
    assert re.search(r"our tables +version 1\n", after.output)
    assert re.search(r"revisions +all applied\n", after.output)


def test_a_check_is_printed_as_json(call, project):
    """With the stable names of its facts."""
    result = call("db", "check", "--json", "--large-rows", "2")

    facts = json.loads(result.stdout)
    assert list(facts) == [
        "url",
        "server",
        "version",
        "tables",
        "connections",
        "pending",
        "findings",
        "problems",
    ]
    assert facts["pending"] == ["r1"]
    assert facts["findings"][0]["rule"] == "delete-every-row"
    assert facts["findings"][0]["refused"] is True


def test_a_migration_that_would_lock_a_large_table_is_refused(call, project):
    """Exit 1, one line for each reason on standard error, and nothing was done."""
    refused = call("db", "migrate", "--large-rows", "2")
    accepted = call("db", "migrate", "--large-rows", "2", "--accept", "delete-every-row")

    assert refused.exit_code == 1
    assert refused.stderr.startswith("shipworthy: r1, line 5: delete-every-row: DELETE of every")
    assert accepted.exit_code == 0


def test_a_dry_run_prints_sql_and_what_is_wrong_with_it(call, project):
    """What it prints is SQL with comments; with --json, facts."""
    result = call("db", "migrate", "--sql", "--large-rows", "2")
    facts = json.loads(call("db", "migrate", "--dry-run", "--json").stdout)

    assert result.exit_code == 1
    assert "CREATE TABLE t (id INTEGER PRIMARY KEY);" in result.output
    assert "-- locks: r1, line 5: delete-every-row" in result.output
    assert "-- refused: r1, line 5: delete-every-row" in result.output
    assert [one["revision"] for one in facts["pending"]] == ["r1"]
    assert call("db", "migrate").exit_code == 0
    assert call("db", "migrate", "--dry-run").output == "-- nothing to apply\n"


def test_a_revision_that_cannot_be_read_is_said_in_a_dry_run(call, project):
    """Nobody takes silence for a good sign."""
    path = project / "migrations" / "versions" / "r1.py"
    path.write_text(path.read_text() + "    op.get_bind().execute(None).one()\n")

    assert "-- cannot be read without being run: " in call("db", "migrate", "--dry-run").output


def test_our_tables_can_be_left_out_and_taken_away(call, project):
    """And nothing else is done then."""
    without = call("db", "migrate", "--without-ours", "--json")
    nothing = call("db", "migrate", "--remove-ours")
    call("db", "migrate")
    removed = call("db", "migrate", "--remove-ours", "--json")
    both = call("db", "migrate", "--remove-ours", "--dry-run")

    assert json.loads(without.stdout)["applied"] == ["r1"]
    assert json.loads(without.stdout)["ours"] == []
    assert nothing.output == "there are no tables of ours\n"
    assert "dropped the table shipworthy_schema" in json.loads(removed.stdout)["removed"]
    assert both.exit_code == 2


def test_without_a_project_only_our_tables_are_made(call, tmp_path):
    """And that is said."""
    result = call("db", "migrate", "--database", f"sqlite:///{tmp_path / 'new.db'}")

    assert result.exit_code == 0
    assert "there is no Alembic project here" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["db", "check"], 2, "no database is named"),
        (["db", "check", "--database", "nonsense"], 2, "the database URL cannot be used"),
        (["db", "check", "--database", "sqlite:///no.db"], 1, "there is no file 'no.db'"),
        (["db", "check", "--alembic", "no.ini"], 2, "there is no file no.ini"),
        (["db", "migrate", "--database", "sqlite://", "--lock-wait", "5"], 2, "5"),
    ],
)
def test_what_a_database_command_cannot_do_is_one_sentence(call, arguments, code, sentence):
    """Exit 2 for what was written wrong, 1 where the answer is no."""
    result = call(*arguments)

    assert result.exit_code == code
    assert sentence in result.stderr


def test_a_failed_migration_says_what_stays(call, project):
    """Exit 1; the revision can be run again."""
    connection = sqlite3.connect(project / "app.db")
    connection.execute("DROP TABLE big")
    connection.close()

    result = call("db", "migrate")

    assert result.exit_code == 1
    assert "revision r1 failed: OperationalError: no such table: big" in result.stderr


# -- breakers (a whole service answers in tests/flows/test_breakers.py) --

ONE = {
    "worker": 4711,
    "name": "db:main",
    "state": "open",
    "because": "the last 5 calls were refused",
    "for_seconds": 3.4,
    "window_calls": 20,
    "window_failures": 12,
}


@pytest.fixture
def port():
    """An operations port that answers with `said`, and keeps what it was asked in `asked`."""

    class Port(http.server.BaseHTTPRequestHandler):
        said, asked = {"breakers": [ONE], "silent": []}, []

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            self.asked.append((self.command, self.path, self.headers["authorization"], body))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(self.said).encode())

        do_POST = do_GET

        def log_message(self, *_): ...

    with http.server.HTTPServer(("127.0.0.1", 0), Port) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        Port.number = server.server_port
        yield Port
        server.shutdown()
        thread.join()


def test_breakers_are_found_and_opened_by_the_settings_of_the_service(call, port, tmp_path):
    """Its own file says where it is and what opens it; nothing of the token is printed."""
    (tmp_path / "shipworthy.toml").write_text(
        f"[operations]\nport = {port.number}\ntoken = 'a-token-of-the-file'\n"
    )

    result = call("breakers", "list")

    assert result.exit_code == 0
    assert re.split(r"  +", result.stdout.strip()) == [
        "db:main", "4711", "open", "3 s", "12 of 20 failed", "the last 5 calls were refused",
    ]  # fmt: skip
    assert port.asked == [("GET", "/api/breakers", "Bearer a-token-of-the-file", b"")]
    assert "a-token" not in result.output


def test_options_win_over_the_settings(call, port):
    """Another service, another token; a reason goes with an isolation."""
    options = ["--ops", f"http://127.0.0.1:{port.number}", "--token", "of-the-option"]
    environ = {"SHIPWORTHY_OPERATIONS__TOKEN": "of-the-environment"}

    isolated = call("breakers", "isolate", "db:main", "--because", "a test", *options, **environ)
    closed = call("breakers", "close", "db:main", *options[:2], **environ)

    assert (isolated.exit_code, closed.exit_code) == (0, 0)
    assert port.asked == [
        ("POST", "/api/breakers/db:main/isolate", "Bearer of-the-option", b'{"because":"a test"}'),
        ("POST", "/api/breakers/db:main/close", "Bearer of-the-environment", b""),
    ]


def test_breakers_are_printed_as_the_port_tells_them(call, port):
    """With --json a program gets the whole."""
    result = call("breakers", "list", "--json", "--ops", f"http://127.0.0.1:{port.number}")

    assert json.loads(result.stdout) == port.said


def test_no_breaker_is_said_as_such(call, port):
    """An empty answer would look like a failure."""
    port.said = {"breakers": [], "silent": []}

    result = call("breakers", "list", "--ops", f"http://127.0.0.1:{port.number}")

    assert result.exit_code == 0
    assert result.stdout.startswith("there are no breakers: ")


def test_a_worker_that_says_nothing_is_named(call, port):
    """What is known is printed, and exit 1 says that it is not all."""
    port.said = {"breakers": [ONE], "silent": [4712]}

    result = call("breakers", "list", "--ops", f"http://127.0.0.1:{port.number}")

    assert result.exit_code == 1
    assert "db:main" in result.stdout
    assert result.stderr == "shipworthy: worker 4712 did not answer in time; ask again\n"


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (["--ops", "http://127.0.0.1:1"], 1, "nobody answers as an operations port at http://127"),
        (["--ops", "127.0.0.1:9000"], 2, "'127.0.0.1:9000' is no address of an operations port"),
        (["--config", "none.toml"], 2, "settings file none.toml: does not exist"),
    ],
)
@pytest.mark.parametrize("verb", [["list"], ["isolate", "db:main"], ["close", "db:main"]], ids=str)
def test_a_port_that_cannot_be_asked_is_one_sentence(call, verb, options, code, sentence):
    """1 where nobody answers, 2 for what was written wrong."""
    result = call("breakers", *verb, *options)

    assert (result.exit_code, result.stdout) == (code, "")
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
