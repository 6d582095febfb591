"""The relay cells: clients on one side of a relay program, a server on the other, both in this
process. Everything that crosses the relay, in both directions, is checked and counted."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import responders
from cells import Regime, Row

FLOWS, SIZE, FILL = 200, 1200, 4000
HEAD = struct.Struct("=QII")  # the number of a datagram, its flow, its direction
BODY = bytes((7 * i + (i >> 8)) % 256 for i in range(SIZE - HEAD.size))
TO_SERVER, TO_CLIENT = 0, 1
BUFFER = 64 << 20
SO_RCVBUFFORCE, SO_SNDBUFFORCE, IP_PKTINFO, UDP_SEGMENT = 33, 32, 8, 103
SILENCE = 2.0  # what has not come within this many seconds is lost

# How many datagrams a flow sends in a row; more than one leave as one UDP_SEGMENT train.
TRAINS = {"udp-relay": 1, "udp-relay-trains": 10}


class Failed(Exception):
    """A datagram was lost, or changed, or came to another peer."""


def open_socket(address: str) -> socket.socket:
    """A socket with buffers for everything that is under way."""
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for option in (SO_RCVBUFFORCE, SO_SNDBUFFORCE):
        one.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    one.bind((address, 0))
    return one


def client_address(flow: int) -> bytes:
    """Each client has an address of 127.0.0.0/8 on a socket that all of them share."""
    return bytes([127, 1, flow >> 8, flow & 255])


@dataclass
class Peers:
    """The clients, and the server."""

    train: int
    near: socket.socket = field(default_factory=lambda: open_socket("0.0.0.0"))
    far: socket.socket = field(default_factory=lambda: open_socket("127.0.0.1"))
    relay: tuple[str, int] = ("127.0.0.1", 0)
    sent: int = 0
    came: int = 0
    last: dict[tuple[int, int], int] = field(default_factory=dict)  # of a flow and direction
    sides: dict[int, tuple[str, int]] = field(default_factory=dict)  # the relay's address for a flow

    def __post_init__(self) -> None:
        self.near.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self.near.setblocking(False)
        self.far.setblocking(False)

    def close(self) -> None:
        self.near.close()
        self.far.close()

    def send(self, flow: int, direction: int, count: int) -> None:
        """This many datagrams of a flow, in one message."""
        payload = b""
        for _ in range(count):
            self.sent += 1
            payload += HEAD.pack(self.sent, flow, direction) + BODY
        control = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("=H", SIZE))] if count > 1 else []
        if direction == TO_SERVER:
            control.append((socket.IPPROTO_IP, IP_PKTINFO, struct.pack("=I4s4x", 0, client_address(flow))))
            self.near.sendmsg([payload], control, 0, self.relay)
        else:
            self.far.sendmsg([payload], control, 0, self.sides[flow])

    def fill(self, direction: int, count: int) -> None:
        """Datagrams of all flows in turn."""
        for number in range(count // self.train):
            self.send(number % FLOWS, direction, self.train)

    def take(self, direction: int) -> bool:
        """Takes one datagram and checks it; False if there is none."""
        here = self.far if direction == TO_SERVER else self.near
        try:
            payload, control, _, source = here.recvmsg(2 * SIZE, 64)
        except BlockingIOError:
            return False
        if len(payload) != SIZE:
            raise Failed(f"{len(payload)} bytes")
        number, flow, sent_to = HEAD.unpack_from(payload)
        if payload[HEAD.size:] != BODY or sent_to != direction:
            raise Failed("bytes")
        if number <= self.last.get((flow, direction), 0):
            raise Failed("order")
        if direction == TO_SERVER and self.sides.setdefault(flow, source) != source:
            raise Failed("a flow changes its socket")
        if direction == TO_CLIENT and control[0][2][8:12] != client_address(flow):
            raise Failed("came to another client")
        self.last[flow, direction] = number
        self.came += 1
        return True

    def finish(self) -> None:
        """Takes everything that is under way."""
        end = time.monotonic() + SILENCE
        while self.came < self.sent:
            some = [self.take(TO_SERVER) | self.take(TO_CLIENT) for _ in range(64)]
            if any(some):
                end = time.monotonic() + SILENCE
            elif time.monotonic() > end:
                raise Failed(f"{self.sent - self.came} of {self.sent} datagrams did not come")
        if len(set(self.sides.values())) != len(self.sides):
            raise Failed("flows share a socket")


@contextlib.contextmanager
def relay(program: Path, peers: Peers) -> Iterator[subprocess.Popen[str]]:
    """Runs a relay on processor 0, and this process on another if there is one."""
    before = os.sched_getaffinity(0)
    words = ["taskset", "-c", "0", str(program), "127.0.0.1", "0", "127.0.0.1", str(peers.far.getsockname()[1])]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        os.sched_setaffinity(0, before - {0} or before)
        said = process.stdout.readline().split()
        if len(said) != 2:
            raise Failed("the relay does not start")
        peers.relay = ("127.0.0.1", int(said[1]))
        yield process
    finally:
        os.sched_setaffinity(0, before)
        process.kill()
        process.communicate()


def rounds(process: subprocess.Popen[str], peers: Peers, seconds: float) -> dict[str, Any]:
    """Queues datagrams in both directions while the relay is stopped, and continues it; until it
    has run this long."""
    tasks, kernel = responders.threads_of(process.pid), responders.softirq()
    peers.fill(TO_SERVER, FLOWS * peers.train)  # makes the flows
    peers.finish()
    used = deferred = slept = busy = 0.0
    begun = peers.sent
    while busy < seconds:
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        for direction in (TO_SERVER, TO_CLIENT):
            peers.fill(direction, FILL)
        before = responders.cpu_ns(tasks), responders.cpu_ns(kernel), responders.waits(tasks), time.monotonic()
        process.send_signal(signal.SIGCONT)
        peers.finish()
        used += responders.cpu_ns(tasks) - before[0]
        deferred += responders.cpu_ns(kernel) - before[1]
        slept += responders.waits(tasks) - before[2]
        busy += time.monotonic() - before[3]
    sent = peers.sent - begun
    return {"cpu_ns": (used + deferred) / sent, "softirq_ns": deferred / sent, "per_wait": sent / max(slept, 1),
            "cpu_share": (used + deferred) / 1e9 / busy, "sent": sent, "received": sent, "seconds": busy}


def run_once(programs: Path, regime: Regime, row: Row, seconds: float) -> dict[str, Any]:
    """Runs one cell once, as measure.run_once does."""
    where = programs.parent / "examples" if row.program == "udp_relay" else programs
    try:
        peers = Peers(TRAINS[regime.name])
    except PermissionError:
        return {"not_supported": "socket buffers that hold thousands of datagrams take CAP_NET_ADMIN"}
    try:
        with relay(where / row.program, peers) as process:
            return rounds(process, peers, seconds)
    except Failed as failure:
        return {"error": str(failure)}
    finally:
        peers.close()
