"""Socket options: switched on for metadata, and off again."""

from __future__ import annotations

import socket

from . import errors
from ._abi import lib
from ._arguments import descriptor
from .flags import Meta

__all__ = ["Options", "socket_disable", "socket_enable"]

_SO_RXQ_OVFL, _SO_TIMESTAMPING, _SO_RCVMARK, _SO_RCVPRIORITY = 40, 37, 75, 82
SOL_UDP, UDP_GRO = 17, 104
_IP = socket.IPPROTO_IP
_V6 = socket.IPPROTO_IPV6

# Every option that socket_enable may touch, and the control messages it brings.
_OPTIONS: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {
    (_IP, 8): ((_IP, 8),),  # IP_PKTINFO
    (_IP, 11): ((_IP, 11),),  # IP_RECVERR
    (_IP, 12): ((_IP, 2),),  # IP_RECVTTL: IP_TTL
    (_IP, 13): ((_IP, 1),),  # IP_RECVTOS: IP_TOS
    (_IP, 20): ((_IP, 20),),  # IP_RECVORIGDSTADDR
    (_V6, 11): ((_V6, 11),),  # IPV6_FLOWINFO
    (_V6, 25): ((_V6, 25),),  # IPV6_RECVERR
    (_V6, 49): ((_V6, 50),),  # IPV6_RECVPKTINFO: IPV6_PKTINFO
    (_V6, 51): ((_V6, 52),),  # IPV6_RECVHOPLIMIT: IPV6_HOPLIMIT
    (_V6, 66): ((_V6, 67),),  # IPV6_RECVTCLASS: IPV6_TCLASS
    (_V6, 74): ((_V6, 74),),  # IPV6_RECVORIGDSTADDR
    (SOL_UDP, UDP_GRO): ((SOL_UDP, UDP_GRO),),
    (socket.SOL_SOCKET, _SO_RXQ_OVFL): ((socket.SOL_SOCKET, _SO_RXQ_OVFL),),
    (socket.SOL_SOCKET, _SO_TIMESTAMPING): ((socket.SOL_SOCKET, _SO_TIMESTAMPING),),
    (socket.SOL_SOCKET, _SO_RCVMARK): ((socket.SOL_SOCKET, 36),),  # SO_MARK
    (socket.SOL_SOCKET, _SO_RCVPRIORITY): ((socket.SOL_SOCKET, 12),),  # SO_PRIORITY
}


def socket_enable(sock: socket.socket | int, metadata: Meta) -> None:
    """Sets the socket options that make the kernel send ``metadata`` with every datagram. All of
    them or, on OSError, none. (``Receiver`` does that itself.)"""
    errors.check(lib.socket_enable(descriptor(sock), check_metadata(metadata)))


def socket_disable(sock: socket.socket | int, metadata: Meta) -> None:
    """Clears the socket options that ``metadata`` names, for all who share the socket.
    BlockingIOError: ``Meta.SEGMENT_SIZE`` (UDP_GRO), while data is queued. Once GRO is off the
    kernel delivers a queued train as one payload without a segment size, so it cannot be split."""
    errors.check(lib.socket_disable(descriptor(sock), check_metadata(metadata)))


def check_metadata(metadata: object) -> int:
    """Refuses what is no set of flags."""
    if not isinstance(metadata, int) or isinstance(metadata, bool):
        raise TypeError(
            f"metadata is a set of ringmsg.Meta flags, as in Meta.SOURCE | Meta.DROPPED, not {metadata!r}"
        )
    if metadata >> 32 not in (0, -1):  # ~Meta.SOURCE is negative in some versions of Python
        raise ValueError(f"metadata has 32 bits, not {metadata:#x}")
    return metadata & 0xFFFFFFFF


def switch_gro_on(sock: socket.socket) -> bool:
    """Lets the kernel join datagrams into trains. Whether this changed anything."""
    try:
        if sock.getsockopt(SOL_UDP, UDP_GRO):
            return False
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
    except OSError:
        return False
    return True


def switch_gro_off(sock: socket.socket) -> bool:
    """Switches UDP_GRO off, unless data is queued; whether it is off. It stays on if the queue is
    never empty: a receiver that reads control messages still works."""
    for _ in range(_TRIES):
        try:
            socket_disable(sock, Meta.SEGMENT_SIZE)
            return True
        except BlockingIOError:
            continue  # data was queued
        except OSError:
            break  # the socket can no longer be changed
    return False


_TRIES = 3


class Options:
    """The options of one socket: what we switched on at it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._gro_is_ours = False

    def _read(self) -> dict[tuple[int, int], int]:
        values = {}
        for level, option in _OPTIONS:
            try:
                values[level, option] = self._socket.getsockopt(level, option)
            except OSError:
                pass  # this kind of socket has no such option
        return values

    def enable(self, metadata: Meta) -> set[tuple[int, int]]:
        """Switches on; returns the control messages that come from now on."""
        before = self._read()
        # Noted first: an exception (Ctrl-C) may come as soon as it is on.
        self._gro_is_ours = bool(metadata & Meta.SEGMENT_SIZE) and before.get((SOL_UDP, UDP_GRO)) == 0
        try:
            socket_enable(self._socket, metadata)
        except OSError:
            self._gro_is_ours = False
            raise
        after = self._read()
        changed = {key for key, value in after.items() if value != before.get(key, 0)}
        return {message for key in changed for message in _OPTIONS[key]}

    def restore(self) -> None:
        """Switches UDP_GRO off if ``enable`` switched it on, since it changes what a plain recv
        returns. Options that only add control messages stay on: another process may share the
        socket and depend on them."""
        if self._gro_is_ours:
            switch_gro_off(self._socket)
            self._gro_is_ours = False
