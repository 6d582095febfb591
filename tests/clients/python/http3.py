"""HTTP/3 with aioquic: 50 MB through a relay that loses datagrams and changes its port on the way,
as a NAT does. The digest must be right.

    http3.py own|ringmsg
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import random
import ssl
import sys
import tempfile
from typing import Any

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SIZE, CHUNK = 50_000_000, 250_000
LOSS = 0.002  # both ways
REBINDINGS = 3


def pattern(start: int, length: int) -> bytes:
    """The bytes of the file from there on."""
    block = bytes(range(251))
    offset = start % 251
    return (block * (length // 251 + 2))[offset : offset + length]


class Server(QuicConnectionProtocol):
    """Sends the file to whoever asks."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)

    def quic_event_received(self, event: QuicEvent) -> None:
        for http_event in self.http.handle_event(event):
            if isinstance(http_event, HeadersReceived):
                self.task = asyncio.ensure_future(self.send(http_event.stream_id))

    async def send(self, stream: int) -> None:
        self.http.send_headers(stream, [(b":status", b"200")])
        for start in range(0, SIZE, CHUNK):
            length = min(CHUNK, SIZE - start)
            self.http.send_data(stream, pattern(start, length), end_stream=start + length == SIZE)
            self.transmit()
            while len(self._quic._streams[stream].sender._buffer) > 4 * CHUNK:
                await asyncio.sleep(0.002)


class Client(QuicConnectionProtocol):
    """Asks for it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)
        self.digest, self.received = hashlib.sha256(), 0
        self.done = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event: QuicEvent) -> None:
        for http_event in self.http.handle_event(event):
            self.http_event_received(http_event)

    def http_event_received(self, event: H3Event) -> None:
        if isinstance(event, DataReceived):
            self.digest.update(event.data)
            self.received += len(event.data)
            if event.stream_ended:
                self.done.set_result(None)

    async def fetch(self) -> tuple[int, str]:
        stream = self._quic.get_next_available_stream_id()
        headers = [
            (b":method", b"GET"),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b":path", b"/"),
        ]
        self.http.send_headers(stream, headers, end_stream=True)
        self.transmit()
        await asyncio.wait_for(self.done, 400)
        return self.received, self.digest.hexdigest()


class Relay:
    """Between client and server: loses some, and now and then forwards from another port."""

    def __init__(self, server: Any) -> None:
        self.server, self.client, self.outside = server, None, None
        self.chance = random.Random(3)
        self.lost = self.forwarded = 0

    async def open(self) -> int:
        loop = asyncio.get_running_loop()
        self.inside, _ = await loop.create_datagram_endpoint(
            lambda: Side(self.to_server), local_addr=("127.0.0.1", 0)
        )
        await self.rebind()
        return int(self.inside.get_extra_info("sockname")[1])

    async def rebind(self) -> None:
        loop, before = asyncio.get_running_loop(), self.outside
        self.outside, _ = await loop.create_datagram_endpoint(
            lambda: Side(self.to_client), remote_addr=self.server
        )
        if before is not None:
            before.close()

    def passes(self) -> bool:
        self.forwarded += 1
        if self.chance.random() < LOSS:
            self.lost += 1
            return False
        return True

    def to_server(self, data: bytes, addr: Any) -> None:
        self.client = addr
        if self.passes() and self.outside is not None:
            self.outside.sendto(data)

    def to_client(self, data: bytes, _: Any) -> None:
        if self.passes() and self.client is not None:
            self.inside.sendto(data, self.client)


class Side(asyncio.DatagramProtocol):
    """One side of the relay."""

    def __init__(self, forward: Any) -> None:
        self.datagram_received = forward


def certificate() -> tuple[Any, Any]:
    """For localhost, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made, key


async def main() -> None:
    """Prints what arrived."""
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    made, key = certificate()
    with tempfile.NamedTemporaryFile(suffix=".pem") as pem:
        private = serialization.NoEncryption()
        pem.write(made.public_bytes(serialization.Encoding.PEM))
        pem.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, private))
        pem.flush()
        configuration.load_cert_chain(pem.name, pem.name)
    server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=Server)
    relay = Relay(server._transport.get_extra_info("sockname"))
    port = await relay.open()
    ours = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE)
    async with connect("127.0.0.1", port, configuration=ours, create_protocol=Client) as client:
        fetching = asyncio.ensure_future(client.fetch())  # type: ignore[attr-defined]
        for number in range(REBINDINGS):
            while client.received < SIZE * (number + 1) // (REBINDINGS + 1):  # type: ignore[attr-defined]
                await asyncio.sleep(0.01)
            await relay.rebind()
        received, digest = await fetching
    expected = hashlib.sha256(pattern(0, SIZE)).hexdigest()
    lossy = "some lost" if relay.lost > 20 else f"only {relay.lost} lost"
    right = "digest right" if digest == expected else "DIGEST WRONG"
    print(f"{received} bytes, {right}, {REBINDINGS} rebindings, {lossy}")
    print(f"{relay.forwarded} datagrams, {relay.lost} lost", file=sys.stderr)
    server.close()
    await asyncio.sleep(0.1)


if __name__ == "__main__":
    if sys.argv[1] == "ringmsg":
        import installed_everywhere
    asyncio.run(main())
    if sys.argv[1] == "ringmsg":
        assert installed_everywhere.Counter.endpoints > 0
