"""The datagram endpoint: the table of behaviours beside asyncio's and uvloop's own, and what bursts
change."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import scenarios
import uvloop
from scenarios import Protocol, name, peer, send_train, settle

import ringmsg.aio
from ringmsg import _options

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
UDP_GRO = (17, 104)
SENDERS: list[socket.socket] = []


@pytest.fixture(autouse=True)
def close_senders() -> Iterator[None]:
    yield
    while SENDERS:
        SENDERS.pop().close()


def run(work: Any, loop_kind: str = "asyncio", debug: bool = False) -> Any:
    """Runs a coroutine in a fresh loop, twenty seconds at most."""
    loop = LOOPS[loop_kind]()
    loop.set_debug(debug)
    try:
        return loop.run_until_complete(asyncio.wait_for(work, 20))
    finally:
        loop.close()


def log_of(scenario: Any, loop_kind: str, ours: bool, debug: bool = False) -> list[Any]:
    """What a program sees of a scenario."""

    async def work() -> list[Any]:
        loop, log = asyncio.get_running_loop(), []

        def handler(_: Any, context: dict[str, Any]) -> None:
            log.append(("handler", type(context.get("exception")).__name__))

        loop.set_exception_handler(handler)
        await scenario(ringmsg.aio.create_datagram_endpoint if ours else loop.create_datagram_endpoint, log)
        return log

    return run(work(), loop_kind, debug)  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("debug", [False, True], ids=["", "debug"])
@pytest.mark.parametrize("which", scenarios.SCENARIOS)
def test_as_asyncios_own(which: str, debug: bool) -> None:
    scenario = scenarios.SCENARIOS[which]
    wanted = log_of(scenario, "asyncio", ours=False, debug=debug)
    assert log_of(scenario, "asyncio", ours=True, debug=debug) == wanted
    if which in scenarios.UVLOOP_FOLLOWED:
        uvloops = log_of(scenario, "uvloop", ours=False, debug=debug)
        assert log_of(scenario, "uvloop", ours=True, debug=debug) == uvloops
    else:
        assert log_of(scenario, "uvloop", ours=True, debug=debug) == wanted
    if which not in scenarios.UVLOOP_DIFFERS:
        assert log_of(scenario, "uvloop", ours=False, debug=debug) == wanted
    gc.collect()


# --- bursts --------------------------------------------------------------------------------


def send_many(sender: socket.socket, address: Any, count: int) -> None:
    for number in range(count):
        sender.sendto(b"%d" % number, address)


class Numbers(asyncio.DatagramProtocol):
    """Collects numbers."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.got.append(int(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


