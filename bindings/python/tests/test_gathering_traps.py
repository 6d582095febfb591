"""The endpoint's ``sendto``: what asyncio had sent has left, whatever the program does next."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from endpoints import LOOPS, in_bursts, run, send_many, until
from gathering import Recording, arrived, endpoint, numbers, send_turn
from scenarios import name, peer

pytestmark = [pytest.mark.usefixtures("patient"), pytest.mark.parametrize("loop_kind", LOOPS)]


@pytest.mark.parametrize("end", ["abort", "close"])
@pytest.mark.parametrize("count", [1, 10])
def test_sendto_and_abort(loop_kind: str, count: int, end: str) -> None:
    """asyncio had sent it."""

    async def work() -> None:
        transport, protocol = await endpoint()
        with peer() as there:
            send_turn(transport, there.getsockname(), count)
            getattr(transport, end)()
            assert arrived(there) == numbers(0, count)
            await protocol.lost
            assert arrived(there) == []

    run(work(), loop_kind)


@pytest.mark.parametrize("order", ["sendto, stop", "stop, sendto"])
def test_sendto_and_stop(loop_kind: str, order: str) -> None:
    """The loop does not run again for a long time."""
    loop = LOOPS[loop_kind]()
    transport, protocol = loop.run_until_complete(endpoint())
    with peer() as there:

        def callback() -> None:
            if order == "stop, sendto":
                loop.stop()
            send_turn(transport, there.getsockname(), 10)
            if order == "sendto, stop":
                loop.stop()

        loop.call_soon(callback)
        loop.run_forever()
        assert arrived(there) == numbers(0, 10)
        transport.close()
        loop.run_until_complete(protocol.lost)
    loop.close()


def test_sendto_and_a_loop_that_is_closed(loop_kind: str) -> None:
    """A callback ends the loop by an exception, and it is closed without running again."""
    loop = LOOPS[loop_kind]()
    transport, _ = loop.run_until_complete(endpoint())
    with peer() as there:

        def callback() -> None:
            send_turn(transport, there.getsockname(), 10)
            raise KeyboardInterrupt

        loop.call_soon(callback)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        loop.close()
        assert arrived(there) == numbers(0, 10)
    transport._sock.close()
    transport._sock = None


def test_a_loop_is_garbage_when_it_is_closed(loop_kind: str) -> None:
    """What is put before its stop() and close() keeps nothing, and calls what others put there."""
    loop = LOOPS[loop_kind]()
    closed = []
    loop.close = lambda own=loop.close: closed.append(own())  # type: ignore[method-assign]
    transport, protocol = loop.run_until_complete(endpoint())
    transport.close()
    loop.run_until_complete(protocol.lost)
    loop.close()
    assert closed == [None] and loop.is_closed()
    gone = weakref.ref(loop)
    del loop, transport, protocol
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_buffer_that_is_used_again(loop_kind: str, kind: Callable[[bytearray], Any]) -> None:
    """Mutable data is copied when it is given."""

    async def work() -> None:
        transport, _ = await endpoint()
        with peer() as there:
            buffer = bytearray(1)
            data = kind(buffer) if kind is memoryview else buffer
            for number in range(10):
                buffer[0] = 48 + number
                transport.sendto(data, there.getsockname())
            buffer[0] = 0
            await asyncio.sleep(0)
            assert arrived(there) == numbers(0, 10)
        transport.close()

    run(work(), loop_kind)


def test_sendto_and_computing(loop_kind: str) -> None:
    """What is sent alone does not wait for what the callback does next: outside and inside of
    datagram_received."""

    class Busy(Recording):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(data, addr)
            self.got += map(int, arrived(client))

    client = peer()

    async def work() -> None:
        transport, protocol = await endpoint(Busy)
        for number in range(20):
            client.sendto(b"%d" % number, name(transport))
            await until(lambda: protocol.got)
            assert protocol.got.pop() == number
        transport.sendto(b"task", client.getsockname())
        assert arrived(client) == [b"task"]
        transport.close()

    with client:
        run(work(), loop_kind)


def test_slow_callbacks_do_not_keep_each_others_answers(
    loop_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a hand-over of several datagrams, too: an answer leaves when its callback, and perhaps the
    next one, have returned, and not behind twenty of them."""
    monkeypatch.setattr("ringmsg._endpoint._GATHER_NS", 500_000)

    class Slow(Recording):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.seen.append(len(arrived(addr_socket[0])))
            self.transport.sendto(data, addr)
            time.sleep(0.002)

        seen: list[int]

    addr_socket: list[socket.socket] = []

    async def work() -> None:
        transport, protocol, sender = await in_bursts(Recording)
        addr_socket.append(sender)
        protocol.__class__, protocol.seen = Slow, []
        send_many(sender, name(transport), 20)
        await until(lambda: len(protocol.got) == 20)
        assert sum(protocol.seen) >= 17, protocol.seen
        transport.close()

    run(work(), loop_kind)


