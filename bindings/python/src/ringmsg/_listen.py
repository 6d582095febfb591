"""``python -m ringmsg listen HOST:PORT``: shows datagrams as they arrive."""

from __future__ import annotations

import argparse
import functools
import operator
import socket
import time
from typing import TextIO

from . import Datagram, Meta, Receiver, strerror

NAMES = {name.lower().replace("_", "-"): flag for name, flag in Meta.__members__.items()}
DIM, BOLD, RED, PLAIN = "\x1b[2m", "\x1b[1m", "\x1b[31m", "\x1b[0m"
# What "all" leaves out: it needs privileges, another request, a new kernel, or IPv6.
SPECIAL = Meta.MARK | Meta.SOCKET_ERROR | Meta.OFFENDER | Meta.PRIORITY | Meta.FLOW_LABEL


def listen(given: argparse.Namespace, out: TextIO) -> int:
    """Prints datagrams until the time is over, the count is reached, or Ctrl-C."""
    with (
        open_socket(given.address) as sock,
        Receiver(sock, metadata=wanted(given.metadata, given.gro, sock.family), mode=given.mode) as rx,
    ):
        listener = Listener(rx, out, given.quiet)
        host, port = sock.getsockname()[:2]
        print(f"listening on {host} port {port}, mode {given.mode}", file=out, flush=True)
        end = None if given.seconds is None else time.monotonic() + given.seconds
        while (given.count is None or listener.datagrams < given.count) and (
            end is None or time.monotonic() < end
        ):
            left = 1.0 if end is None else min(1.0, max(0.0, end - time.monotonic()))
            for datagram in rx.reap(min(left, listener.left())):
                listener.show(datagram)
                if given.count is not None and listener.datagrams >= given.count:
                    break
            listener.tick()
        listener.tick(last=True)
    return 0


def open_socket(address: str) -> socket.socket:
    """A socket bound to HOST:PORT."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError(f"{address!r} is not HOST:PORT")
    found = socket.getaddrinfo(
        host.strip("[]") or None, int(port), type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, name = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        sock.bind(name)
    except BaseException:
        sock.close()
        raise
    return sock


def wanted(text: str, gro: bool, family: int) -> Meta:
    """The flags that ``--metadata`` and ``--gro`` name."""
    flags = Meta.SOURCE | Meta.DROPPED
    for name in filter(None, text.replace(",", " ").split()):
        if name == "all":
            flags |= functools.reduce(operator.or_, Meta) & ~(SPECIAL | Meta.SEGMENT_SIZE)
            if family == socket.AF_INET6:
                flags |= Meta.FLOW_LABEL
        elif name in NAMES:
            flags |= NAMES[name]
        else:
            raise ValueError(f"there is no metadata {name!r}; choose all, or of {', '.join(NAMES)}")
    return flags | (Meta.SEGMENT_SIZE if gro else Meta(0))


class Listener:
    """Prints datagrams, and a line each second."""

    def __init__(self, rx: Receiver, out: TextIO, quiet: bool) -> None:
        self.rx, self.out, self.quiet = rx, out, quiet
        self.color = out.isatty()
        self.datagrams = 0
        self.since = time.monotonic()
        self.before = rx.stats

    def left(self) -> float:
        """Seconds to the next line."""
        return max(0.0, self.since + 1 - time.monotonic())

    def show(self, datagram: Datagram) -> None:
        """One line for a datagram."""
        if datagram.error:
            self.say(f"error: {strerror(datagram.error)}", RED)
            return
        self.datagrams += 1
        if self.quiet:
            return
        source = "unknown" if datagram.source is None else " port ".join(map(str, datagram.source[:2]))
        payload = bytes(datagram.payload[:48])
        more = "..." if len(datagram.payload) > len(payload) else ""
        self.say(f"{source}: {len(datagram.payload)} bytes {payload!r}{more}{self.details(datagram)}", "")

    def details(self, datagram: Datagram) -> str:
        """The metadata that came."""
        parts = []
        for name in (
            "destination interface_index ecn traffic_class hop_limit timestamp_ns "
            "hardware_timestamp_ns segment_size dropped flow_label mark"
        ).split():
            value = getattr(datagram, name)
            if value is not None:
                text = " port ".join(map(str, value[:2])) if name == "destination" else value
                parts.append(f"{name}={text}")
        if datagram.truncated:
            parts.append(f"truncated from {datagram.wire_length}")
        text = "".join(f"  {part}" for part in parts)
        return f"{DIM}{text}{PLAIN}" if text and self.color else text

    def tick(self, last: bool = False) -> None:
        """The line of the second, when it is time."""
        elapsed = time.monotonic() - self.since
        if elapsed < 1 and not last:
            return
        now, before = self.rx.stats, self.before
        datagrams, reaps = now.datagrams - before.datagrams, max(1, now.reaps - before.reaps)
        drops = now.socket_drops - before.socket_drops
        elapsed = max(elapsed, 1e-9)
        megabits = (now.payload_bytes - before.payload_bytes) * 8e-6 / elapsed
        self.say(
            f"{datagrams / elapsed:,.0f} datagrams/s  {megabits:,.1f} Mbit/s  "
            f"{datagrams / reaps:.1f} per reap  {drops} dropped",
            RED if drops else BOLD,
        )
        self.since, self.before = time.monotonic(), now

    def say(self, text: str, color: str) -> None:
        """Prints a line, in color on a terminal."""
        print(f"{color}{text}{PLAIN}" if self.color and color else text, file=self.out, flush=True)
