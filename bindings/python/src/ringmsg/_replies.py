"""From which address an endpoint on a wildcard socket answers: the one that the peer last asked."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from . import _abi, _paths
from ._core import Slab
from .flags import PathFlag

# Two generations of peers are remembered, with at most this many in each.
_MOST = 8192
_IP_PKTINFO, _IPV6_PKTINFO = 8, 50
_PKTINFO4, _PKTINFO6 = struct.Struct("=I4s4s"), struct.Struct("=16sI")
# What a send says when its source address is gone from the host.
GONE = {errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENETUNREACH, errno.EHOSTUNREACH}


class Reply(NamedTuple):
    """How an answer leaves."""

    path: bytes
    control: list[tuple[int, int, bytes]]
    """The same for ``socket.sendmsg``."""


class Replies:
    """Which address each peer asked last."""

    def __init__(self) -> None:
        self._peers: dict[Any, Reply] = {}
        self._peers_before: dict[Any, Reply] = {}
        self._replies: dict[Any, Reply | None] = {}

    def of_metadata(self, slab: Slab, count: int) -> list[Reply | None]:
        """How the datagrams that these metadata describe are to be answered; None: nothing is known.
        To be read before the slab is filled again."""
        known, address = self._replies, slab.metadata_address
        assert address is not None
        if len(known) >= _MOST:
            known.clear()
        replies = []
        for position, row in enumerate(_paths.rows(slab.metadata_view, count)):
            if row not in known:
                known[row] = _reply(address + position * _abi.METADATA_SIZE)
            replies.append(known[row])
        return replies

    def remember(self, peer: Any, reply: Reply | None) -> bool:
        """The peer has asked. Whether it is to be answered otherwise than before."""
        before = self._peers.get(peer)
        if before is reply:
            return False
        if reply is None:
            return self.forget(peer)
        if len(self._peers) >= _MOST:
            self._peers_before, self._peers = self._peers, {}
        self._peers[peer] = reply
        return True

    def get(self, peer: Any) -> Reply | None:
        """How the peer is to be answered; None: as the kernel chooses."""
        try:
            return self._peers.get(peer) or self._peers_before.get(peer)
        except TypeError:  # not hashable: no peer
            return None

    def forget(self, peer: Any) -> bool:
        """The address that the peer asked is gone. Whether there was one."""
        known = self.get(peer) is not None
        self._peers.pop(peer, None)
        self._peers_before.pop(peer, None)
        return known


def _reply(metadata: int) -> Reply | None:
    path = _paths.reply(metadata)
    if path is None:
        return None
    fields = _abi.Path.from_buffer_copy(path)
    if not fields.valid & (PathFlag.LOCAL | PathFlag.INTERFACE):
        return None
    local = bytes(fields.local)
    interface = fields.interface_index if fields.valid & PathFlag.INTERFACE else 0
    if fields.family == socket.AF_INET:
        control = (socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO4.pack(interface, local[:4], bytes(4)))
    elif bytes(fields.remote)[:12] == bytes(10) + b"\xff\xff":
        control = (socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO4.pack(interface, local[12:], bytes(4)))
    else:
        control = (socket.IPPROTO_IPV6, _IPV6_PKTINFO, _PKTINFO6.pack(local, interface))
    return Reply(path, [control])


def is_wildcard(name: Any) -> bool:
    """Whether a socket with this name is bound to the wildcard address."""
    return isinstance(name, tuple) and name[0] in ("0.0.0.0", "::")


def remembered(pairs: Iterator[Any], replies: list[Reply | None], remember: Any) -> Iterator[Any]:
    """Pairs of data and peer; each is remembered when its turn comes, since one burst may have
    datagrams of one peer to several addresses."""
    for pair, reply in zip(pairs, replies):
        remember(pair[1], reply)
        yield pair