def test_sendto_in_another_thread(loop_kind: str) -> None:
    """asyncio does not promise that it works, but it does there, and in uvloop: the datagram is sent at
    once. The loop sleeps meanwhile, and nothing wakes it."""
    loop = LOOPS[loop_kind]()
    transport, _ = loop.run_until_complete(endpoint())
    running = threading.Event()
    loop.call_soon(running.set)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with peer() as there:
        try:
            running.wait(10)
            send_turn(transport, there.getsockname(), 20)
            assert arrived(there) == numbers(0, 20)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
        transport.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@pytest.mark.parametrize("known", [True, False])
def test_another_thread_while_the_loop_gathers(loop_kind: str, known: bool) -> None:
    """What it sends does not join the loop's datagrams: it has left when sendto returns, to its own peer,
    although a hand-over is in progress that gathers; so are those of callbacks, to theirs."""
    with peer() as there, peer() as elsewhere:
        seen: list[list[bytes]] = []

        class Asking(Recording):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                super().datagram_received(data, addr)
                if known or len(self.got) > 16:
                    self.transport.sendto(b"to elsewhere", elsewhere.getsockname())
                worker = threading.Thread(target=self.transport.sendto, args=(data, there.getsockname()))
                worker.start()
                worker.join(10)
                seen.append(arrived(there))
                if known:
                    self.transport.sendto(b"to there", there.getsockname())

        async def work() -> None:
            transport, protocol, sender = await in_bursts(Recording)
            protocol.__class__ = Asking
            send_many(sender, name(transport), 32)
            await until(lambda: len(protocol.got) == 32)
            transport.close()
            await protocol.lost

        run(work(), loop_kind)
        own = [[data for data in each if data != b"to there"] for each in seen]
        assert own == [[data] for data in numbers(0, 32)]
        answers = 32 if known else 0
        assert [data for each in seen for data in each].count(b"to there") + len(arrived(there)) == answers
        assert arrived(elsewhere) == [b"to elsewhere"] * (32 if known else 16)


def test_many_sendto_outside_the_loop(loop_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They cannot be gathered, and that is looked at more and more rarely: not at each of them."""
    loop = LOOPS[loop_kind]()
    transport, _ = loop.run_until_complete(endpoint())
    tries, gather = [], type(transport)._gather_turn
    monkeypatch.setattr(
        type(transport), "_gather_turn", lambda *arguments: tries.append(1) or gather(*arguments)
    )
    with peer() as there:
        for _ in range(100):
            send_turn(transport, there.getsockname(), 20)
            assert arrived(there) == numbers(0, 20)
        assert 1 <= len(tries) < 50
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_sendto_before_the_loop_runs(loop_kind: str) -> None:
    """It has no turn yet."""
    loop = LOOPS[loop_kind]()
    transport, _ = loop.run_until_complete(endpoint())
    with peer() as there:
        send_turn(transport, there.getsockname(), 20)
        assert arrived(there) == numbers(0, 20)
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
