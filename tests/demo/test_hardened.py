"""The one line that is the difference."""

import ast
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from shipworthy import harden
from shipworthy.demo import hardened, service
from shipworthy.settings import load


def test_it_is_the_same_service_inside():
    """The hardened application is `harden` around the bare one, which is not changed."""
    assert hardened.app.app is service.app
    assert harden(hardened.app) is hardened.app


def test_it_takes_public_names_only():
    """Whoever copies the file needs nothing that is not promised."""
    code = ast.parse(Path(hardened.__file__).read_text())
    taken = [node for node in ast.walk(code) if isinstance(node, ast.ImportFrom)]

    assert {(node.module, name.name) for node in taken for name in node.names} == {
        ("shipworthy", "harden"),
        ("shipworthy.demo", "service"),
    }


@pytest.mark.parametrize(
    "path", ["/projects?size=20", "/epics/1", "/tasks", "/nothing", "/clients/0"]
)
def test_what_it_answers_is_what_the_bare_one_answers(sqlite_url: str, path: str):
    """Status and body are the same; the answer carries an id more."""
    app = service.create_app(sqlite_url)
    quiet = load(environ={}, overrides={"web.access_log": "false"})
    with TestClient(app) as bare:
        expected = bare.get(path)

    with TestClient(harden(app, settings=quiet)) as wrapped:
        answer = wrapped.get(path)

    assert (answer.status_code, answer.content) == (expected.status_code, expected.content)
    assert "x-request-id" in answer.headers
    assert "x-request-id" not in expected.headers
