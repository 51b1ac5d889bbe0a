"""A service on Flask and SQLAlchemy as people write them: nothing in it knows of us."""

import os
from typing import Any

from flask import Flask, g
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, sessionmaker

# What the scene needs: a small pool, or none of these for SQLAlchemy's own 5 and 10 over.
options: dict[str, Any] = {}
if "POOL" in os.environ:
    options = {"pool_size": int(os.environ["POOL"]), "max_overflow": 0}
if "POOL_TIMEOUT" in os.environ:
    options["pool_timeout"] = float(os.environ["POOL_TIMEOUT"])

engine = create_engine(os.environ["DATABASE"], **options)
factory = sessionmaker(engine)
app = Flask(__name__)


def session() -> Session:
    if "session" not in g:
        g.session = factory()
    found: Session = g.session
    return found


@app.teardown_appcontext
def close(_: object) -> None:
    if "session" in g:
        g.session.close()


@app.get("/orders/<int:order>")
def read(order: int) -> dict[str, int]:
    return {"id": order, "price": session().scalar(text("SELECT 42")) or 0}


@app.post("/orders/<int:order>")
def write(order: int) -> dict[str, int]:
    session().execute(text("CREATE TABLE IF NOT EXISTS orders (id INTEGER)"))
    session().execute(text("INSERT INTO orders VALUES (:id)"), {"id": order})
    session().commit()
    return {"id": order}


@app.get("/nested")
def nested() -> str:
    session().execute(text("SELECT 1"))
    with factory() as other:
        return str(other.scalar(text("SELECT 1")))


@app.get("/slow")
def slow() -> str:
    from flask import request

    seconds = float(request.args["seconds"])
    session().execute(text(os.environ["SLEEP"]), {"seconds": seconds})
    return "slept"


@app.get("/still")
def still() -> str:
    return "no database needed"
