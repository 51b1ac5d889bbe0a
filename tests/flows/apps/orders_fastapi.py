"""A service on FastAPI and SQLAlchemy as people write them: nothing in it knows of us."""

import os
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from pydantic import BaseModel
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
app = FastAPI()


class Order(BaseModel):
    id: int
    price: int


def get_session() -> Iterator[Session]:
    with factory() as session:
        yield session


@app.get("/orders/{order}", response_model=Order)
def read(order: int, session: Annotated[Session, Depends(get_session)]) -> dict[str, int]:
    return {"id": order, "price": session.scalar(text("SELECT 42")) or 0}


@app.post("/orders/{order}")
def write(order: int, session: Annotated[Session, Depends(get_session)]) -> dict[str, int]:
    session.execute(text("CREATE TABLE IF NOT EXISTS orders (id INTEGER)"))
    session.execute(text("INSERT INTO orders VALUES (:id)"), {"id": order})
    session.commit()
    return {"id": order}


@app.get("/nested")
def nested(session: Annotated[Session, Depends(get_session)]) -> int:
    session.execute(text("SELECT 1"))
    with factory() as other:
        return other.scalar(text("SELECT 1")) or 0


@app.get("/slow")
def slow(seconds: float, session: Annotated[Session, Depends(get_session)]) -> str:
    session.execute(text(os.environ["SLEEP"]), {"seconds": seconds})
    return "slept"


@app.get("/still")
def still() -> str:
    return "no database needed"
