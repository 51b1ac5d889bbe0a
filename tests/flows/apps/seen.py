"""A service that tells what it sees of its client."""

from fastapi import FastAPI, Request, WebSocket

from shipworthy.context import current_request

app = FastAPI()


@app.get("/seen")
def seen(request: Request) -> dict[str, object]:
    record, client = current_request(), request.client
    assert record is not None
    return {
        "client": client.host if client else None,
        "record": record.client,
        "scheme": request.url.scheme,
        "host": request.headers["host"],
    }


@app.websocket("/seen")
async def heard(websocket: WebSocket) -> None:
    await websocket.accept()
    assert websocket.client is not None
    await websocket.send_json([websocket.client.host, websocket.url.scheme])
    await websocket.close()
