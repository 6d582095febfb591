"""CPU time of a bulk transfer by aioquic, unmodified, on the asyncio endpoint: ours beside the loop's
own.

    make bench-quic [BENCH_QUIC="--rounds 5"]
    tests/clients/python.sh bench [--rounds N] [--megabytes N] [--json FILE]

A client process fetches a file over HTTP/3 from a server process, on loopback, without loss. Both use
the same kind of endpoint; CPU time, kernel and user, counts from the request to the last byte, on each
side. *max_size = 65536* is asyncio's own with the smaller buffer. Kinds are measured in turn; a ratio
is the median of the ratios within a round, with quartiles.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import ssl
import subprocess
import sys
import tempfile
import time
from typing import Any

import http3  # of tests/clients/python, which the environment has in its path
from aioquic.asyncio import connect, serve
from aioquic.h3.connection import H3_ALPN
from aioquic.quic.configuration import QuicConfiguration
from cryptography.hazmat.primitives import serialization
from table import show

import ringmsg
import ringmsg.aio

OWN, SMALL, OURS = KINDS = "asyncio's own", "max_size = 65536", "ringmsg"


def use(kind: str) -> None:
    """The running loop makes endpoints of that kind."""
    loop = asyncio.get_running_loop()
    if kind == OURS:
        ringmsg.aio.install(loop)
    elif kind == SMALL:
        own = loop.create_datagram_endpoint

        async def create(*arguments: Any, **options: Any) -> Any:
            transport, protocol = await own(*arguments, **options)
            transport.max_size = 65536  # type: ignore[attr-defined]
            return transport, protocol

        loop.create_datagram_endpoint = create  # type: ignore[method-assign]


class Server(http3.Server):
    """Notes when the first request came."""

    started = 0

    async def send(self, stream: int) -> None:
        Server.started = time.process_time_ns()
        await super().send(stream)


async def run_server(kind: str) -> None:
    """Serves until its input ends; prints its port, then its CPU time."""
    use(kind)
    configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
    made, key = http3.certificate()
    with tempfile.NamedTemporaryFile(suffix=".pem") as pem:
        private = serialization.NoEncryption()
        pem.write(made.public_bytes(serialization.Encoding.PEM))
        pem.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, private))
        pem.flush()
        configuration.load_cert_chain(pem.name, pem.name)
    server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=Server)
    print(server._transport.get_extra_info("sockname")[1], flush=True)  # type: ignore[attr-defined]
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print(time.process_time_ns() - Server.started, flush=True)
    server.close()
    await asyncio.sleep(0)


async def run_client(kind: str, port: int) -> None:
    """Fetches the file; prints its CPU time."""
    use(kind)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, verify_mode=ssl.CERT_NONE)
    async with connect(
        "127.0.0.1", port, configuration=configuration, create_protocol=http3.Client
    ) as client:
        start = time.process_time_ns()
        received, _ = await client.fetch()  # type: ignore[attr-defined]
        print(time.process_time_ns() - start, flush=True)
        assert received == http3.SIZE, received


def transfer(kind: str, megabytes: int) -> tuple[int, int]:
    """CPU time of one transfer: the server's and the client's, in ns."""
    command = [sys.executable, __file__, "--megabytes", str(megabytes), "--kind", kind]
    server = subprocess.Popen(
        [*command, "--side", "server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with server:
        assert server.stdin is not None and server.stdout is not None
        port = server.stdout.readline().strip()
        fetched = subprocess.run(
            [*command, "--side", "client", "--port", port], stdout=subprocess.PIPE, text=True, check=True
        )
        server.stdin.close()
        return int(server.stdout.read()), int(fetched.stdout)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--megabytes", type=int, default=10)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--side", choices=("server", "client"), help=argparse.SUPPRESS)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    http3.SIZE = given.megabytes * 1_000_000
    if given.side:
        asyncio.run(run_server(given.kind) if given.side == "server" else run_client(given.kind, given.port))
        return
    print(
        f"ringmsg {ringmsg.version()}, Python {platform.python_version()}, Linux {platform.release()}; "
        f"aioquic, {given.megabytes} MB, CPU per kB"
    )
    sides = ("server", "client", "both")
    rows: dict[str, dict[str, list[float]]] = {side: {kind: [] for kind in KINDS} for side in sides}
    for number in range(given.rounds + 1):
        for kind in KINDS:
            server, client = transfer(kind, given.megabytes)
            if number:
                for side, spent in zip(sides, (server, client, server + client)):
                    rows[side][kind].append(spent / given.megabytes / 1000)
    results: dict[str, Any] = {}
    for side in sides:
        show(side, rows[side], OURS, results)
    if given.json:
        with open(given.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
