"""asyncio: batches, and the datagram endpoint side by side with the loop's own."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import dns.asyncquery
import dns.flags
import dns.message
import dns.rrset
import pytest
import uvloop
from conftest import Pair, eventually

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


class Recorder(asyncio.DatagramProtocol):
    """Writes down what happens to it."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.transport: Any = None
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.events.append("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.events.append(("datagram", data, addr))

    def error_received(self, exc: Exception) -> None:
        self.events.append(("error", type(exc), getattr(exc, "errno", None)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(("lost", exc))
        self.lost.set_result(None)

    async def until(self, count: int) -> None:
        while len(self.events) < count:
            await asyncio.sleep(0.002)


def endpoints() -> dict[str, Any]:
    """Ours and the loop's own."""
    return {
        "ringmsg": ringmsg.aio.create_datagram_endpoint,
        "own": asyncio.get_running_loop().create_datagram_endpoint,
    }


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


# --- the endpoint, side by side ------------------------------------------------------------


async def scenario_unconnected(create: Any, family: int, host: str) -> list[Any]:
    transport, protocol = await create(Recorder, local_addr=(host, 0), family=family)
    with socket.socket(family, socket.SOCK_DGRAM) as peer:
        peer.bind((host, 0))
        peer.settimeout(5)
        here = transport.get_extra_info("sockname")
        assert here == transport.get_extra_info("socket").getsockname()
        assert transport.get_extra_info("peername") is None
        assert transport.get_extra_info("nothing", 7) == 7
        for data in (b"one", b"", b"x" * 60000):
            peer.sendto(data, here)
        await protocol.until(4)
        transport.sendto(b"answer", peer.getsockname())
        assert peer.recvfrom(100) == (b"answer", here)
        assert not transport.is_closing()
        transport.close()
        assert transport.is_closing()
        peer.sendto(b"too late", here)
        await protocol.lost
        events = [e if e[0] != "datagram" else ("datagram", e[1], e[2] == peer.getsockname()) for e in protocol.events]
    return events


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_unconnected(run: Any, family: int, host: str) -> None:
    async def work() -> None:
        seen = {name: await scenario_unconnected(create, family, host) for name, create in endpoints().items()}
        assert seen["ringmsg"] == seen["own"]
        assert seen["ringmsg"][-1] == ("lost", None) and len(seen["ringmsg"]) == 5

    run(work())


async def scenario_connected(create: Any) -> list[Any]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(5)
        there = peer.getsockname()
        transport, protocol = await create(Recorder, remote_addr=there)
        assert transport.get_extra_info("peername") == there
        transport.sendto(b"hello")
        data, address = peer.recvfrom(100)
        assert data == b"hello" and address == transport.get_extra_info("sockname")
        transport.sendto(b"again", there)
        assert peer.recv(100) == b"again"
        with pytest.raises(ValueError):
            transport.sendto(b"elsewhere", ("127.0.0.1", 1))
        peer.sendto(b"answer", address)
        await protocol.until(2)
        # The peer hears nobody but itself: the kernel refuses.
        peer.connect(there)
        transport.sendto(b"anybody?")
        await protocol.until(3)
    transport.abort()
    await protocol.lost
    return [e if e[0] != "datagram" else ("datagram", e[1], e[2] == there) for e in protocol.events]


def test_connected(run: Any) -> None:
    async def work() -> None:
        seen = {name: await scenario_connected(create) for name, create in endpoints().items()}
        assert seen["ringmsg"] == seen["own"]
        assert ("error", ConnectionRefusedError, errno.ECONNREFUSED) in seen["ringmsg"]

    run(work())


def test_wrong_arguments(run: Any) -> None:
    async def work() -> None:
        for name, create in endpoints().items():
            if name == "own" and "uvloop" in type(asyncio.get_running_loop()).__module__:
                continue  # it warns of the resources of endpoints it could not make
            transport, protocol = await create(Recorder, local_addr=("127.0.0.1", 0))
            with pytest.raises(TypeError):
                transport.sendto("text", ("127.0.0.1", 9))
            transport.close()
            transport.close()
            await protocol.lost
            assert protocol.events == ["made", ("lost", None)], name
            with pytest.raises((ValueError, TypeError)):
                await create(Recorder)
            with pytest.raises((OSError, ValueError)):
                await create(Recorder, local_addr=("127.0.0.1", 0), remote_addr=("::1", 1))
            with pytest.raises(OSError):
                await create(Recorder, local_addr=("192.0.2.1", 0))  # not an address of ours

    run(work())


def test_an_existing_socket(run: Any) -> None:
    async def work() -> None:
        for create in endpoints().values():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            transport, protocol = await create(Recorder, sock=sock)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.sendto(b"x", sock.getsockname())
            await protocol.until(2)
            transport.close()
            await protocol.lost
            await asyncio.sleep(0.01)
            assert sock.fileno() == -1, "the transport closes the socket"

    run(work())


def test_unix_sockets(tmp_path: Any) -> None:
    async def work() -> None:
        for name, create in endpoints().items():
            path = str(tmp_path / name)
            for _ in range(2):  # the second finds the file of the first
                transport, protocol = await create(Recorder, local_addr=path, family=socket.AF_UNIX)
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
                    peer.sendto(b"x", path)
                await protocol.until(2)
                assert protocol.events[1] == ("datagram", b"x", None)
                transport.close()
                await protocol.lost

    asyncio.run(work())


def test_closing_while_receiving(run: Any) -> None:
    """After close() nothing more is received, although it had arrived."""

    async def work() -> None:
        class Once(Recorder):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                super().datagram_received(data, addr)
                self.transport.close()

        transport, protocol = await ringmsg.aio.create_datagram_endpoint(Once, local_addr=("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for _ in range(10):
                peer.sendto(b"x", transport.get_extra_info("sockname"))
            await protocol.lost
        assert [event[0] for event in protocol.events[1:]] == ["datagram", "lost"]

    run(work())


def test_at_most_64_in_a_turn(run: Any) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        turns = [0]

        class Counter(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                turns[-1] += 1

        def tick() -> None:
            turns.append(0)
            loop.call_soon(tick)

        transport, _ = await ringmsg.aio.create_datagram_endpoint(Counter, local_addr=("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            for _ in range(200):
                peer.sendto(b"x", transport.get_extra_info("sockname"))
        tick()
        while sum(turns) < 200:
            await asyncio.sleep(0)
        assert max(turns) == 64
        transport.close()

    run(work())


def test_flow_control() -> None:
    """A full socket buffer pauses the protocol; what waited is sent in order."""

    async def work() -> None:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        right.setblocking(False)
        calls: list[str] = []

        class Sender(Recorder):
            def pause_writing(self) -> None:
                calls.append("pause")

            def resume_writing(self) -> None:
                calls.append("resume")

        transport, protocol = await ringmsg.aio.create_datagram_endpoint(Sender, sock=left, metadata=ringmsg.Meta(0))
        transport.set_write_buffer_limits(high=4000)
        assert transport.get_write_buffer_limits() == (1000, 4000)
        for number in range(1000):
            transport.sendto(b"%1000d" % number)
        assert calls == ["pause"] and transport.get_write_buffer_size() > 4000
        transport.close()  # what waits is sent first
        got = []
        while len(got) < 1000:
            try:
                got.append(int(right.recv(2000)))
            except BlockingIOError:
                await asyncio.sleep(0)
        assert got == list(range(1000)) and calls == ["pause", "resume"]
        await protocol.lost
        right.close()

    asyncio.run(work())


def test_install(run: Any) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        ringmsg.aio.install(loop)
        transport, protocol = await loop.create_datagram_endpoint(Recorder, local_addr=("127.0.0.1", 0))
        assert isinstance(transport, ringmsg.aio.DatagramTransport)
        transport.close()
        await protocol.lost

    run(work())


def test_a_forgotten_transport_warns() -> None:
    async def work() -> None:
        transport, protocol = await ringmsg.aio.create_datagram_endpoint(Recorder, local_addr=("127.0.0.1", 0))
        asyncio.get_running_loop().remove_reader(transport._fd)
        protocol.transport = None
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            del transport
            gc.collect()
            eventually(lambda: True)

    asyncio.run(work())


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
