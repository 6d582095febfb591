"""The endpoint's ``sendto``: when datagrams leave, and that what asyncio had sent has left, whatever the
program does next."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from endpoints import LOOPS, Numbers, in_bursts, run, send_many, until
from room import make_room, needs_room
from scenarios import name, peer

import ringmsg.aio
from ringmsg import _gather

pytestmark = pytest.mark.parametrize("loop_kind", LOOPS)


class Recording(Numbers):
    """Also records errors, and pauses."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[int | None] = []
        self.pauses: list[str] = []

    def error_received(self, exc: Exception) -> None:
        self.errors.append(getattr(exc, "errno", None))

    def pause_writing(self) -> None:
        self.pauses.append("pause")

    def resume_writing(self) -> None:
        self.pauses.append("resume")


async def endpoint(protocol: Any = Recording, **arguments: Any) -> tuple[Any, Any]:
    arguments = arguments or {"local_addr": ("127.0.0.1", 0)}
    return await ringmsg.aio.create_datagram_endpoint(protocol, **arguments)


def arrived(sock: socket.socket) -> list[bytes]:
    """What is in the socket's queue now: sending over loopback is delivery."""
    got = []
    sock.setblocking(False)
    try:
        while True:
            got.append(sock.recv(65536))
    except BlockingIOError:
        sock.settimeout(2)
        return got


