"""Flask with another service behind it; knows nothing of traces."""

import os
import time

import requests
from flask import Flask, abort

app = Flask(__name__)


@app.get("/fast/<int:number>")
def fast(number: int) -> dict[str, int]:
    return {"number": number}


@app.get("/slow")
def slow() -> str:
    time.sleep(0.3)
    return "slow"


@app.get("/boom")
def boom() -> str:
    raise RuntimeError("no")


@app.get("/call")
def call() -> str:
    if requests.get(os.environ["NEXT"] + "/fast/2", timeout=5).status_code != 200:
        abort(500)
    return abort(503)
