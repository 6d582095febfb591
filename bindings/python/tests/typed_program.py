"""A program as a user writes it, for the type checkers: mypy --strict and basedpyright in strict mode find
nothing in it. (Nothing runs it.)"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import ringmsg
import ringmsg.aio
from ringmsg import Batch, Datagram, Meta, Receiver, Sender


def serve(sock: socket.socket) -> int:
    total = 0
    with Receiver(sock, metadata=Meta.SOURCE | Meta.TRAFFIC_CLASS, buffers=64) as rx:
        for batch in rx:
            for datagram in batch:
                total += len(datagram.payload)
                host: Any = datagram.source
                ecn: int | None = datagram.ecn
                print(host, ecn, bytes(datagram.payload[:3]))
            first: Datagram = batch[0]
            some: list[Datagram] = batch[1:3]
            for payload, source in batch.messages():
                data: bytes = payload
                print(data, source, first, some)
            batch.reply([b"x"] * len(batch))
            kept: Batch = batch.keep()
            kept.release()
            print(rx.stats.datagrams, batch.records["payload_length"].sum())
    with Sender(sock) as sender:
        count: int = sender.send(
            [(b"a", ("127.0.0.1", 1)), ringmsg.Message(b"b", ("127.0.0.1", 2), ecn=1)], wait=True
        )
        for index, error in sender.errors.items():
            print(index + 1, error.errno, count)
    return total


class Echo(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.DatagramTransport)
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self.transport.sendto(data, addr)


async def main() -> None:
    transport, protocol = await ringmsg.aio.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    echo: Echo = protocol
    plain: asyncio.DatagramTransport = transport
    transport.pause_reading()
    transport.sendto(b"x", ("127.0.0.1", 9))
    async with ringmsg.aio.AsyncReceiver(transport.get_extra_info("socket")) as rx:
        async for batch in rx:
            batch.payloads().sort()
        one: Batch = await rx.reap(1.0)
    ringmsg.aio.install(asyncio.get_running_loop())
    print(echo, plain, one)
