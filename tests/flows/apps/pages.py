"""Pages, a form and a websocket, as many services have them."""

from fastapi import FastAPI, WebSocket
from fastapi.responses import HTMLResponse

app = FastAPI()


@app.get("/page")
def page():
    return HTMLResponse("<script>1</script>")


@app.post("/orders/{number}")
def order(number: int):
    return {"order": number}


@app.websocket("/talk")
async def talk(socket: WebSocket):
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()
