"""Keeping secrets out of what is written."""

import time

import pytest
from hypothesis import example, given, strategies as st

from redact.planted import ORDINARY, PLANTED
from shipworthy.redact import printable, redact


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("postgresql+asyncpg://app:hunter2@db/x", "postgresql+asyncpg://app:***@db/x"),
        ("redis://:hunter2@cache:6379/0", "redis://:***@cache:6379/0"),
        ("amqp://u:hunter@2@mq/", "amqp://u:***@mq/"),
        ("mysql://u:hun/ter2@db/x", "mysql://u:***@db/x"),
        ("'http://u:12345@h' and 'http://v:hunter2@h'", "'http://u:***@h' and 'http://v:***@h'"),
        ("https://u:hunter2@h/cb?token=hunter2&x=1", "https://u:***@h/cb?token=***&x=1"),
    ],
)
def test_passwords_in_urls_are_removed(text, safe):
    """Also with characters in them that ought to have been quoted; the rest of the URL stays."""
    assert redact(text) == safe


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("sent Bearer abc.DEF-123 to", "sent Bearer *** to"),
        ("bearer 0123456789", "bearer ***"),
        ("Basic dXNlcjpwYXNz", "Basic ***"),
        ("Authorization: Bearer hunter2 x\nHost: h", "Authorization: ***\nHost: h"),
        ('authorization: Digest username="u", response="r"', "authorization: ***"),
        ("Cookie: a=hunter2; b=hunter2", "Cookie: ***"),
        ("Set-Cookie: session=hunter2; HttpOnly", "Set-Cookie: ***"),
        ("{'authorization': 'Bearer hunter2', 'a': 1}", "{'authorization': '***', 'a': 1}"),
        ("[(b'cookie', b'a=b; c=d'), (b'a', b'b')]", "[(b'cookie', b'***'), (b'a', b'b')]"),
    ],
)
def test_credentials_of_a_request_are_removed(text, safe):
    """Headers as they are sent, as a dictionary, and as the list of pairs an ASGI scope holds."""
    assert redact(text) == safe


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("password=hunter2 next=1", "password=*** next=1"),
        ("DB_PASSWORD: hunter2, x", "DB_PASSWORD: ***, x"),
        ("connect(password='hunter 2', port=1)", "connect(password='***', port=1)"),
        ("connect(password=hunter2)", "connect(password=***)"),
        ('{"apiKey": "hun\\"ter2", "n": 1}', '{"apiKey": "***", "n": 1}'),
        ('"{\\"password\\": \\"hunter2\\"}"', '"{\\"password\\": \\"***\\"}"'),
        ("Server=db;UID=sa;PWD=hunter2;x=1", "Server=db;UID=sa;PWD=***;x=1"),
        ("?X-Amz-Signature=hunter2&a=b", "?X-Amz-Signature=***&a=b"),
        ("password='hunter2", "password='***"),
        ("password=(hunter2", "password=***"),
        ("detail=password=hunter2", "detail=password=***"),
        ('{"detail": "password=hunter2"}', '{"detail": "password=***"}'),
        ("a: b: token: hunter2", "a: b: token: ***"),
    ],
)
def test_values_of_secret_names_are_removed(text, safe):
    """However the name and the value are joined, quoted, nested or cut off."""
    assert redact(text) == safe


def test_json_web_tokens_are_removed_wherever_they_stand():
    """A token has a form of its own, so it needs no name before it."""
    jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP-mB92K27uhbU"

    assert redact(f"got {jwt} from x") == "got *** from x"


@pytest.mark.parametrize("kind", ["PRIVATE KEY", "RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK"])
def test_private_keys_are_removed_whole(kind):
    """From the first line to the last, or to the end of a text that was cut off."""
    key = f"-----BEGIN {kind}-----\nhunter2\nhunter2\n-----END {kind}-----"

    assert redact(f"a\n{key}\nb") == "a\n***\nb"
    assert redact(f"a\n{key[:-40]}") == "a\n***"


@pytest.mark.parametrize(
    "text",
    [
        "GET /clients/17 200 in 0.012 s",
        "http://host:8000/path?email=x@y.z",
        "http://u@h/",
        "basic authentication failed, bearer authentication too",
        "max_tokens=100 token_bytes=16 password_file=/run/secrets/x",
        "-----BEGIN CERTIFICATE-----\nabc",
        "primary key=7, monkey: banana",
        "password is wrong",
        "password=",
        "cookie:",
        "",
    ],
)
def test_what_is_no_secret_stays(text):
    """A log that hides what happened is no log."""
    assert redact(text) == text


pieces = st.sampled_from(
    ["password", "token", "Authorization", "cookie", "bearer ", "Basic ", "=", ": ", ", ", "'", '"',
     "\\", '\\"', "b'", "://", "u:", "@", "/", "eyJabcdef.", "-----BEGIN PRIVATE KEY-----", "***",
     " ", "\n", "(", ")", "]", "}", "hunter2", "A1", "&", ";", "443", "[parameters: ", "[SQL: ",
     "]\n(Background on", "LINE 1: ", "Failing row contains ", "Key (token)=(", "Key (id)=(", ") a",
     "Duplicate entry '", "' for key 'token'", "query argument $1: ", "<", ">", "--", "session",
     "Zq7Wm2Xk9Tr4Bn6V", "AKIAQ7WM2XK9TR4BN6VC", "4111111111111111", "-----END PRIVATE KEY-----"]
)  # fmt: skip


