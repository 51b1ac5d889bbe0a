"""The pipe between supervisor and worker, over a real socket pair."""

import asyncio
import socket
import sys
from contextlib import suppress

import orjson
import pytest

from shipworthy.serve.channel import LINE_BYTES_MAX, WAITING_BYTES_MAX, Channel, encoded

pytestmark = pytest.mark.anyio


async def pair() -> tuple[Channel, Channel]:
    left, right = socket.socketpair()
    return await Channel.over(left), await Channel.over(right)


async def test_what_is_said_is_heard_in_order_until_the_other_hangs_up() -> None:
    """Messages keep their facts; the end of the stream is the end of the iteration."""
    left, right = await pair()
    assert left.send("one", number=1)
    assert left.send("two", text="ü")
    await left.flush(1.0)
    left.close()

    heard = [message async for message in right.messages()]

    assert heard == [{"kind": "one", "number": 1}, {"kind": "two", "text": "ü"}]
    right.close()


async def test_a_reader_that_does_not_read_costs_bounded_memory_and_no_waiting() -> None:
    """Beyond the bound messages are dropped, and the sender is told."""
    left, right = await pair()
    text = "x" * 10_000

    sent = [left.send("state", text=text) for _ in range(200)]

    assert sent[0] is True
    assert sent[-1] is False
    assert left._writer.transport.get_write_buffer_size() <= WAITING_BYTES_MAX + 11_000
    await left.flush(0.01)
    left.close()
    right.close()


async def test_speaking_to_somebody_who_is_gone_is_refused_quietly() -> None:
    """A worker that died must not take the supervisor with it."""
    left, right = await pair()
    right.close()
    heard = [message async for message in left.messages()]

    left.send("late")
    for _ in range(100):
        if not left.send("later"):
            break
        await asyncio.sleep(0)

    assert heard == []
    assert left.send("too late") is False
    left.close()


def test_what_json_cannot_say_becomes_the_nearest_text() -> None:
    """A file name that is no UTF-8, as `os.fsdecode` returns it, must not silence who says it."""
    facts = {
        "because": "caf\udce9 cannot be read",
        "\udce9": [("caf\udce9", 2**64), {7: None}],
        "fine": "\u00fc",
        "share": 0.5,
    }

    assert orjson.loads(encoded(facts)) == {
        "because": "caf? cannot be read",
        "?": [["caf?", "18446744073709551616"], {"7": None}],
        "fine": "\u00fc",
        "share": 0.5,
    }


async def test_a_text_that_is_no_utf_8_is_heard() -> None:
    """And so is what is said after it."""
    left, right = await pair()
    assert left.send("failed", because="caf\udce9")
    left.send("bye")
    await left.flush(1.0)
    left.close()

    assert [m async for m in right.messages()] == [
        {"kind": "failed", "because": "caf?"},
        {"kind": "bye"},
    ]
    right.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the wait is bounded by time")
async def test_of_a_process_that_has_ended_what_it_said_is_heard_though_its_child_lives() -> None:
    """The child that an app forked holds the pipe open, so its end does not come by itself."""
    left, right = socket.socketpair()
    channel = await Channel.over(left)
    with right.dup():  # the child
        words = [b'{"kind":"state","health":"%s"}\n' % (b"x" * 30_000) for _ in range(5)]
        right.sendall(b"".join([*words, b'{"kind":"bye"}\n']))
        right.close()
        channel.hear_out()
        async with asyncio.timeout(5):
            heard = [message["kind"] async for message in channel.messages()]
        channel.close()
        channel.hear_out()

    assert heard == ["state"] * 5 + ["bye"]


async def test_half_a_line_is_no_message() -> None:
    """A process killed in the middle of a word has said nothing."""
    left, right = socket.socketpair()
    channel = await Channel.over(left)
    right.sendall(b'{"kind":"whole"}\n{"kind":"ha')
    right.close()

    assert [m["kind"] async for m in channel.messages()] == ["whole"]
    channel.close()


async def test_what_is_too_long_or_no_message_is_skipped() -> None:
    """The next word is heard: it may be the one that ends this process."""
    left, right = socket.socketpair()
    channel = await Channel.over(left)
    right.settimeout(0)

    loop = asyncio.get_running_loop()

    async def shout() -> None:
        with suppress(ConnectionError):
            for _ in range(LINE_BYTES_MAX // 2**16 + 3):
                await loop.sock_sendall(right, b"x" * 2**16)
            await loop.sock_sendall(right, b"\n{broken}\n" + b'{"kind":"drain"}\n')
            right.close()

    shouting = asyncio.create_task(shout())
    heard = [message async for message in channel.messages()]
    channel.close()
    await shouting

    assert heard == [{"kind": "drain"}]
