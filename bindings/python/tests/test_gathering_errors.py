"""The endpoint's ``sendto``: errors, addresses that cannot be gathered, and a socket that is full."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from endpoints import LOOPS, Numbers, in_bursts, run, send_many, until
from gathering import Narrow, Recording, arrived, endpoint, numbers, send_turn
from scenarios import name, peer

pytestmark = [pytest.mark.usefixtures("patient"), pytest.mark.parametrize("loop_kind", LOOPS)]


def test_errors_of_a_batch_reach_error_received(loop_kind: str) -> None:
    """Each; the others arrive. What error_received raises goes to the loop's handler."""

    class Raising(Recording):
        def error_received(self, exc: Exception) -> None:
            super().error_received(exc)
            raise RuntimeError("error_received")

    async def work() -> None:
        loop, raised = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, context: raised.append(str(context["exception"])))
        transport, protocol = await endpoint(Raising)
        with peer() as there:
            to = there.getsockname()
            for data, address in (
                *((data, to) for data in numbers(0, 3)),
                (b"x" * 70000, to),
                (b"", ("255.255.255.255", 9)),
                (b"3", to),
            ):
                transport.sendto(data, address)
            await asyncio.sleep(0)
            assert arrived(there) == numbers(0, 4)
        assert sorted(protocol.errors) == [13, 90]
        assert raised == ["error_received"] * 2
        assert not transport.is_closing()
        transport.close()

    run(work(), loop_kind)


def test_an_icmp_error_is_reported(loop_kind: str) -> None:
    """The sender takes it off the socket, which asyncio's next call would have reported."""

    async def work() -> None:
        with peer() as gone:
            address = gone.getsockname()
        transport, protocol = await endpoint(remote_addr=address)
        transport.pause_reading()
        for _ in range(2):
            send_turn(transport, None, 5)
            await asyncio.sleep(0)
        assert protocol.errors and set(protocol.errors) == {111}
        transport.close()

    run(work(), loop_kind)


def test_addresses_that_cannot_be_gathered_keep_their_place(loop_kind: str) -> None:
    """A flow label is left to the socket: sent at once, after what was gathered before."""

    async def work() -> None:
        transport, _ = await endpoint(local_addr=("::1", 0))
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as there:
            there.bind(("::1", 0))
            host, port, *_ = there.getsockname()
            for number in range(12):
                address = (host, port, 7, 0) if number % 4 == 3 else (host, port, 0, 0)
                transport.sendto(b"%d" % number, address)
            await asyncio.sleep(0)
            assert arrived(there) == numbers(0, 12)
        transport.close()

    run(work(), loop_kind)


def test_addresses_that_are_no_keys(loop_kind: str) -> None:
    """A host of bytearray, which socket takes and which is no key of a table: as any other address."""

    class Echo(Numbers):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            host = bytearray(addr[0], "ascii") if loop_kind == "asyncio" else addr[0]
            self.transport.sendto(data, addr if len(data) % 2 else (host, addr[1]))

    async def work() -> None:
        transport, protocol, sender = await in_bursts(Echo)
        arrived(sender)
        send_many(sender, name(transport), 40)
        await until(lambda: len(protocol.got) == 40)
        await asyncio.sleep(0)
        assert not transport.is_closing()
        assert arrived(sender) == numbers(0, 40)
        transport.close()

    run(work(), loop_kind)


def test_what_asyncio_refuses_closes_the_transport_as_it_does(loop_kind: str) -> None:
    """A host that is no text, in the middle of a turn; what was sent before has left."""

    async def work() -> None:
        loop, raised = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, context: raised.append(type(context["exception"])))
        transport, protocol = await endpoint()
        with peer() as there:
            send_turn(transport, there.getsockname(), 3)
            transport.sendto(b"x", (5, 5))
            assert arrived(there) == numbers(0, 3)
        await protocol.lost
        assert raised == [TypeError]

    run(work(), loop_kind)


@pytest.mark.parametrize("end", ["resume", "close"])
def test_a_full_socket_pauses_the_protocol(loop_kind: str, end: str) -> None:
    """All arrive once, in order, also if the transport is closed meanwhile; pause_writing and
    resume_writing are called; what waits leaves in batches, too."""

    async def work() -> None:
        transport, protocol = await endpoint()
        transport.set_write_buffer_limits(high=20000)
        narrow = Narrow(transport, 4)
        with peer() as there:
            wanted = [b"%03d" % number * 100 for number in range(100)]
            for data in wanted:
                transport.sendto(data, there.getsockname())
            await asyncio.sleep(0)
            assert protocol.pauses == ["pause"]
            assert transport.get_write_buffer_size() > 20000
            assert narrow.largest == 3, "behind the first"
            if end == "close":
                transport.close()
            got = arrived(there)
            while len(got) < 100:
                narrow.room = 9
                await asyncio.sleep(0)
                got += arrived(there)
            assert got == wanted
            assert narrow.largest == 9
            if end == "resume":
                await until(lambda: transport.get_write_buffer_size() == 0)
                transport.close()
            await protocol.lost
            assert arrived(there) == []
        assert protocol.pauses == ["pause", "resume"]

    run(work(), loop_kind)


def test_the_buffers_size_is_what_asyncio_would_say(loop_kind: str) -> None:
    """Who waits for an empty buffer before exiting does not lose what was gathered."""

    async def work() -> None:
        transport, _ = await endpoint()
        with peer() as there:
            send_turn(transport, there.getsockname(), 10)
            assert "bufsize=0" in repr(transport)
            assert arrived(there) == [b"0"], "looking at it sends nothing"
            assert transport.get_write_buffer_size() == 0
            assert arrived(there) == numbers(1, 10)
        transport.close()

    run(work(), loop_kind)
