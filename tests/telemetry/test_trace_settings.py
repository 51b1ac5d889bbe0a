"""What `[traces]` takes, and what it refuses before anything starts."""

import subprocess
import sys

import pytest

from shipworthy.settings import Secret
from shipworthy.telemetry import TraceSettings


def refused(**chosen: object) -> str:
    return "\n".join(TraceSettings(**{"endpoint": "http://c:4318", **chosen}).refusals(""))


def test_without_an_endpoint_nothing_is_looked_at() -> None:
    """Traces that go nowhere need neither headers nor packages."""
    assert TraceSettings(headers=Secret("nonsense")).refusals("production") == []


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_an_address_without_a_path_is_that_of_a_collector(endpoint: str, url: str) -> None:
    """As OTLP's own variables have it; with a path it is taken as it is."""
    assert refused(endpoint=endpoint) == ""
    assert TraceSettings(endpoint=endpoint).url == url


@pytest.mark.parametrize(
    "endpoint", ["collector:4318", "grpc://c:4317", "http://", "http://c:99999", "http://[c"]
)
def test_what_is_no_address_is_refused(endpoint: str) -> None:
    """Here and not at the first post, where nobody looks."""
    assert refused(endpoint=endpoint).startswith("traces.endpoint is no http:// or https://")


@pytest.mark.parametrize("endpoint", ["http://me:secret@c:4318", "http://c/?key=secret"])
def test_a_secret_in_the_address_is_refused_and_not_repeated(endpoint: str) -> None:
    """An address is shown in logs and in `config show`."""
    said = refused(endpoint=endpoint)

    assert "traces.headers" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("text", "headers"),
    [
        ("", {}),
        ("api-key=abc", {"api-key": "abc"}),
        (" a = 1 , B_c = x%2Cy%20z ,", {"a": "1", "B_c": "x,y z"}),
        ("authorization=Basic%20a=b=", {"authorization": "Basic a=b="}),
    ],
)
def test_headers_are_written_as_for_opentelemetry(text: str, headers: dict[str, str]) -> None:
    """Pairs with commas between, values percent-encoded."""
    chosen = TraceSettings(endpoint="http://c", headers=Secret(text))

    assert (chosen.refusals(""), chosen.sent_headers) == ([], headers)


@pytest.mark.parametrize("text", ["secret", "=secret", "a b=secret", "a=secret%0d%0ab: c", "a=é"])
def test_what_is_no_header_is_refused_and_not_repeated(text: str) -> None:
    """Nothing goes into a request that could end its line."""
    said = refused(headers=Secret(text))

    assert said.startswith("traces.headers cannot be read")
    assert "secret" not in said


def test_a_missing_extra_is_said_in_one_sentence() -> None:
    """And names what to install; in a process of its own, in which the packages are not."""
    program = (
        "import sys\n"
        "sys.path = [one for one in sys.path]\n"
        "class Gone:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] == 'opentelemetry': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Gone())\n"
        "from shipworthy.telemetry import TraceSettings\n"
        "print(TraceSettings(endpoint='http://c').refusals(''))\n"
    )

    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    ).stdout

    assert said.count("pip install 'shipworthy[otel]'") == 1
