"""The datagram endpoint in bursts, and with GRO trains, also on sockets that others share."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import sys
from typing import Any

import pytest
from endpoints import LOOPS, UDP_GRO, Numbers, in_bursts, is_bursting, run, send_many, until
from scenarios import Protocol, name, peer, send_train, settle

import ringmsg.aio
from ringmsg import _options


@pytest.mark.parametrize("loop_kind", LOOPS)
def test_every_datagram_of_a_burst_comes_once_and_in_order(loop_kind: str) -> None:
    async def work() -> None:
        transport, protocol, sender = await in_bursts()
        for count in (1, 3, 64, 65, 200):
            protocol.got.clear()
            send_many(sender, name(transport), count)
            await until(lambda: len(protocol.got) >= count)
            assert protocol.got == list(range(count))
        transport.close()
        await protocol.lost

    run(work(), loop_kind)


def test_lone_datagrams_end_the_bursts_and_they_come_back() -> None:
    async def work() -> None:
        transport, protocol, sender = await in_bursts()
        for number in range(20):
            sender.sendto(b"%d" % number, name(transport))
            await until(lambda: len(protocol.got) == number + 1)
        assert not is_bursting(transport)
        for round_ in range(50):
            send_many(sender, name(transport), 64)
            await until(lambda: len(protocol.got) == 20 + 64 * (round_ + 1))
        assert is_bursting(transport)
        transport.close()

    run(work())


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("loop_kind", LOOPS)
def test_an_exception_in_a_burst_goes_to_the_handler_and_the_next_datagram_is_delivered(
    loop_kind: str, debug: bool
) -> None:
    class Careless(Numbers):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if len(self.got) in fatal:
                raise ValueError(len(self.got))

    fatal: set[int] = set()

    async def work() -> None:
        loop, seen = asyncio.get_running_loop(), []
        loop.set_exception_handler(lambda _, context: seen.append(context["exception"].args[0]))
        transport, protocol, sender = await in_bursts(Careless)
        fatal.update({1, 2, 50, 64, 100})
        send_many(sender, name(transport), 100)
        await until(lambda: len(protocol.got) == 100)
        await settle()
        assert protocol.got == list(range(100))
        assert seen == [1, 2, 50, 64, 100]
        transport.close()
        await protocol.lost

    run(work(), loop_kind, debug)


@pytest.mark.parametrize("loop_kind", LOOPS)
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupts_leave_the_loop_and_nothing_else_is_lost(
    loop_kind: str, kind: type[BaseException]
) -> None:
    """As from a callback of the loop: run_forever() raises, and can be continued."""

    class Interrupting(Numbers):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if armed and len(self.got) == 10:
                raise kind

    armed: list[int] = []
    loop = LOOPS[loop_kind]()
    transport, protocol, sender = loop.run_until_complete(in_bursts(Interrupting))
    armed.append(1)
    send_many(sender, name(transport), 40)
    loop.call_later(5, loop.stop)
    with pytest.raises(kind):
        loop.run_forever()
    # uvloop raises when the turn is over, and the rest of the burst may have come by then.
    assert loop_kind == "uvloop" or protocol.got == list(range(10))
    loop.run_until_complete(until(lambda: len(protocol.got) == 40))
    assert protocol.got == list(range(40))
    transport.close()
    loop.run_until_complete(protocol.lost)
    loop.close()


def test_nothing_is_delivered_after_close_in_a_burst() -> None:
    async def work() -> None:
        transport, protocol, sender = await in_bursts()
        asyncio.get_running_loop().call_soon(transport.close)  # behind the first turn's datagrams
        transport._read_burst()
        send_many(sender, name(transport), 200)
        await protocol.lost
        await settle()
        assert protocol.got in ([], list(range(64)))

    run(work())


def test_pausing_within_a_burst() -> None:
    class Pausing(Numbers):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if pauses and len(self.got) % 7 == 0:
                self.transport.pause_reading()
                if len(self.got) % 2:
                    self.transport.resume_reading()

    pauses: list[int] = []

    async def work() -> None:
        transport, protocol, sender = await in_bursts(Pausing)
        pauses.append(1)
        send_many(sender, name(transport), 100)
        while len(protocol.got) < 100:
            await settle()
            if not transport.is_reading():
                count = len(protocol.got)
                assert count % 14 == 0, "nothing came after the pause"
                transport.resume_reading()
        assert protocol.got == list(range(100))
        transport.close()
        await protocol.lost

    run(work())


def test_another_protocol_from_the_next_datagram_on() -> None:
    class Handing(Numbers):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if others and len(self.got) == 10:
                self.transport.set_protocol(others[0])

    others: list[Any] = []

    async def work() -> None:
        transport, protocol, sender = await in_bursts(Handing)
        others.append(Numbers())
        send_many(sender, name(transport), 40)
        await until(lambda: len(protocol.got) + len(others[0].got) == 40)
        assert (protocol.got, others[0].got) == (list(range(10)), list(range(10, 40)))
        transport.close()
        await others[0].lost

    run(work())


def test_at_most_64_in_a_turn_of_the_loop() -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol, sender = await in_bursts()
        turns, before = [], 0

        def turn() -> None:
            nonlocal before
            turns.append(len(protocol.got) - before)
            before = len(protocol.got)
            loop.call_soon(turn)

        send_train(sender, name(transport), b"7" * 6000, 60)
        send_train(sender, name(transport), b"7" * 6000, 60)
        turn()
        await until(lambda: len(protocol.got) == 200)
        assert max(turns) == 64
        transport.close()

    run(work())


# --- trains, and sockets that others share -------------------------------------------------


@pytest.mark.parametrize("loop_kind", LOOPS)
@pytest.mark.parametrize("given", ["sock", "local_addr"])
def test_trains_are_taken_whole_and_split(loop_kind: str, given: str) -> None:
    class Sizes(Numbers):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.got.append(len(data))

    async def work() -> None:
        arguments: dict[str, Any] = {"sock": peer()} if given == "sock" else {}
        transport, protocol, sender = await in_bursts(Sizes, **arguments)
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(*UDP_GRO) == 1, "datagrams of one size from one peer"
        for _ in range(5):  # in bursts, and then alone, when the transport has changed back
            protocol.got.clear()
            send_train(sender, name(transport), bytes(12100), 400)
            await until(lambda: len(protocol.got) == 31)
            assert protocol.got == [400] * 30 + [100]
            protocol.got.clear()
            sender.sendto(b"123", name(transport))
            await until(lambda: protocol.got)
            assert protocol.got == [3]
        transport.close()

    run(work(), loop_kind)


def test_gro_that_somebody_else_switched_on() -> None:
    """Another process that shares the socket may switch it on at any time: no train is handed over
    as one datagram, not even the first."""

    async def work() -> None:
        shared = peer()
        transport, protocol = await ringmsg.aio.create_datagram_endpoint(
            lambda: Protocol(log), sock=shared.dup()
        )
        shared.setsockopt(*UDP_GRO, 1)
        with peer() as sender:
            send_train(sender, shared.getsockname(), bytes(1000), 300)
        await until(lambda: len(log) == 5)
        transport.close()
        await protocol.lost
        assert shared.getsockopt(*UDP_GRO) == 1, "it is not ours to switch off"
        shared.close()

    log: list[Any] = []
    run(work())
    assert [entry[2] for entry in log[1:-1]] == [300, 300, 300, 100]


def test_gro_is_left_alone_if_asked() -> None:
    async def work() -> None:
        transport, protocol = await ringmsg.aio.create_datagram_endpoint(
            Numbers, local_addr=("127.0.0.1", 0), gro=False
        )
        with peer() as sender:
            for _ in range(20):
                protocol.got.clear()
                send_many(sender, name(transport), 64)
                await until(lambda: len(protocol.got) == 64)
        assert is_bursting(transport)
        assert transport.get_extra_info("socket").getsockopt(*UDP_GRO) == 0
        transport.close()

    run(work())


def test_close_switches_gro_off_when_nothing_is_queued() -> None:
    async def work() -> None:
        shared = peer()
        transport, protocol, sender = await in_bursts(sock=shared.dup())
        assert shared.getsockopt(*UDP_GRO) == 1
        transport.close()
        await protocol.lost
        assert shared.getsockopt(*UDP_GRO) == 0
        shared.close()

    run(work())


def test_gro_is_not_switched_off_over_queued_trains() -> None:
    """Off, the kernel would deliver ten datagrams as one of a thousand bytes, without a size."""
    with peer() as receiver, peer() as sender:
        assert _options.switch_gro_on(receiver)
        send_train(sender, receiver.getsockname(), bytes(1000), 100)
        assert not _options.switch_gro_off(receiver)
        data, control, _, _ = receiver.recvmsg(65536, 64)
        assert len(data) == 1000 and int.from_bytes(control[0][2], sys.byteorder) == 100
        assert _options.switch_gro_off(receiver)
        assert receiver.getsockopt(*UDP_GRO) == 0
        send_train(sender, receiver.getsockname(), bytes(1000), 100)
        assert len(receiver.recv(65536)) == 100


@pytest.mark.parametrize("loop_kind", LOOPS)
def test_errors_that_stay_queued_do_not_end_receiving(loop_kind: str) -> None:
    """With IP_RECVERR poll(2) reports POLLERR until the error queue is read; libuv gives up on
    that."""

    class Logging(Numbers):
        def error_received(self, exc: Exception) -> None:
            errors.append(exc)

    errors: list[Exception] = []

    async def work() -> None:
        with peer() as there:
            transport, protocol = await ringmsg.aio.create_datagram_endpoint(
                Logging, remote_addr=there.getsockname()
            )
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
            there.connect(there.getsockname())
            transport.sendto(b"to nobody")
            await until(lambda: errors)
            there.connect(name(transport))
            for number in range(10):
                there.send(b"%d" % number)
                await until(lambda: len(protocol.got) == number + 1)
            transport.sendto(b"answer")
            assert there.recv(10) == b"answer"
            transport.close()
            await protocol.lost

    run(work(), loop_kind)
    assert isinstance(errors[0], ConnectionRefusedError)


def test_ipv6_and_unix_bursts(tmp_path: Any) -> None:
    class Sources(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.got: list[Any] = []

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.got.append((data, addr))

    async def work(family: int, here: Any, there: Any) -> None:
        transport, protocol = await ringmsg.aio.create_datagram_endpoint(
            Sources, local_addr=here, family=family
        )
        with socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.bind(there)
            sender.setblocking(False)
            wanted = []
            for number in range(1000):
                data = b"%d" % number
                sender.sendto(data, name(transport))
                wanted.append((data, sender.getsockname()))
                if number % 8 == 7:
                    await until(lambda: len(protocol.got) == number + 1)
            assert protocol.got == wanted
        transport.close()

    run(work(socket.AF_INET6, ("::1", 0), ("::1", 0)))
    run(work(socket.AF_UNIX, f"{tmp_path}/here", f"{tmp_path}/there"))


@pytest.mark.parametrize("loop_kind", LOOPS)
def test_a_child_hands_over_nothing_of_its_parents(loop_kind: str) -> None:
    """A callback may fork, and the child may leave it by an exception. What the parent has received and
    gathered is the parent's: asyncio's child had neither, since datagrams are read one by one there."""

    class Forking(Numbers):
        child = 0

        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.sendto(data, addr)
            if data == b"20":
                self.child = os.fork()
                if not self.child:
                    raise SystemExit

    async def work() -> Any:
        transport, protocol, sender = await in_bursts(Forking)
        while select.select([sender], [], [], 0)[0]:
            sender.recv(9)
        send_many(sender, name(transport), 40)
        await until(lambda: len(protocol.got) >= 40)
        os.waitpid(protocol.child, 0)
        await asyncio.sleep(0)
        answers = []
        while select.select([sender], [], [], 0.05)[0]:
            answers.append(int(sender.recv(9)))
        transport.close()
        assert protocol.got == list(range(40)) == answers

    parent = os.getpid()
    try:
        run(work(), loop_kind)
    finally:
        if os.getpid() != parent:
            os._exit(0)


def test_other_families_are_read_by_the_sockets_own_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their addresses are not known here, so they must be those that socket gives, in bursts, too. (Here
    IPv4 stands for such a family.)"""
    monkeypatch.setattr("ringmsg._endpoint.FAMILIES", set())

    async def work() -> None:
        transport, protocol = await ringmsg.aio.create_datagram_endpoint(Numbers, local_addr=("127.0.0.1", 0))
        sender = peer()
        for _ in range(8):
            send_many(sender, name(transport), 64)
            await until(lambda: not select.select([transport.get_extra_info("socket")], [], [], 0)[0])
            assert not is_bursting(transport)
        assert len(protocol.got) == 512
        transport.close()
        sender.close()

    run(work())
