"""asyncio: batches, loops and threads; DNS over the endpoint. test_endpoint.py has the rest."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import dns.asyncquery
import dns.flags
import dns.message
import dns.rrset
import pytest
import uvloop
from conftest import Pair

import ringmsg.aio

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[Any]], Any]:
    """Runs a coroutine in a fresh loop of each kind, ten seconds at most."""

    def run_in_loop(work: Any) -> Any:
        loop = LOOPS[request.param]()
        try:
            return loop.run_until_complete(asyncio.wait_for(work, 10))
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    return run_in_loop


# --- AsyncReceiver -------------------------------------------------------------------------


def test_async_for(pair: Pair, mode: str, run: Any) -> None:
    async def work() -> list[bytes]:
        got: list[bytes] = []
        async with ringmsg.aio.AsyncReceiver(pair.receiver, mode=mode) as rx:
            pair.send(b"early")
            asyncio.get_running_loop().call_later(0.02, pair.send, b"later", b"")
            async for batch in rx:
                got += batch.payloads()
                if len(got) == 3:
                    break
        return got

    assert run(work()) == [b"early", b"later", b""]


def test_others_get_their_turn(pair: Pair, run: Any) -> None:
    """A receiver that always finds something does not starve the loop."""

    async def work() -> int:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counter = asyncio.ensure_future(count())
        got = 0
        async with ringmsg.aio.AsyncReceiver(pair.receiver, batch_size=10) as rx:
            pair.send(*[b"x"] * 500)
            async for batch in rx:
                got += len(batch)
                if got == 500:
                    break
        counter.cancel()
        return turns

    assert run(work()) >= 50


def test_a_slow_consumer_does_not_spin_the_loop(pair: Pair) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with ringmsg.aio.AsyncReceiver(pair.receiver) as rx:
            pair.send(b"x")
            await rx.__anext__()
            pair.send(b"y", b"z")
            calls = 0
            select = loop._selector.select  # type: ignore[attr-defined]

            def counted(timeout: float | None) -> Any:
                nonlocal calls
                calls += 1
                return select(timeout)

            loop._selector.select = counted  # type: ignore[attr-defined]
            await asyncio.sleep(0.1)
            assert calls < 10
            got: list[bytes] = []
            while len(got) < 2:
                got += (await rx.__anext__()).payloads()
            assert got == [b"y", b"z"]

    asyncio.run(work())


def test_close_ends_async_for(pair: Pair, run: Any) -> None:
    async def work() -> list[Any]:
        rx = ringmsg.aio.AsyncReceiver(pair.receiver)
        asyncio.get_running_loop().call_later(0.02, rx.close)
        return [batch async for batch in rx]

    assert run(work()) == []


def test_reap_with_timeout(pair: Pair, run: Any) -> None:
    async def work() -> None:
        async with ringmsg.aio.AsyncReceiver(pair.receiver) as rx:
            assert len(await rx.reap(0.02)) == 0
            pair.send(b"x")
            assert (await rx.reap(5)).payloads() == [b"x"]

    run(work())


# --- loops and threads -----------------------------------------------------------------------


def test_close_by_another_thread_ends_async_for(pair: Pair, run: Any) -> None:
    """And leaves nothing in the selector that the next user of the descriptor would trip over."""

    async def work() -> None:
        for _ in range(5):
            before = len(os.listdir("/proc/self/fd"))
            rx = ringmsg.aio.AsyncReceiver(pair.receiver)
            consumer = asyncio.ensure_future(collect(rx))
            await asyncio.sleep(0.01)
            await asyncio.to_thread(rx.close)
            assert await asyncio.wait_for(consumer, 5) == []
            await asyncio.sleep(0.01)
            assert len(os.listdir("/proc/self/fd")) == before

    async def collect(rx: Any) -> list[bytes]:
        return [payload async for batch in rx for payload in batch.payloads()]

    async def prepared() -> None:
        await asyncio.to_thread(int)  # the executor's thread is there
        await work()

    run(prepared())


def test_a_loop_that_is_continued_in_another_thread(pair: Pair) -> None:
    """The receiver was made, and used, in the first."""
    loop = asyncio.new_event_loop()
    rx = ringmsg.aio.AsyncReceiver(pair.receiver)
    pair.send(b"1")
    assert loop.run_until_complete(rx.reap(5)).payloads() == [b"1"]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    pair.send(b"2")
    future = asyncio.run_coroutine_threadsafe(rx.reap(5), loop)
    assert future.result(10).payloads() == [b"2"]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    rx.close()
    loop.close()


def test_a_second_loop(pair: Pair) -> None:
    """``asyncio.run`` again with the same receiver, also after a wait that was cancelled."""
    rx = ringmsg.aio.AsyncReceiver(pair.receiver)

    async def take() -> list[bytes]:
        return (await rx.reap(5)).payloads()

    async def give_up() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(rx.__anext__(), 0.01)

    for number in range(3):
        asyncio.run(give_up())
        pair.send(b"%d" % number)
        assert asyncio.run(take()) == [b"%d" % number]
    rx.close()


def test_a_loop_that_was_closed_while_a_task_waited(pair: Pair) -> None:
    rx = ringmsg.aio.AsyncReceiver(pair.receiver)
    loop = asyncio.new_event_loop()
    task = loop.create_task(rx.reap())
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    pair.send(b"x")
    assert asyncio.run(asyncio.wait_for(rx.reap(5), 5)).payloads() == [b"x"]
    rx.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_two_tasks_at_once_get_a_sentence(pair: Pair, run: Any) -> None:
    async def work() -> None:
        async with ringmsg.aio.AsyncReceiver(pair.receiver) as rx:
            first = asyncio.ensure_future(rx.reap(5))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task is waiting"):
                await rx.reap(5)
            pair.send(b"x")
            assert (await first).payloads() == [b"x"]

    run(work())


def test_cancelled_waits_lose_nothing(pair: Pair, run: Any) -> None:
    async def work() -> None:
        got: list[bytes] = []
        async with ringmsg.aio.AsyncReceiver(pair.receiver) as rx:
            for number in range(200):
                task = asyncio.ensure_future(rx.reap(5))
                await asyncio.sleep(0)
                pair.send(b"%d" % number)
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                task.cancel()
                try:
                    got += (await task).payloads()
                except asyncio.CancelledError:
                    pass
            while batch := (await rx.reap(0.05)).payloads():
                got += batch
        assert got == [b"%d" % number for number in range(200)]

    run(work())


def test_close_and_reap_afterwards(pair: Pair, run: Any) -> None:
    async def work() -> None:
        rx = ringmsg.aio.AsyncReceiver(pair.receiver)
        rx.close()
        rx.close()
        with pytest.raises(OSError):
            await rx.reap(0)
        assert [batch async for batch in rx] == []

    run(work())


# --- DNS -----------------------------------------------------------------------------------


class NameServer(asyncio.DatagramProtocol):
    """Answers every question for an A record with 192.0.2.7."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        query = dns.message.from_wire(data)
        response = dns.message.make_response(query)
        response.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.7"))
        self.transport.sendto(response.to_wire(), addr)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_dns(run: Any, host: str) -> None:
    """A server and dnspython's own client, whose socket is made by the loop's method."""

    async def work() -> None:
        ringmsg.aio.install()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(NameServer, local_addr=(host, 0))
        port = transport.get_extra_info("sockname")[1]

        async def ask(number: int) -> None:
            query = dns.message.make_query(f"host{number}.example.", "A")
            answer = await dns.asyncquery.udp(query, host, port=port, timeout=5)
            assert answer.flags & dns.flags.QR
            assert answer.answer[0][0].address == "192.0.2.7"

        await asyncio.gather(*map(ask, range(50)))
        transport.close()
        await asyncio.sleep(0.01)

    run(work())
