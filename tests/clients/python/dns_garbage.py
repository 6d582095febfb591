"""A name server on dnslib, which raises on what is no DNS message, is sent garbage beside the
queries of dnspython's client: every query is answered, and every exception is reported once.

    dns_garbage.py own|ringmsg
"""

from __future__ import annotations

import asyncio
import random
import sys
from typing import Any

import dns.asyncquery
import dns.message
import dnslib

QUERIES, GARBAGE = 300, 300


class NameServer(asyncio.DatagramProtocol):
    """Answers every question for an A record."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        request = dnslib.DNSRecord.parse(data)  # raises
        reply = request.reply()
        reply.add_answer(dnslib.RR(request.q.qname, rdata=dnslib.A("192.0.2.7"), ttl=60))
        self.transport.sendto(reply.pack(), addr)


async def main() -> None:
    """Prints how many were answered, and how many exceptions were seen."""
    loop, exceptions = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: exceptions.append(type(context["exception"]).__name__))
    server, _ = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    port = server.get_extra_info("sockname")[1]
    vandal, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=("127.0.0.1", port))
    chance = random.Random(7)
    unparsable = 0

    async def ask(number: int) -> bool:
        query = dns.message.make_query(f"host{number}.example.", "A")
        answer = await dns.asyncquery.udp(query, "127.0.0.1", port=port, timeout=10)
        return bool(answer.answer[0][0].address == "192.0.2.7")

    answered = 0
    for start in range(0, QUERIES, 30):
        for _ in range(GARBAGE * 30 // QUERIES):
            junk = chance.randbytes(chance.randrange(1, 12))  # shorter than a header
            unparsable += 1
            vandal.sendto(junk)
        answered += sum(await asyncio.gather(*(ask(number) for number in range(start, start + 30))))
    await asyncio.sleep(0.05)
    print(
        f"{answered} of {QUERIES} answered, "
        f"{len(exceptions)} of {unparsable} exceptions: {sorted(set(exceptions))}"
    )
    vandal.close()
    server.close()
    await asyncio.sleep(0.05)


if __name__ == "__main__":
    if sys.argv[1] == "ringmsg":
        import installed_everywhere
    asyncio.run(main())
    if sys.argv[1] == "ringmsg":
        assert installed_everywhere.Counter.endpoints > 0
