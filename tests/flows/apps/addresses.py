"""A service whose database address is wrong: one for each part of it, as JSON in `ADDRESSES`."""

import json
import os

from fastapi import FastAPI
from sqlalchemy import create_engine, text

addresses = json.loads(os.environ["ADDRESSES"])
app = FastAPI()


@app.get("/with/{part}")
def ask(part: str) -> int:
    engine = create_engine(addresses[part])
    try:
        with engine.connect() as connection:
            return connection.scalar(text("SELECT 42")) or 0
    finally:
        engine.dispose()
