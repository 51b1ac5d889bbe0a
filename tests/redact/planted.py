"""Secrets as they come into logs, each with the part that must not be in any; and ordinary lines.

None is real: they have the form of one, and that is all that can be recognised.
"""

import base64

from shipworthy.redact import remember

_B62 = "Zq7Wm2Xk9Tr4Bn6Vc8Ld3Fh5Gj1Py0Su"  # 32 letters and digits as a machine throws them
_HEX = "9f86d081884c7d659a2feaa0c55ad015"
_B64 = base64.b64encode(bytes(range(7, 247, 5))).decode()
_JWT = f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.{_B62}"
_PEM = "\n".join(
    (
        "-----BEGIN RSA PRIVATE KEY-----",
        f"MIIE{_B64}",
        f"PEM{_B64}",
        "-----END RSA PRIVATE KEY-----",
    )
)

_SQL_ERROR = """(sqlite3.IntegrityError) UNIQUE constraint failed: clients.mail
[SQL: INSERT INTO clients (mail, note) VALUES (?, ?)]
[parameters: ('ana@example.org', 'Kingfisher-31')]
(Background on this error at: https://sqlalche.me/e/20/gkpj)"""

# What a process was given as a secret, and told by nothing but its value.
GIVEN = "violet-Ptarmigan/48"
remember(GIVEN)

