"""The table of behaviours of scenarios.py, continued: what sends."""

from __future__ import annotations

import array
import asyncio
import socket
import tempfile
from typing import Any

from scenarios import SCENARIOS, Create, Protocol, Raising, attempt, local, name, peer, scenario, settle


@scenario()
async def refused(create: Create, log: list[Any]) -> None:
    with peer() as nobody:
        nobody.connect(nobody.getsockname())
        transport, protocol = await create(lambda: Protocol(log), remote_addr=nobody.getsockname())
        for _ in range(2):
            transport.sendto(b"x")
            await settle()
        transport.abort()
        await protocol.lost


@scenario("what does not fit is reported by another call of its own")
async def sends_that_fail(create: Create, log: list[Any]) -> None:
    transport, protocol = await local(create, log)
    with peer() as there:
        address = there.getsockname()
        for data, to in (
            (b"x" * 70000, address),
            (b"x", ("255.255.255.255", 9)),
            ("text", address),
            (5, address),
            (array.array("i", [1, 2]), address),
            (memoryview(b"abcd")[::2], address),
        ):
            attempt(log, transport.sendto, data, to)
            await settle()
    transport.close()
    await protocol.lost


@scenario("it reports an OSError of its own")
async def sending_without_an_address(create: Create, log: list[Any]) -> None:
    transport, protocol = await local(create, log)
    attempt(log, transport.sendto, b"x")
    await settle()
    log.append(transport.is_closing())
    transport.close()
    await asyncio.wait_for(protocol.lost, 2)


@scenario("it raises")
async def sending_to_no_address(create: Create, log: list[Any]) -> None:
    transport, protocol = await local(create, log)
    attempt(log, transport.sendto, b"x", "127.0.0.1")
    await settle()
    log.append(transport.is_closing())
    transport.close()
    await asyncio.wait_for(protocol.lost, 2)


@scenario("it takes numeric addresses only", followed=True)
async def sending_to_a_host_name(create: Create, log: list[Any]) -> None:
    transport, protocol = await local(create, log)
    with peer() as there:
        port = there.getsockname()[1]
        for host in ("localhost", "127.0.0.1", "::1", "<broadcast>", "127.0.0.1"):
            attempt(log, transport.sendto, b"name", (host, port))
            await settle()
    transport.close()
    await protocol.lost


@scenario()
async def sending_elsewhere_when_connected(create: Create, log: list[Any]) -> None:
    with peer() as there:
        transport, protocol = await create(lambda: Protocol(log), remote_addr=there.getsockname())
        for address in (there.getsockname(), ("127.0.0.1", 1)):
            attempt(log, transport.sendto, b"x", address)
        log.append(there.recv(9))
        transport.close()
        await protocol.lost


@scenario("it warns", followed=True)
async def sending_after_close(create: Create, log: list[Any]) -> None:
    with peer() as there:
        transport, protocol = await local(create, log)
        transport.close()
        attempt(log, transport.sendto, b"x", there.getsockname())
        await protocol.lost
        attempt(log, transport.sendto, b"x", there.getsockname())
        transport, protocol = await create(lambda: Protocol(log), remote_addr=there.getsockname())
        transport.close()
        attempt(log, transport.sendto, b"x")
        await protocol.lost
        attempt(log, transport.sendto, b"x")


@scenario("an exception of error_received() closes the transport")
async def exceptions_of_error_received(create: Create, log: list[Any]) -> None:
    class Errors(Raising):
        connection_made = Protocol.connection_made
        datagram_received = Protocol.datagram_received
        connection_lost = Protocol.connection_lost

    with peer() as there:
        address = there.getsockname()
        there.connect(address)
        transport, protocol = await create(lambda: Errors(log), remote_addr=address)
        for _ in range(3):
            attempt(log, transport.sendto, b"x")
            await settle()
        there.connect(name(transport))
        there.send(b"later")
        await settle()
        transport.close()
        await protocol.lost


@scenario("it counts the bytes that wait otherwise")
async def flow_control(create: Create, log: list[Any]) -> None:
    """A full socket pauses the protocol; what waits is sent in order, also after close()."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(folder + "/b")
        there.setblocking(False)
        transport, protocol = await create(
            lambda: Protocol(log), remote_addr=folder + "/b", family=socket.AF_UNIX
        )
        transport.set_write_buffer_limits(high=5000)
        log.append(transport.get_write_buffer_limits())
        for number in range(80):
            transport.sendto(b"%03d" % number * 300)
        log.append(transport.get_write_buffer_size() > 0)
        transport.close()
        got: list[int] = []
        while len(got) < 80:
            try:
                got.append(int(there.recv(2000)[:3]))
            except BlockingIOError:
                await asyncio.sleep(0.002)
        await asyncio.wait_for(protocol.lost, 2)
        log.append(got == list(range(80)))


@scenario("it drops the buffer another way")
async def abort_drops_what_waits(create: Create, log: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(folder + "/b")
        transport, protocol = await create(
            lambda: Protocol(log), remote_addr=folder + "/b", family=socket.AF_UNIX
        )
        for _ in range(1000):
            transport.sendto(b"x" * 500)
        transport.abort()
        log.append(transport.is_closing())
        await asyncio.wait_for(protocol.lost, 2)


@scenario()
async def answering_a_peer_that_is_gone(create: Create, log: list[Any]) -> None:
    class Echo(Protocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.sendto(data, addr)

    transport, protocol = await local(create, log, Echo)
    for data in (b"x", b"y"):
        with peer() as sender:
            sender.sendto(data, name(transport))
        await settle()
    transport.close()
    await protocol.lost


SENDING = {name for name, function in SCENARIOS.items() if function.__module__ == __name__}
