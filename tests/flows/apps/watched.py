"""A service that declares what it counts, how that is shown, and when somebody is called."""

from fastapi import FastAPI

from shipworthy.events import (
    Alert,
    Board,
    Compared,
    Metric,
    Number,
    OneOf,
    Panel,
    Rate,
    Selection,
    Urgency,
    Value,
    declare,
)
from shipworthy.telemetry import counter

SOLD = Metric("shop_sold_total", "counter", "What was sold.", {"what": OneOf("pen", "ink")})
_BY = Selection(metric=SOLD, by=("what",))

declare(
    Panel(
        title="Sold",
        help="What is sold, by the second.",
        board=Board.BUSINESS,
        shows=(("{what}", Rate(_BY)),),
        unit="per_second",
    ),
    Alert(
        name="SoldMany",
        when=Compared(Value(_BY), ">=", Number(3)),
        for_seconds=1,
        urgency=Urgency.TICKET,
        summary="{value} of {what} were sold",
        cause="People like it.",
        look="At the shelf.",
        act="Order more.",
        drill="three sales",
    ),
)

app = FastAPI()
_sold = counter(SOLD)


@app.post("/sell/{what}")
async def sell(what: str) -> dict[str, str]:
    """Sell one."""
    _sold.cell(what).add()
    return {"sold": what}
