"""``python -m ringmsg``: what this machine supports, and why.
``python -m ringmsg listen HOST:PORT``: shows datagrams as they arrive.
``python -m ringmsg watch HOST:PORT``: a live table of rates, batch sizes, drops and costs.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from typing import TextIO

from . import Meta, Receiver, _watch, describe_support, version
from ._abi import lib
from ._arguments import MODES
from ._listen import NAMES, listen, open_socket


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ringmsg", description="Receive messages with io_uring.")
    parser.add_argument("--version", action="version", version=f"ringmsg {version()} ({lib.path})")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("support", help="what this machine supports, and why (the default)")
    listen_parser = commands.add_parser("listen", help="show datagrams as they arrive")
    watch_parser = commands.add_parser(
        "watch", help="a live table: rate, batch sizes, drops, starvation, CPU, ECN"
    )
    for each in (listen_parser, watch_parser):
        each.add_argument("address", metavar="HOST:PORT", help="127.0.0.1:9999, [::1]:9999")
        each.add_argument(
            "--gro", action="store_true", help="let the kernel join datagrams into trains (UDP_GRO)"
        )
        each.add_argument("--mode", default="auto", choices=list(MODES))
        each.add_argument("--seconds", type=seconds, help="stop after this many seconds")
    listen_parser.add_argument(
        "--metadata", default="", metavar="LIST", help=f"all, or of: {', '.join(NAMES)}"
    )
    listen_parser.add_argument("--count", type=count, help="stop after this many datagrams")
    listen_parser.add_argument("--quiet", action="store_true", help="only the line of each second")
    watch_parser.add_argument(
        "--interval", type=interval, default=1.0, metavar="SECONDS", help="draw so often"
    )
    return parser.parse_args(arguments)


def seconds(text: str) -> float:
    """A time that an option gives."""
    value = float(text)
    if not value >= 0:
        raise ValueError
    return value


def interval(text: str) -> float:
    """A time between two tables."""
    value = float(text)
    if not 0.01 <= value < threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds, at least 0.01")
    return value


def count(text: str) -> int:
    """How many datagrams an option asks for."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    given = parse(arguments)
    if sys.stdout is None:
        print("ringmsg: the standard output is closed", file=sys.stderr)
        return 1
    try:
        if given.command == "listen":
            return listen(given, sys.stdout)
        if given.command == "watch":
            return watch(given, sys.stdout)
        print(describe_support().rstrip(), flush=True)
        return 0
    except BrokenPipeError:
        # The reader of our output has exited, as head does. The interpreter must not flush to it
        # again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (OSError, ValueError) as error:
        print(f"ringmsg: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def watch(given: argparse.Namespace, out: TextIO) -> int:
    """Shows a live table until the time is over, or Ctrl-C."""
    metadata = _watch.METADATA | (Meta.SEGMENT_SIZE if given.gro else Meta(0))
    with open_socket(given.address) as sock, Receiver(sock, metadata=metadata, mode=given.mode) as rx:
        rx.reap(0)
        host, port = sock.getsockname()[:2]
        engine = rx.info.engine.name.lower()
        print(f"watching {host} port {port}", file=out, flush=True)
        _watch.run(rx, f"{host} port {port}, {engine}, mode {given.mode}", given.interval, given.seconds, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
