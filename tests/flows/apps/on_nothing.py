"""ASGI by hand, with no framework."""

from typing import Any

from marks import Boom, note, wait

TEXT = [(b"content-type", b"text/plain")]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await live(receive, send)
        return

    async def say(body: bytes, *, status: int = 200, more: bool = False) -> None:
        await send({"type": "http.response.start", "status": status, "headers": TEXT})
        await send({"type": "http.response.body", "body": body, "more_body": more})

    match scope["path"].split("/")[1:]:
        case ["items", item]:
            await say(f"item {item}".encode())
        case ["boom"]:
            raise Boom("s3cret")
        case ["stream"]:
            await say(b"one\n", more=True)
            await wait("go")
            await send({"type": "http.response.body", "body": b"two\n"})
        case ["slow"]:
            note("slow began")
            await wait("released")
            await say(b"slow")
        case _:
            await say(b"nothing here", status=404)


async def live(receive: Any, send: Any) -> None:
    await receive()
    note("start")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    note("stop")
    await send({"type": "lifespan.shutdown.complete"})