# What kind it is, how it is written, and what must not be read of it.
PLANTED: tuple[tuple[str, str, str], ...] = (
    ("a secret of the settings", f"it said {GIVEN} and left", GIVEN),
    ("the same in a URL", "GET /x?v=violet-Ptarmigan%2F48 HTTP/1.1", "violet-Ptarmigan%2F48"),
    ("password in a pair", "password=Kingfisher-11", "Kingfisher-11"),
    ("password in quotes", "connect(user='app', password='King fisher 12')", "fisher 12"),
    ("password in JSON", '{"user": "app", "password": "Kingfisher-13"}', "Kingfisher-13"),
    ("password in JSON in JSON", r'{"body": "{\"password\": \"Kingfisher-14\"}"}', "Kingfisher-14"),
    ("password of a variable", "PGPASSWORD: Kingfisher-15", "Kingfisher-15"),
    ("password of a command", "mysqldump --password Kingfisher-16 shop", "Kingfisher-16"),
    ("password of an argument", "['psql', '--password', 'Kingfisher-17']", "Kingfisher-17"),
    ("password in a DSN", "postgresql+asyncpg://app:Kingfisher-18@db:5432/shop", "Kingfisher-18"),
    ("password with signs in a DSN", "mysql://app:King/fisher@19@db/shop", "fisher@19"),
    ("password without a user", "redis://:Kingfisher-20@cache:6379/0", "Kingfisher-20"),
    ("password of ODBC", "Server=db;UID=sa;PWD=Kingfisher-21;Encrypt=yes", "Kingfisher-21"),
    ("password of libpq", "host=db user=app password=Kingfisher-22 dbname=shop", "Kingfisher-22"),
    ("password in XML", "<user>app</user><password>King fisher 23</password>", "fisher 23"),
    ("password in a form", "user=app&password=Kingfisher-24&next=%2F", "Kingfisher-24"),
    ("passphrase", "passphrase: Kingfisher-25", "Kingfisher-25"),
    ("camel case", "{'dbPassword': 'Kingfisher-26', 'port': 5432}", "Kingfisher-26"),
    ("token in a query", f"GET /cb?token=tk{_B62}&x=1", f"tk{_B62}"),
    ("code of OAuth in a query", f"GET /cb?code=oc{_B62}&state=7", f"oc{_B62}"),
    ("refresh token", f'"refresh_token":"rt{_B62}"', f"rt{_B62}"),
    ("client secret", f"client_secret = cs{_B62}", f"cs{_B62}"),
    ("API key of a header", f"X-Api-Key: ak{_B62}", f"ak{_B62}"),
    ("API key in camel case", f"apiKey: 'ck{_B62}'", f"ck{_B62}"),
    ("signed URL", f"https://s3/x?X-Amz-Signature=sg{_HEX}&a=1", f"sg{_HEX}"),
    ("user of a URL that is a token", f"https://u7{_B62}@git.example.org/x.git", f"u7{_B62}"),
    ("bearer", f"Authorization: Bearer br{_B62}", f"br{_B62}"),
    ("bearer alone", f"sent Bearer ba{_B62} on", f"ba{_B62}"),
    ("basic", "authorization: Basic YXBwOktpbmdmaXNoZXI=", "YXBwOktpbmdmaXNoZXI"),
    ("digest", f'Authorization: Digest username="a", response="dg{_HEX}"', f"dg{_HEX}"),
    ("cookie", f"Cookie: theme=dark; sid=ck{_HEX}", f"ck{_HEX}"),
    ("cookie that is set", f"Set-Cookie: session=sc{_HEX}; HttpOnly", f"sc{_HEX}"),
    ("cookie of an ASGI scope", f"[(b'host', b'x'), (b'cookie', b'a=as{_HEX}')]", f"as{_HEX}"),
    ("session", f"session=se{_HEX}", f"se{_HEX}"),
    ("session id", "session_id=Kingfisher-27", "Kingfisher-27"),
    ("CSRF token", "csrftoken=Kingfisher-28; next", "Kingfisher-28"),
    ("one-time code", "otp=Kf482915", "Kf482915"),
    ("JSON Web Token", f"got {_JWT} from the client", _JWT),
    ("private key", f"loaded {_PEM} from the file", f"PEM{_B64}"),
    ("end of a private key", _PEM.partition("\n")[2], f"PEM{_B64}"),
    ("key of AWS", "credentials AKIAQ7WM2XK9TR4BN6VC of the role", "AKIAQ7WM2XK9TR4BN6VC"),
    ("secret of AWS", f"aws_secret_access_key = aw{_B62}", f"aw{_B62}"),
    ("GitHub", f"cloned with ghp_{_B62}abcd", f"ghp_{_B62}"),
    ("GitHub, of one repository", f"github_pat_11{_B62}", f"github_pat_11{_B62}"),
    ("GitLab", f"glpat-{_B62}", f"glpat-{_B62}"),
    ("Slack", "xoxb-1234567890-Zq7Wm2Xk9Tr4", "xoxb-1234567890-Zq7Wm2Xk9Tr4"),
    ("webhook of Slack", f"https://hooks.slack.com/services/T00/B00/{_B62}", f"B00/{_B62}"),
    ("Stripe", f"charged with sk_live_{_B62}", f"sk_live_{_B62}"),
    ("Google", f"maps AIza{_B62}abc answered", f"AIza{_B62}"),
    ("OpenAI", f"asked with sk-proj-{_B62}", f"sk-proj-{_B62}"),
    ("npm", f"npm_{_B62}wxyz is published", f"npm_{_B62}"),
    ("SendGrid", f"SG.{_B62}.{_B62}", f"SG.{_B62}"),
    ("Telegram", "bot 123456789:AAZq7Wm2Xk9Tr4Bn6Vc8Ld3Fh5Gj1Py0Suv", "AAZq7Wm2Xk9Tr4Bn6"),
    ("hash of a password", f"$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ${_B62}", f"Q${_B62}"),
    ("bcrypt", f"$2b$12${_B62}{_B62[:21]}", f"{_B62}"),
    ("card", "paid by 4111111111111111 today", "4111111111111111"),
    ("card in groups", "paid by 5500 0055 5555 5559, thanks", "5500 0055 5555 5559"),
    ("card of American Express", "paid by 3782-822463-10005.", "3782-822463-10005"),
    ("security code", "cvv=Kf737x", "Kf737x"),
    ("social security number", "ssn: 078-05-1120", "078-05-1120"),
    (
        "parameters of SQL",
        _SQL_ERROR,
        "Kingfisher-31",
    ),
    (
        "a value in a statement",
        "no such table: x\n[SQL: SELECT 1 FROM x WHERE y = 'Kingfisher''32']",
        "Kingfisher''32",
    ),
    (
        "a row that was refused",
        "DETAIL:  Failing row contains (7, Kingfisher-33, null).",
        "Kingfisher-33",
    ),
    (
        "a value that is no number",
        'invalid input syntax for type integer: "Kingfisher-34"',
        "Kingfisher-34",
    ),
    (
        "an argument of asyncpg",
        "invalid input for query argument $1: 'Kingfisher-35' (x)",
        "Kingfisher-35",
    ),
    (
        "an entry that is there twice",
        "Duplicate entry 'Kingfisher-36' for key 'u.api_token'",
        "-36",
    ),
    (
        "a key that is there twice",
        "DETAIL:  Key (id, token)=(7, Kingfisher-37) already exists.",
        "-37",
    ),
)

