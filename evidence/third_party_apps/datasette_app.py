"""What `datasette serve items.db` serves, as an object a server can import.

Datasette's command line makes its application by itself and starts its own server; this does the
first half with Datasette's public class. It is served bare and hardened alike.
"""

from pathlib import Path

from datasette.app import Datasette  # type: ignore[import-not-found]

_WRITE = {"sql": "insert into items (name, price) values (:name, :price)", "write": True}

app = Datasette(
    [str(Path(__file__).parent / "items.db")],
    secret="not-a-secret",
    settings={"sql_time_limit_ms": 20_000, "num_sql_threads": 2},
    metadata={"databases": {"items": {"queries": {"add_item": _WRITE}}}},
).app()
