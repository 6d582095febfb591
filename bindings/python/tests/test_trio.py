"""Event loops that the package does not know: trio, and anyio over both, by readiness alone."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import trio
from conftest import Pair

import ringmsg


def test_trio(pair: Pair) -> None:
    """As the README shows it."""

    async def receive() -> list[bytes]:
        got: list[bytes] = []
        with ringmsg.Receiver(pair.receiver) as rx:
            while len(got) < 3:
                await trio.lowlevel.wait_readable(rx.fileno())
                for payload, _ in rx.reap(0).messages():
                    got.append(payload)
        return got

    async def main() -> list[bytes]:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send)
                return await receive()

    async def send() -> None:
        for payload in (b"1", b"2", b"3"):
            await trio.sleep(0.01)
            pair.send(payload)

    assert trio.run(main) == [b"1", b"2", b"3"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio(pair: Pair, backend: str) -> None:
    async def main() -> list[Any]:
        got: list[Any] = []
        with ringmsg.Receiver(pair.receiver, mode="plain") as rx, anyio.fail_after(10):
            pair.send(b"1", b"2")
            while len(got) < 2:
                await anyio.wait_readable(rx.fileno())
                got += rx.reap(0).messages()
        return got

    assert [payload for payload, _ in anyio.run(main, backend=backend)] == [b"1", b"2"]
