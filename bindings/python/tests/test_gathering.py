"""The endpoint's ``sendto``: when datagrams leave, and how many leave together."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import Any

import pytest
from endpoints import LOOPS, in_bursts, run, send_many, until
from gathering import Narrow, Recording, arrived, endpoint, numbers, send_turn
from room import make_room, needs_room
from scenarios import name, peer

from ringmsg import _gather

pytestmark = [pytest.mark.usefixtures("patient"), pytest.mark.parametrize("loop_kind", LOOPS)]


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


async def send_lone_ones(transport: Any, there: socket.socket) -> None:
    """Sends one in each turn of the loop, until the transport rarely looks at the clock."""
    for _ in range(400):
        transport.sendto(b"x", there.getsockname())
        await asyncio.sleep(0)
        arrived(there)


def test_bursts_after_lone_ones_are_gathered(loop_kind: str) -> None:
    """However many were alone before, few turns of 64 pass until one leaves as one batch, but for its
    first; and none of those before is lost."""

    async def work() -> None:
        transport, _ = await endpoint()
        with peer() as there:
            await send_lone_ones(transport, there)
            at_once = []
            for _ in range(8):
                for data in numbers(0, 64):
                    transport.sendto(data, there.getsockname())
                got = arrived(there)
                at_once.append(len(got))
                await asyncio.sleep(0)
                assert got + arrived(there) == numbers(0, 64)
            assert at_once[-1] <= 1
        transport.close()

    run(work(), loop_kind)


def test_a_full_socket_keeps_the_order_of_lone_ones(loop_kind: str) -> None:
    """What follows one that waits for room waits behind it, also where the clock is not looked at."""

    async def work() -> None:
        transport, _ = await endpoint()
        with peer() as there:
            await send_lone_ones(transport, there)
            narrow, got = Narrow(transport, 0), []
            for number in range(12):
                narrow.room = number % 2  # there is room, but the first still waits
                transport.sendto(b"%d" % number, there.getsockname())
                got += arrived(there)
            while len(got) < 12:
                narrow.room = 3
                await asyncio.sleep(0)
                got += arrived(there)
            assert got == numbers(0, 12)
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
