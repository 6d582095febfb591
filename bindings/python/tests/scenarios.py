"""The table of behaviours of a datagram endpoint: what a program sees of asyncio's own, of uvloop's
and of ours. Each scenario writes a log; test_endpoint.py compares the logs."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

Create = Callable[..., Awaitable[tuple[Any, Any]]]
Scenario = Callable[[Create, list[Any]], Awaitable[None]]
SCENARIOS: dict[str, Scenario] = {}
# Where uvloop's own endpoint does otherwise than asyncio's: how. Under uvloop ours follows
# asyncio's all the same, but where programs written for uvloop would break.
UVLOOP_DIFFERS: dict[str, str] = {}
UVLOOP_FOLLOWED: set[str] = set()


def scenario(uvloop: str = "", *, followed: bool = False) -> Callable[[Scenario], Scenario]:
    """Adds to the table."""

    def add(function: Scenario) -> Scenario:
        SCENARIOS[function.__name__] = function
        if uvloop:
            UVLOOP_DIFFERS[function.__name__] = uvloop
        if followed:
            UVLOOP_FOLLOWED.add(function.__name__)
        return function

    return add


class Protocol(asyncio.DatagramProtocol):
    """Logs all that happens to it."""

    def __init__(self, log: list[Any]) -> None:
        self.log = log
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.log.append("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.log.append(("datagram", data[:16], len(data), type(data).__name__, type(addr).__name__))

    def error_received(self, exc: Exception) -> None:
        self.log.append(("error", type(exc).__name__, getattr(exc, "errno", None)))

    def connection_lost(self, exc: Exception | None) -> None:
        self.log.append(("lost", type(exc).__name__))
        if not self.lost.done():
            self.lost.set_result(None)

    def pause_writing(self) -> None:
        self.log.append("pause")

    def resume_writing(self) -> None:
        self.log.append("resume")


class Raising(Protocol):
    """Raises in every callback."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        raise RuntimeError("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        super().datagram_received(data, addr)
        raise RuntimeError("datagram")

    def error_received(self, exc: Exception) -> None:
        super().error_received(exc)
        raise RuntimeError("error")

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        raise RuntimeError("lost")


