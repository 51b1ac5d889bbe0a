"""A small FastAPI application on SQLAlchemy, whose answers say which process gave them."""

import os

from fastapi import FastAPI
from fastapi.responses import JSONResponse
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.schema import CreateTable

engine = create_engine("sqlite:///killed.sqlite3")
app = FastAPI()


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


with engine.begin() as connection:  # two workers at once
    connection.execute(CreateTable(Order.__table__, if_not_exists=True))


@app.get("/")
def orders() -> JSONResponse:
    with Session(engine) as session:
        found = [order.text for order in session.scalars(select(Order).limit(20))]
    return JSONResponse({"orders": found}, headers={"x-worker": str(os.getpid())})