async def until(condition: Callable[[], Any]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came about")


async def in_bursts(protocol: Any = Numbers, **arguments: Any) -> tuple[Any, Any, socket.socket]:
    """An endpoint that has just received a burst in bursts, and a sender."""
    arguments = arguments or {"local_addr": ("127.0.0.1", 0)}
    transport, made = await ringmsg.aio.create_datagram_endpoint(protocol, **arguments)
    sender = peer()
    SENDERS.append(sender)
    while not is_bursting(transport):
        before = len(made.got)
        for _ in range(64):
            sender.sendto(b"777", name(transport))
        await until(lambda: len(made.got) >= before + 64)
    made.got.clear()
    return transport, made, sender


def is_bursting(transport: Any) -> bool:
    return transport._read_other is ringmsg.aio.DatagramTransport._read_burst  # type: ignore[no-any-return]


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
    """With IP_RECVERR poll(2) reports POLLERR until the error queue is read; libuv gives up on that."""

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


# --- loops, threads, limits ----------------------------------------------------------------


def test_a_loop_that_is_continued_in_another_thread() -> None:
    """As programs do that create in main and give the loop to a daemon thread."""
    loop = asyncio.new_event_loop()
    transport, protocol, sender = loop.run_until_complete(in_bursts())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    send_many(sender, name(transport), 100)
    asyncio.run_coroutine_threadsafe(until(lambda: len(protocol.got) == 100), loop).result(10)
    loop.call_soon_threadsafe(transport.close)
    asyncio.run_coroutine_threadsafe(asyncio.wait_for(protocol.lost, 5), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_the_loops_own_calls_are_refused_on_its_descriptor() -> None:
    """They would replace the transport's reader. asyncio refuses them on its own transports too."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await ringmsg.aio.create_datagram_endpoint(Numbers, local_addr=("127.0.0.1", 0))
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(transport.get_extra_info("socket").fileno(), print)
        transport.close()

    run(work())


MANY = """
import asyncio, ringmsg.aio, os, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
async def main():
    before = len(os.listdir("/proc/self/fd"))
    made = [await ringmsg.aio.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("127.0.0.1", 9))
            for _ in range(900)]
    print(len(os.listdir("/proc/self/fd")) - before, len(os.listdir("/proc/self/task")))
    for transport, _ in made: transport.close()
    await asyncio.sleep(0.01)
    print(len(os.listdir("/proc/self/fd")) - before)
asyncio.run(main())
"""


def test_900_endpoints_take_900_descriptors_and_no_thread() -> None:
    done = subprocess.run([sys.executable, "-c", MANY], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["900", "1", "0"], "")
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 1024, "the limits are the child's own"


def test_a_failed_construction_leaves_nothing() -> None:
    """No second traceback from __del__, no descriptor."""
    code = """
import asyncio, ringmsg.aio, os
class Wrong:
    pass
async def main():
    before = len(os.listdir("/proc/self/fd"))
    try:
        await ringmsg.aio.create_datagram_endpoint(Wrong, local_addr=("127.0.0.1", 0))
    except AttributeError as error:
        print(error)
    print(len(os.listdir("/proc/self/fd")) - before)
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["'Wrong' object has no attribute 'connection_made'", "0"]
    assert done.stderr == ""


@pytest.mark.parametrize("loop_kind", LOOPS)
def test_install_and_uninstall(loop_kind: str) -> None:
    async def work() -> None:
        loop = asyncio.get_running_loop()
        ringmsg.aio.uninstall(loop)  # nothing to undo
        ringmsg.aio.install(loop)
        ours, _ = await loop.create_datagram_endpoint(Numbers, local_addr=("127.0.0.1", 0))
        ringmsg.aio.uninstall(loop)
        own, _ = await loop.create_datagram_endpoint(Numbers, local_addr=("127.0.0.1", 0))
        assert isinstance(ours, ringmsg.aio.DatagramTransport)
        assert not isinstance(own, ringmsg.aio.DatagramTransport)
        ours.close()
        own.close()
        await asyncio.sleep(0.01)

    run(work(), loop_kind)


def test_reuse_address_as_the_loop_has_it() -> None:
    async def work(ours: bool, value: bool) -> str:
        loop = asyncio.get_running_loop()
        create: Any = ringmsg.aio.create_datagram_endpoint if ours else loop.create_datagram_endpoint
        try:
            transport, _ = await create(Numbers, local_addr=("127.0.0.1", 0), reuse_address=value)
        except Exception as error:
            return type(error).__name__
        transport.close()
        await asyncio.sleep(0.01)
        return "taken"

    for loop_kind in LOOPS:
        for value in (True, False):
            if (loop_kind, value) == ("uvloop", False):
                with pytest.warns(DeprecationWarning, match="reuse_address"):
                    assert run(work(True, value), loop_kind) == "taken"
            else:
                assert run(work(True, value), loop_kind) == run(work(False, value), loop_kind)


def test_a_forgotten_transport_warns() -> None:
    async def work() -> None:
        transport, _ = await ringmsg.aio.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        await asyncio.sleep(0)
        transport.pause_reading()
        with pytest.warns(ResourceWarning, match="unclosed transport <DatagramTransport fd="):
            del transport, _
            gc.collect()

    run(work())
    assert os.getpid()
