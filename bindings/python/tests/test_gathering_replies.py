"""The endpoint's ``reply_from_destination``: answers leave from the address that was asked."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from endpoints import LOOPS, run, until
from gathering import Recording, arrived, endpoint, numbers, send_turn
from scenarios import name, peer

pytestmark = [pytest.mark.usefixtures("patient"), pytest.mark.parametrize("loop_kind", LOOPS)]


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