@given(st.lists(pieces, max_size=12).map("".join))
@example("password=(hunter2))")
@example("://://://@")
def test_redacting_twice_changes_nothing_more(text):
    """A line may pass through two sinks."""
    once = redact(text)

    assert redact(once) == once


@given(
    st.sampled_from(["password", "DB_PASSWORD", "apiKey", "x-auth-token", "client_secret"]),
    st.sampled_from(["=", ": ", " = ", '": "', "': '", '\\": \\"', "', '", "', b'"]),
    st.text(alphabet="abcXYZ0189_-.~+/=!#$%*", min_size=1, max_size=30),
)
def test_no_value_of_a_secret_name_survives(name, joint, value):
    """Whatever stands around the pair, the value is gone."""
    secret = f"q{value}q"

    assert secret not in redact(f"before {joint[0]}{name}{joint}{secret}")


@pytest.mark.parametrize(
    "text",
    ["a" * 100_000, "://" * 30_000, "://a:" * 20_000, "password=" * 10_000, "eyJaaaaa." * 10_000,
     "'" * 90_000 + "password", "password='" + "\\" * 90_000, "Bearer " + "a" * 90_000,
     "-----BEGIN PRIVATE KEY-----" * 4_000, "key" + "a.-" * 30_000, "token" + " " * 90_000,
     "password=" + ")" * 90_000],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_a_hostile_text_takes_no_more_time_than_a_long_one(text):
    """100 kB take milliseconds; with time growing as the square they would take many seconds."""
    began = time.perf_counter()

    redact(text)

    assert time.perf_counter() - began < 2.0


@pytest.mark.parametrize(("text", "secret"), [p[1:] for p in PLANTED], ids=[p[0] for p in PLANTED])
def test_no_planted_secret_survives(text: str, secret: str) -> None:
    """Alone, within a sentence and in the middle of a text; and what stands around it stays."""
    for around in ("{}", "it said: {} and ended", "first line\n{}\nlast line"):
        shown = redact(around.replace("{}", text))
        assert secret not in shown
        assert "***" in shown
        assert shown.startswith(around.partition("{}")[0])


def test_there_are_at_least_fifty() -> None:
    """So that nobody takes them away one by one."""
    assert len({kind for kind, _, _ in PLANTED}) == len(PLANTED) >= 50
    assert all(secret in text for _, text, secret in PLANTED)


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_lines_stay_as_they_are(text: str) -> None:
    """Ids, hashes, versions, numbers, names of files: what people look for in a log."""
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "-----END PRIVATE KEY-----" * 4_000,
        ("A" * 60 + "\n") * 1_600 + "-----END PRIVATE KEY----",
        "[parameters: " * 8_000,
        "[parameters: \n" * 7_000,
        "[SQL: '" * 14_000,
        "[SQL: \n" * 14_000,
        "LINE 1: '" * 11_000,
        "Failing row contains " + "(" * 90_000,
        "Key (" * 20_000,
        "Key (password)=(" * 6_000,
        "Duplicate entry '" * 6_000,
        "SQL syntax near " * 6_000,
        "4" * 100_000,
        "4111 " * 20_000,
        "4-" * 50_000,
        "xoxb-" * 20_000,
        "sk-" + "a-" * 50_000,
        "sk-a" * 25_000,
        "SG." + "a" * 100_000,
        "$argon2id$" * 10_000,
        "/api/webhooks/" * 7_000,
        "Bearer " * 14_000,
        "Bearer a" + "-" * 90_000,
        "://" + "a" * 100_000,
        "://a1" * 20_000,
        "://a:" + "@" * 90_000,
        "<token>" * 14_000,
        "token" * 20_000,
        "--token " * 12_000,
        "a_" * 40_000 + "token=",
        "session=" * 12_000,
        "cookie=" * 14_000,
        "İ" * 50_000 + "token=" * 8_000,
        '"' * 100_000,
        "\\" * 100_000 + '"token": "',
        "token: '" + "\\'" * 45_000,
    ],
    ids=lambda text: text[:14],
)
def test_no_form_makes_a_hostile_text_expensive(text: str) -> None:
    """100 kB take milliseconds each, also where every rule begins to match everywhere."""
    began = time.process_time()

    redact(text)

    assert time.process_time() - began < 2.0


def test_printable_is_one_line_that_steers_no_terminal():
    """What is printable stays, in every script; the rest is shown as Python would."""
    assert printable("caf\u00e9 \u2713") == "caf\u00e9 \u2713"
    assert printable("a\r\nb\x1b[2J\u2028") == r"a\r\nb\x1b[2J\u2028"