def numbers(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def send_turn(transport: Any, address: Any, count: int) -> None:
    """This many sendto, one after the other; the clock of the transport sees one turn of the loop."""
    for data in numbers(0, count):
        transport.sendto(data, address)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy may let the limits pass between two sendto of one turn."""
    monkeypatch.setattr("ringmsg._flow._SOON_NS", 10**12)
    monkeypatch.setattr("ringmsg._endpoint._GATHER_NS", 10**12)


# --- when they leave ---------------------------------------------------------------------------


def test_the_first_leaves_at_once_and_the_others_at_the_end_of_the_turn(loop_kind: str) -> None:
    """With one call, as one train, in order."""

    async def work() -> None:
        transport, _ = await endpoint()
        with peer() as there:
            transport.sendto(b"0", there.getsockname())
            assert arrived(there) == [b"0"]
            for data in numbers(1, 64):
                transport.sendto(data, there.getsockname())
            assert arrived(there) == []
            await asyncio.sleep(0)
            assert arrived(there) == numbers(1, 64)
            stats = transport._gatherer._handle.stats()
            assert (stats.messages, stats.calls, stats.grouped) == (63, 1, 63)
        transport.close()

    run(work(), loop_kind)


def test_one_that_follows_leaves_by_the_sockets_own_call(loop_kind: str) -> None:
    """The library's sender is not made for one datagram."""

    async def work() -> None:
        transport, _ = await endpoint()
        with peer() as there:
            for _ in range(3):
                send_turn(transport, there.getsockname(), 2)
                await asyncio.sleep(0)
                assert arrived(there) == numbers(0, 2)
        assert transport._gatherer._handle is None
        transport.close()

    run(work(), loop_kind)


def test_lone_ones_stop_being_gathered(loop_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each wrong guess takes twice as many reasons: a program that sends one in each turn, however
    fast, soon has them all leave at once."""

    async def work() -> None:
        transport, _ = await endpoint()
        at_once = 0
        with peer() as there:
            for _ in range(400):
                transport.sendto(b"x", there.getsockname())
                at_once += len(arrived(there))
                await asyncio.sleep(0)
                arrived(there)
        assert 380 < at_once < 400
        transport.close()

    run(work(), loop_kind)


def test_a_hand_over_sends_its_answers_as_one_batch(loop_kind: str) -> None:
    """Of several datagrams; in order for each peer."""

    class Echo(Recording):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.sendto(data, addr)
            self.seen = arrived(sender)

    sender = peer()

    async def work() -> None:
        transport, protocol, other = await in_bursts(Recording)
        protocol.__class__ = Echo
        for data in numbers(0, 32):
            for sock in (sender, other):
                sock.sendto(data, name(transport))
        await until(lambda: len(protocol.got) == 64)
        assert protocol.seen == [], "nothing leaves before the end"
        stats = transport._gatherer._handle.stats()
        assert (stats.messages, stats.calls) == (64, 1)
        assert arrived(sender) == arrived(other) == numbers(0, 32)
        transport.close()

    with sender:
        run(work(), loop_kind)


def test_a_callback_that_raises_loses_no_answer(loop_kind: str) -> None:
    """What was gathered leaves although a callback raises; the next datagrams are answered, too."""

    class Raising(Recording):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.sendto(data, addr)
            if data in (b"2", b"3"):
                raise RuntimeError(data)

    async def work() -> None:
        loop, raised = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, context: raised.append(context["exception"].args))
        transport, protocol, sender = await in_bursts(Recording)
        protocol.__class__ = Raising
        send_many(sender, name(transport), 8)
        await until(lambda: len(protocol.got) == 8)
        assert arrived(sender) == numbers(0, 8)
        assert raised == [(b"2",), (b"3",)]
        await asyncio.sleep(0.05)  # lone ones from here
        for data in (b"2", b"9"):
            sender.sendto(data, name(transport))
            await until(lambda: len(arrived(sender)) == 1)
        transport.close()

    run(work(), loop_kind)


def test_a_callback_of_one_datagram_flushes_when_it_returns(loop_kind: str) -> None:
    """No turn of the loop is taken for that."""

    class Fan(Recording):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            for part in numbers(0, 5):
                self.transport.sendto(part, addr)
            asyncio.get_running_loop().call_soon(lambda: self.got.append(len(arrived(client))))

    client = peer()

    async def work() -> None:
        transport, protocol = await endpoint(Fan)
        client.sendto(b"x", name(transport))
        await until(lambda: protocol.got)
        assert protocol.got == [5]
        transport.close()

    with client:
        run(work(), loop_kind)


def test_many_in_one_turn_do_not_pile_up(loop_kind: str) -> None:
    """At most MOST are gathered."""

    async def work() -> None:
        transport, _ = await endpoint()
        with peer() as there:
            make_room(there, 16 << 20)
            most = 0
            for data in numbers(0, 2000):
                transport.sendto(data, there.getsockname())
                most = max(most, len(transport._gatherer.data))
            await asyncio.sleep(0)
            assert most == _gather.MOST - 1
            assert arrived(there) == numbers(0, 2000)
        transport.close()

    run(work(), loop_kind)


# --- the traps ---------------------------------------------------------------------------------


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


# --- errors, full buffers ------------------------------------------------------------------------


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


class Narrow:
    """A socket, and the sender of its transport, that take this many datagrams and are then full. (Over
    loopback a UDP socket never is.)"""

    def __init__(self, transport: Any, room: int) -> None:
        self._sock, self.room = transport._sock, room
        transport._sock = self
        self._gatherer, self._send = transport._gatherer, transport._gatherer.send
        self._gatherer.send = self.send_batch
        self.fileno, self.close = self._sock.fileno, self._sock.close
        self.largest = 0

    def sendto(self, data: bytes, address: Any) -> None:
        if not self.room:
            raise BlockingIOError
        self.room -= 1
        self._sock.sendto(data, address)

    def send_batch(self, data: list[bytes], indices: list[int]) -> list[int]:
        room = min(self.room, len(data))
        self.room -= room
        self.largest = max(self.largest, room)
        sent = self._send(data[:room], indices[:room]) if room else []
        return [*sent, *[-errno.EAGAIN] * (len(data) - room)]


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


# --- many ----------------------------------------------------------------------------------------

MANY = """
import asyncio, ringmsg.aio, os, resource, socket, sys
if sys.argv[1] == "uvloop": import uvloop; asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
there.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)
there.bind(("127.0.0.1", 0))
there.setblocking(False)
async def main():
    before, made = len(os.listdir("/proc/self/fd")), []
    for _ in range(300):
        made.append(await ringmsg.aio.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)))
    limit = len(os.listdir("/proc/self/fd")) + int(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    for _ in range(2):
        for transport, _ in made:
            for _ in range(4): transport.sendto(b"x", there.getsockname())
        await asyncio.sleep(0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    used = len(os.listdir("/proc/self/fd")) - before - 300 if int(sys.argv[2]) > 1 else 0
    count = 0
    try:
        while there.recv(9): count += 1
    except BlockingIOError: print(count, used <= 64, flush=True)
    for transport, _ in made: transport.close()
    await asyncio.sleep(0.01)
asyncio.run(main())
"""


@pytest.mark.parametrize("spare", [100, 0])
def test_many_endpoints_share_few_senders(loop_kind: str, spare: int) -> None:
    """300 endpoints that gather take 64 descriptors more; where there is none, they send without."""
    needs_room(128 << 20)
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", MANY, loop_kind, str(spare)],
        capture_output=True,
        text=True,
    )
    assert (done.stdout.split(), done.stderr) == (["2400", "True"], "")


# --- answers from the address that was asked -------------------------------------------------------

HOSTS = {
    "0.0.0.0": ["127.0.0.1", "127.0.0.7", "127.9.9.9"],
    "::": ["::1", "::ffff:127.0.0.1", "::ffff:127.0.0.7"],
}


class Echo(Recording):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append(int(data))
        self.transport.sendto(data, addr)


def wildcard(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.bind((host, 0))
    return made


@pytest.mark.parametrize("host", HOSTS)
def test_answers_leave_from_the_address_that_was_asked(loop_kind: str, host: str) -> None:
    """Lone, and from bursts; clients are connected, and get nothing from elsewhere."""

    async def work() -> None:
        sock = wildcard(host)
        transport, protocol = await endpoint(Echo, sock=sock, reply_from_destination=True)
        port = name(transport)[1]
        clients = [socket.socket(sock.family, socket.SOCK_DGRAM) for _ in HOSTS[host]]
        for client, asked in zip(clients, HOSTS[host]):
            client.connect((asked, port))
        for count in (1, 30):
            for client in clients:
                for data in numbers(0, count):
                    client.send(data)
            await until(lambda wanted=count * len(clients): len(protocol.got) == wanted)
            await asyncio.sleep(0)
            for client in clients:
                assert arrived(client) == numbers(0, count)
                client.settimeout(None)
            protocol.got.clear()
        for client in clients:
            client.close()
        transport.close()

    run(work(), loop_kind)


def test_the_address_that_was_asked_last(loop_kind: str) -> None:
    """One peer asks two addresses, in turn, also within one burst: each answer comes from where its
    question went. Without the option the kernel chooses."""

    async def work() -> None:
        for option in (True, False):
            transport, protocol = await endpoint(
                Echo, local_addr=("0.0.0.0", 0), reply_from_destination=option
            )
            port = name(transport)[1]
            asked = ["127.0.0.3", "127.0.0.4"] * 10
            with peer() as client:
                for host in asked:
                    client.sendto(b"1", (host, port))
                await until(lambda: len(protocol.got) == 20)
                await asyncio.sleep(0)
                sources = [client.recvfrom(9)[1][0] for _ in asked]
                assert (sources == asked) is option
            transport.close()

    run(work(), loop_kind)


def test_an_address_that_is_gone(loop_kind: str) -> None:
    """An answer from an address that the host no longer has is sent again without: at once, and from
    a batch. The protocol hears nothing."""

    async def work() -> None:
        transport, protocol = await endpoint(local_addr=("0.0.0.0", 0), reply_from_destination=True)
        with peer() as client:
            client.sendto(b"5", ("127.0.0.1", name(transport)[1]))
            await until(lambda: protocol.got)
            to = client.getsockname()
            reply = transport._replies.get(to)
            gone = bytes([192, 0, 2, 1])
            wrong = reply._replace(
                path=reply.path.replace(reply.control[0][2][4:8], gone)[:8]
                + reply.path[8:32]
                + gone
                + reply.path[36:],
                control=[(*reply.control[0][:2], bytes(4) + gone + bytes(4))],
            )
            for count in (1, 5):
                transport._gatherer.remember(to, wrong)
                assert transport._replies.get(to) is wrong
                send_turn(transport, to, count)
                await asyncio.sleep(0)
                assert arrived(client) == numbers(0, count)
                assert transport._replies.get(to) is None
                await asyncio.sleep(0)
            for _ in range(2):
                send_turn(transport, to, 5)
                transport._gatherer.remember(to, wrong)
                await asyncio.sleep(0)
                assert arrived(client) == numbers(0, 5)
        assert protocol.errors == []
        transport.close()

    run(work(), loop_kind)
