"""What crosses from the supervisor to a worker."""

from dataclasses import replace

from shipworthy.serve.order import Order


def test_an_order_survives_the_command_line() -> None:
    """Text and back is the same order, paths with spaces and quotes included."""
    order = Order(
        target="shop:app",
        directory='/srv/my "shop"',
        config=None,
        overrides={"serve.port": "0"},
        channel_fd=7,
        listen_fds=(8, 9),
        generation=3,
        watch_fd=10,
    )

    assert Order.from_text(order.to_text()) == order
    assert order.fds == (7, 10, 8, 9)
    assert replace(order, watch_fd=-1).fds == (7, 8, 9)
