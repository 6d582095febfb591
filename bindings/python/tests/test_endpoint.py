"""The datagram endpoint: the table of behaviours beside asyncio's and uvloop's own; loops, threads,
limits."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import subprocess
import sys
import threading
from typing import Any

import pytest
import scenarios
import scenarios_sending
from endpoints import LOOPS, Numbers, in_bursts, run, send_many, until
from scenarios import name

import ringmsg.aio

assert scenarios_sending.SENDING <= set(scenarios.SCENARIOS)


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
    if "pausing" in which and sys.version_info < (3, 11):
        pytest.skip("asyncio's own endpoint cannot pause before Python 3.11")
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
