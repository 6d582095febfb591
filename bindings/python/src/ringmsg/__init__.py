"""ringmsg: receive datagrams in batches, with io_uring.

    with ringmsg.Receiver(sock) as rx:
        for batch in rx:
            for datagram in batch:
                handle(datagram.payload, datagram.source)

``Receiver`` for threads, ``ringmsg.aio`` for asyncio, ``Ring`` and ``Pool`` for full control.
``python -m ringmsg`` prints what this machine supports.
"""

from __future__ import annotations

from ._core import Stats
from ._options import socket_disable, socket_enable
from ._support import Support, describe_support, query_support, version
from .batch import Batch
from .datagram import Datagram, QueuedError
from .errors import strerror
from .flags import Engine, Feature, Meta, RecordFlag, RecvFlag, Setup
from .receiver import DEFAULT_METADATA, Receiver
from .ring import Pool, Ring, RingInfo
from .sender import Message, Sender, SenderStats

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_METADATA",
    "Batch",
    "Datagram",
    "Engine",
    "Feature",
    "Message",
    "Meta",
    "Pool",
    "QueuedError",
    "Receiver",
    "RecordFlag",
    "RecvFlag",
    "Ring",
    "RingInfo",
    "Sender",
    "SenderStats",
    "Setup",
    "Stats",
    "Support",
    "describe_support",
    "query_support",
    "socket_disable",
    "socket_enable",
    "strerror",
    "version",
]