# Lines that people need as they are.
ORDINARY = (
    "GET /clients/17/orders/42 200 in 0.012 s",
    "order 550e8400-e29b-41d4-a716-446655440000 shipped from quay 7",
    "order 12345678-1234-4123-8123-123456789012 shipped",
    "commit 7b12aaa1c0ffee254bbd4e7f0a3d9c1182736455 of shipworthy 0.1.0",
    "sha256:9f86d081884c7d659a2feaa0c55ad0159f86d081884c7d659a2feaa0c55ad015 pulled",
    "trace 4bf92f3577b34da6a3ce929d0e0e4736 span 00f067aa0ba902b7",
    "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "started at 1764521112345 ms, 1764521112345678 us, 1764521112345678901 ns",
    "snowflake 1175928847299117063 of guild 41771983423143937",
    "ratio 0.4111111111111111 of 4111111111111112 bytes",
    "order number 4000000000000001 is unknown",
    "ISBN 978-3-16-148410-0, phone +49 30 901820, 2026-11-30 16:00:00.123456",
    "2026-11-30T16:00:00.123456Z INFO uvicorn.error: Application startup complete.",
    "http://127.0.0.1:8000/path?email=x@y.z&page=2&sort=-created&limit=100",
    "http://host:8000/a@b and https://ana@example.org/x",
    "GET /search?q=key+lime+pie&code=de&session=morning",
    "code=404 key=user:17:orders session=morning card=7 auth=none ticket=SHIP-1234",
    "cache key orders:17:v3 expired, 3 keys left, primary key=7, foreign key: orders.client_id",
    "max_tokens=100 token_bytes=16 token_type=bearer password_file=/run/secrets/db",
    "basic authentication failed, bearer authentication too",
    "password is wrong, the secret is missing, no cookie was sent, token expired",
    "password=None token=null api_key='' has_password: True",
    "the monkey in the turkey passed the compass to its author by design",
    "passed: 12, failed: 3, passing=true, bypass=no, signal: 15, design: flat, assigned: 7",
    "--passive --token-file /run/secrets/x --workers 4",
    "/usr/lib/python3.11/site-packages/sqlalchemy/engine/base.py, line 1967, in _exec",
    '  File "/srv/app/orders/keyboard.py", line 17, in sold',
    "KeyError: 'client_id'",
    "ValueError: invalid literal for int() with base 10: 'seven'",
    "UNIQUE constraint failed: clients.mail",
    "DETAIL:  Key (id)=(7) already exists.",
    "Duplicate entry '7' for key 'clients.PRIMARY'",
    "SELECT id, name FROM clients WHERE id = $1 LIMIT 10",
    "-----BEGIN CERTIFICATE-----\nabc",
    "----- 8< -----",
    "mail to ana.lovelace+orders@example.org was sent as <CAF7ab_9XyZ@mail.example.org>",
    "kubernetes pod shop-7d4b9c6f5-x2x9z on node ip-10-0-12-34.eu-west-1.compute.internal",
    "image registry.example.org/shop/api:v1.24.3-rc.1+build.20261130 has 214783 bytes",
    "npm_config_cache is set, sk-learn is not, ghost_writer too, key-value store, hf_hub 0.1",
    "AKIA is how keys begin; xoxb- too",
    "memory 87 MiB of 512 MiB, 23.4 %, load 5.92 4.97 2.91, pid 4711, fd 17",
    "IP 203.0.113.9:4711 and [2001:db8::7]:443, MAC 52:54:00:12:34:56",
    '{"id": 17, "name": "Ana", "paid": true, "total": 12.5, "codes": ["a", "b"]}',
    "{'client': 7, 'berths': [1, 2, 3], 'at': datetime.datetime(2026, 11, 30, 16, 0)}",
    "the quick brown fox jumps over the lazy dog: nothing to see here, move along",
    "naïve café, ümlaut İstanbul: 東京 ✓",
    "",
)
