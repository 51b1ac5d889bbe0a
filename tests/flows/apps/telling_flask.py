"""Flask that logs wherever code of a request runs."""

import logging

from flask import Flask

log = logging.getLogger("shop")
app = Flask(__name__)


class Sunk(Exception):
    """A handler of the application's own knows it."""


@app.before_request
def before() -> None:
    log.info("in before_request")


@app.after_request
def after(answer):
    log.info("in after_request")
    return answer


@app.teardown_request
def teardown(error) -> None:
    log.info("in teardown_request")


@app.errorhandler(Sunk)
def sunk(error: Sunk):
    log.warning("in exception handler")
    return {"sunk": True}, 409


@app.get("/all")
def everywhere():
    log.info("in view")

    def parts():
        log.info("in stream")
        yield "told"

    return app.response_class(parts())


@app.get("/sunk")
def sinks() -> None:
    raise Sunk


@app.get("/boom")
def boom() -> None:
    raise RuntimeError("on the rocks")
