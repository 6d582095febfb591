"""What tests/emulated.sh runs by an emulated Python of another architecture: the package as the wheel
has it receives, answers and serves an asyncio endpoint. It prints what it runs on."""

from __future__ import annotations

import asyncio
import platform
import socket
import sys
from typing import Any

import ringmsg
import ringmsg.aio
from ringmsg import Engine, Meta

# qemu-user has these.
METADATA = Meta.SOURCE | Meta.DESTINATION | Meta.HOP_LIMIT
SENT = [b"%02d" % number for number in range(40)]


def receive() -> None:
    """Objects, owned data, answers."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer,
    ):
        sock.bind(("127.0.0.1", 0))
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(20)
        peer.connect(sock.getsockname())
        with ringmsg.Receiver(sock) as rx:
            peer.send(b"by default")
            assert list(rx.reap(20).messages()) == [(b"by default", peer.getsockname())]
        with ringmsg.Receiver(sock, metadata=METADATA) as rx:
            assert rx.info.engine is Engine.RECVMMSG, "an emulator without io_uring"
            for payload in SENT:
                peer.send(payload)
            got: list[Any] = []
            while len(got) < len(SENT):
                batch = rx.reap(20)
                got += [(bytes(d.payload), d.source, d.destination[0], d.hop_limit) for d in batch]
                assert [payload for payload, _ in batch.messages()] == [
                    part[0] for part in got[-len(batch) :]
                ]
                assert batch.reply(batch.payloads()) == len(batch)
            assert got == [(payload, peer.getsockname(), "127.0.0.1", 64) for payload in SENT]
            assert [peer.recv(10) for _ in SENT] == SENT


class Echo(asyncio.DatagramProtocol):
    """Answers."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


async def serve() -> None:
    """The endpoint, alone and in bursts."""
    loop = asyncio.get_running_loop()
    transport, _ = await ringmsg.aio.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.setblocking(False)
        peer.connect(transport.get_extra_info("sockname"))
        for _ in range(4):
            for payload in SENT:
                peer.send(payload)
            assert [await asyncio.wait_for(loop.sock_recv(peer, 10), 20) for _ in SENT] == SENT
    transport.close()
    await asyncio.sleep(0)


if __name__ == "__main__":
    assert platform.machine() == sys.argv[1], platform.machine()
    receive()
    asyncio.run(serve())
    print(f"ok: {platform.machine()}, Python {platform.python_version()}, glibc {platform.libc_ver()[1]}")
