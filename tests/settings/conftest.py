"""Two sections of a made-up service, and nothing of ours."""

from dataclasses import dataclass
from typing import Literal

import pytest

from shipworthy.settings import Secret, declare, duration, option, secret, section, size


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The sections `door` and `shop.cart` are the only ones during a test."""
    monkeypatch.setattr(declare, "_registered", {})

    @section("door")
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Door:
        host: str = option("127.0.0.1", "address")
        port: int = option(8000, "port", minimum=0, maximum=65535)
        grace_seconds: float = duration("30s", "grace", minimum="1s", production="1m")
        token: Secret = secret("token")  # noqa: RUF009 - a declaration

        def refusals(self, environment):
            return ["door.token: not set"] if environment == "production" and not self.token else []

    @section("shop.cart")
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Cart:
        body_bytes: int = size("8MiB", "size", maximum="1GiB")
        share: float = option(0.5, "share", minimum=0, maximum=1)
        open: bool = option(False, "open", production=True)
        level: Literal["quiet", "loud"] = option("quiet", "level", flag="--loudness")
        hosts: tuple[str, ...] = option((), "hosts")
        count: int = option(1, "count")
        items: int = option(5, "items", maximum=9)
        weight: float = option(1.0, "weight", minimum=-1)

    return {"door": Door, "cart": Cart}


@pytest.fixture
def door(registered):
    return registered["door"]


@pytest.fixture
def cart(registered):
    return registered["cart"]