def peer() -> socket.socket:
    """A bound socket."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    made.settimeout(2)
    return made


def name(transport: Any) -> Any:
    return transport.get_extra_info("sockname")


async def settle() -> None:
    """Gives what was sent the time to be received."""
    for _ in range(20):
        await asyncio.sleep(0.002)


async def local(create: Create, log: list[Any], protocol: Any = Protocol) -> tuple[Any, Any]:
    return await create(lambda: protocol(log), local_addr=("127.0.0.1", 0))


def attempt(log: list[Any], call: Callable[..., Any], *arguments: Any) -> None:
    """What a call raises, by kind."""
    try:
        log.append(("returned", call(*arguments)))
    except Exception as error:
        log.append(("raised", type(error).__name__))


@scenario()
async def datagrams_in_order(create: Create, log: list[Any]) -> None:
    transport, protocol = await local(create, log)
    log.append("created")
    with peer() as sender:
        for data in (b"a", b"", b"b", b"x" * 60000):
            sender.sendto(data, name(transport))
    await settle()
    transport.close()
    transport.close()
    log.append(transport.is_closing())
    await protocol.lost


@scenario("its socket is a PseudoSocket")
async def extra_info(create: Create, log: list[Any]) -> None:
    transport, protocol = await create(lambda: Protocol(log), remote_addr=("127.0.0.1", 9))
    for key in ("socket", "sockname", "peername", "peercert", "pipe", "nothing"):
        value = transport.get_extra_info(key, "default")
        log.append((key, value if key in ("peername", "nothing") else type(value).__name__))
    transport.close()
    await protocol.lost


@scenario("UDPTransport is no asyncio.Transport")
async def kinds_of_transport(create: Create, log: list[Any]) -> None:
    transport, protocol = await local(create, log)
    for kind in (asyncio.Transport, asyncio.ReadTransport, asyncio.WriteTransport):
        log.append(isinstance(transport, kind))
    transport.close()
    await protocol.lost


@scenario("connection_made's exception is raised by create_datagram_endpoint()")
async def exceptions_of_callbacks(create: Create, log: list[Any]) -> None:
    transport, protocol = await local(create, log, Raising)
    log.append("created")
    with peer() as sender:
        for data in (b"1", b"2", b"3"):
            sender.sendto(data, name(transport))
    await settle()
    address = name(transport)
    transport.close()
    await protocol.lost
    await settle()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(address)
        log.append("the port is free")


@scenario()
async def a_factory_that_raises(create: Create, log: list[Any]) -> None:
    def factory() -> Any:
        raise RuntimeError("factory")

    with peer() as sock:
        try:
            await create(factory, sock=sock)
        except RuntimeError as error:
            log.append(str(error))


WRONG: list[dict[str, Any]] = [
    {},
    {"local_addr": "x"},
    {"local_addr": ["127.0.0.1", 0]},
    {"local_addr": ("::1", 0), "remote_addr": ("127.0.0.1", 9)},
    {"local_addr": ("192.0.2.77", 0)},
    {"local_addr": ("127.0.0.1", 0), "family": socket.AF_INET6},
    {"remote_addr": ("255.255.255.255", 9)},
    {"local_addr": 7, "family": socket.AF_UNIX},
]
GOOD: list[dict[str, Any]] = [
    {"family": socket.AF_INET},
    {"local_addr": ("127.0.0.1", None)},
    {"local_addr": ("127.0.0.1", "0")},
    {"local_addr": (None, 0), "family": socket.AF_INET},
    {"local_addr": ("::1", 0)},
    {"local_addr": ("127.0.0.1", 0), "reuse_port": True},
    {"remote_addr": ("255.255.255.255", 9), "allow_broadcast": True},
]


@scenario("it takes some that asyncio refuses")
async def wrong_arguments(create: Create, log: list[Any]) -> None:
    for arguments in WRONG:
        try:
            await create(lambda: Protocol([]), **arguments)
        except Exception as error:
            log.append((repr(arguments), type(error).__name__, getattr(error, "errno", None)))


@scenario("it names protocols otherwise")
async def arguments(create: Create, log: list[Any]) -> None:
    for given in GOOD:
        transport, protocol = await create(lambda: Protocol([]), **given)
        sock = transport.get_extra_info("socket")
        options = [sock.getsockopt(socket.SOL_SOCKET, option) for option in (2, 6, 15)]
        host = sock.getsockname()[0]
        log.append((repr(given), sock.family.name, host, sock.proto, sock.gettimeout(), options))
        transport.close()
        await protocol.lost


@scenario("it takes sockets of every kind")
async def sockets_that_are_no_datagram_sockets(create: Create, log: list[Any]) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        left, right = socket.socketpair(socket.AF_UNIX, kind)
        with left, right:
            try:
                await create(lambda: Protocol(log), sock=left)
            except Exception as error:
                log.append(type(error).__name__)


@scenario("it reads 64 KiB of a datagram")
async def unix_paths(create: Create, log: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):  # the second finds the file of the first
            transport, protocol = await create(
                lambda: Protocol(log), local_addr=folder + "/a", family=socket.AF_UNIX
            )
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
                nameless.sendto(b"nameless", folder + "/a")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.bind(folder + "/b")
                sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                sender.sendto(b"named", folder + "/a")
                sender.sendto(b"y" * 200_000, folder + "/a")
                await settle()
                transport.sendto(b"answer", folder + "/b")
                log.append(sender.recv(9))
            os.unlink(folder + "/b")
            transport.close()
            await protocol.lost


@scenario("it cannot pause reading")
async def pausing(create: Create, log: list[Any]) -> None:
    transport, protocol = await local(create, log)
    log.append(transport.is_reading())
    transport.pause_reading()
    transport.pause_reading()
    log.append(transport.is_reading())
    with peer() as sender:
        for number in range(5):
            sender.sendto(b"%d" % number, name(transport))
    await settle()
    log.append("resumed")
    transport.resume_reading()
    transport.resume_reading()
    await settle()
    transport.close()
    transport.pause_reading()
    transport.resume_reading()
    log.append(transport.is_reading())
    await protocol.lost


@scenario("it cannot pause reading")
async def pausing_in_a_callback(create: Create, log: list[Any]) -> None:
    class Pausing(Protocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.log) == 4:
                self.transport.pause_reading()

    transport, protocol = await local(create, log, Pausing)
    with peer() as sender:
        for number in range(100):
            sender.sendto(b"%d" % number, name(transport))
    await settle()
    log.append("resumed")
    transport.resume_reading()
    while len(log) < 102:
        await asyncio.sleep(0.001)
    transport.close()
    await protocol.lost


@scenario()
async def closing_in_a_callback(create: Create, log: list[Any]) -> None:
    class Closing(Protocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.close()

    transport, protocol = await local(create, log, Closing)
    with peer() as sender:
        for _ in range(3):
            sender.sendto(b"x", name(transport))
    await asyncio.wait_for(protocol.lost, 2)


@scenario()
async def another_protocol(create: Create, log: list[Any]) -> None:
    transport, first = await local(create, log)
    second_log: list[Any] = []
    second = Protocol(second_log)
    transport.set_protocol(second)
    with peer() as sender:
        sender.sendto(b"x", name(transport))
    await settle()
    transport.close()
    await second.lost
    log += [second_log, transport.get_protocol() is first]


@scenario()
async def a_method_that_is_replaced(create: Create, log: list[Any]) -> None:
    transport, protocol = await local(create, log)
    with peer() as sender:
        sender.sendto(b"old", name(transport))
        await settle()
        protocol.datagram_received = lambda data, addr: log.append(("new", data))
        sender.sendto(b"new", name(transport))
        await settle()
    transport.close()
    await protocol.lost


@scenario("its methods are looked up once")
async def a_protocol_without_methods(create: Create, log: list[Any]) -> None:
    class Bare:
        def connection_made(self, transport: Any) -> None:
            log.append("made")

        def datagram_received(self, data: bytes, addr: Any) -> None:
            log.append(data)

    transport, _ = await create(Bare, local_addr=("127.0.0.1", 0))
    with peer() as sender:
        sender.sendto(b"x", name(transport))
    await settle()
    transport.close()
    await settle()


def send_train(sender: socket.socket, address: Any, payload: bytes, size: int) -> None:
    """One UDP_SEGMENT train."""
    sender.sendmsg([payload], [(17, 103, struct.pack("=H", size))], 0, address)


@scenario()
async def trains(create: Create, log: list[Any]) -> None:
    """What arrives as a train is handed over datagram by datagram, also when it comes again."""
    transport, protocol = await local(create, log)
    with peer() as sender:
        for _ in range(6):
            send_train(sender, name(transport), bytes(range(250)) * 40, 400)
            await settle()
        sender.sendto(b"alone", name(transport))
        await settle()
    transport.close()
    await protocol.lost
