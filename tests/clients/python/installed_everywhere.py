"""A pytest plugin, and a module for programs: every event loop that is made gets
``ringmsg.aio.install()``. Counts the endpoints, so that a run in which nothing was redirected does
not pass for a good one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import ringmsg.aio
import uvloop
from ringmsg import _endpoint


class Policy(asyncio.DefaultEventLoopPolicy):
    """asyncio's own, but for that."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().new_event_loop()
        ringmsg.aio.install(loop)
        return loop


def installing(make: Callable[[], asyncio.AbstractEventLoop]) -> Callable[[], asyncio.AbstractEventLoop]:
    """The same for uvloop."""

    def made() -> asyncio.AbstractEventLoop:
        loop = make()
        ringmsg.aio.install(loop)
        return loop

    return made


class Counter:
    """How many endpoints were ours."""

    endpoints = 0


def count_endpoints() -> None:
    """Counts from now on, and tells when the process ends."""
    original = _endpoint.DatagramTransport.__init__

    def counted(self: Any, *arguments: Any, **options: Any) -> None:
        Counter.endpoints += 1
        original(self, *arguments, **options)
        if "RINGMSG_ENDPOINTS_FILE" in os.environ:
            with open(os.environ["RINGMSG_ENDPOINTS_FILE"], "a") as file:
                file.write(".")

    _endpoint.DatagramTransport.__init__ = counted  # type: ignore[method-assign]


asyncio.set_event_loop_policy(Policy())
uvloop.new_event_loop = installing(uvloop.new_event_loop)
count_endpoints()
