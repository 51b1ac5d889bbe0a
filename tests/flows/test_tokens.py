"""`shipworthy run` with tokens: made, used and revoked while it runs."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from lateness import Lateness
from serve.launch import BRISK, PATIENCE_SECONDS, TRIALS, Service, started
from shipworthy.access import list_tokens

pytestmark = pytest.mark.slow

SETTINGS = f'{BRISK}\n[access]\ntokens_file = "tokens.json"\n'
# What docs/reference/access.md promises, from the end of the command on.
KNOWN_WITHIN_SECONDS = 2.0


def tokens(service: Service, *words: str) -> str:
    """Give the command beside the service, as an operator would."""
    done = subprocess.run(
        [sys.executable, "-m", "shipworthy", "tokens", *words],
        cwd=service.directory,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
        env=dict(os.environ),
    )
    return done.stdout.strip()


def ask(service: Service, token: str, path: str, method: str = "GET") -> int:
    """Ask the operations port with a token, and return the status."""
    answer = httpx.request(
        method,
        f"{service.operations}{path}",
        headers={"Authorization": f"Bearer {token}"},
        timeout=PATIENCE_SECONDS,
    )
    return answer.status_code


def until(service: Service, token: str, status: int) -> float:
    """Return how long it took until a token was answered so."""
    began = time.monotonic()
    # Seldom enough that the tries before it is known are no guessing.
    while ask(service, token, "/api/status") != status:
        assert time.monotonic() - began < PATIENCE_SECONDS
        time.sleep(0.25)
    return time.monotonic() - began


def test_a_token_is_made_used_and_revoked_while_the_service_runs(tmp_path: Path) -> None:
    """No restart: it opens and stops opening within 2 s, and the log says who commanded."""
    with Lateness() as late, started(TRIALS, directory=tmp_path, settings=SETTINGS) as service:
        service.until_ready()
        token = tokens(service, "add", "ana", "--role", "operator")
        opened_seconds = until(service, token, 200)

        assert ask(service, token, "/api/restart", "POST") == 202
        assert ask(service, token, "/api/trash/1/purge", "POST") == 403

        tokens(service, "revoke", token.split("_")[1])
        closed_seconds = until(service, token, 401)
        service.signal()
        assert service.ended() == 0

    assert max(opened_seconds, closed_seconds) < KNOWN_WITHIN_SECONDS + late.allowed_seconds
    assert [line["by"] for line in service.events("operations.operator_commanded")] == ["ana"]
    refused = service.events("operations.operator_refused")
    assert {line["status"] for line in refused} == {401, 403}
    assert [line["tokens"] for line in service.events("access.tokens_read")] == [1, 1]
    assert token.rpartition("_")[2] not in service.out + service.err
    (listed,) = list_tokens(service.directory / "tokens.json", time.time())
    assert listed.used is not None
