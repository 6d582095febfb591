"""One datagram of a batch: payload and source in a tuple, the rest decoded on access."""

from __future__ import annotations

import operator
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _addresses, _control, _layout
from .flags import Meta, RecordFlag

if TYPE_CHECKING:
    from .batch import Batch

__all__ = ["Datagram", "QueuedError"]

# Fields of a record and of its metadata, read when they are asked for.
_RESULT, _FLAGS, _MSG_FLAGS = _layout.record("result"), _layout.record("flags"), _layout.record("msg_flags")
_WIRE_LENGTH, _SEGMENTS = _layout.record("wire_length"), _layout.record("segments")
_SEGMENT_SIZE, _USER_DATA = _layout.record("segment_size"), _layout.record("user_data")


def _metadata(bits: int, name: str) -> tuple[int, _layout.Field]:
    """A field that means something where one of these bits is set in ``valid``."""
    return int(bits), _layout.metadata(name)


_FAMILY, _SCOPE = _metadata(-1, "family"), _metadata(-1, "interface_index")
_DESTINATION = _metadata(Meta.DESTINATION | Meta.DESTINATION_PORT, "destination")
_DESTINATION_PORT = _metadata(Meta.DESTINATION_PORT, "destination_port")
_INTERFACE, _LOCAL_V4 = _metadata(Meta.INTERFACE, "interface_index"), _metadata(Meta.LOCAL_V4, "local_v4")
_TRAFFIC_CLASS = _metadata(Meta.TRAFFIC_CLASS, "traffic_class")
_HOP_LIMIT = _metadata(Meta.HOP_LIMIT, "hop_limit")
_SOFTWARE_NS = _metadata(Meta.SOFTWARE_TIMESTAMP, "software_timestamp_ns")
_HARDWARE_NS = _metadata(Meta.HARDWARE_TIMESTAMP, "hardware_timestamp_ns")
_DROPPED, _MARK = _metadata(Meta.DROPPED, "dropped"), _metadata(Meta.MARK, "mark")
_FLOW_LABEL = _metadata(Meta.FLOW_LABEL, "flow_label")
_PRIORITY = _metadata(Meta.PRIORITY, "priority")
_SOCKET_ERROR = _metadata(Meta.SOCKET_ERROR, "socket_error")
_ERROR_FIELDS = [
    _metadata(Meta.SOCKET_ERROR, f"error_{name}") for name in ("origin", "type", "code", "info", "data")
]
_OFFENDER = _metadata(Meta.OFFENDER, "offender")

try:
    from _collections import _tuplegetter as _field  # type: ignore[import-not-found]
except ImportError:  # another Python than CPython

    def _field(index: int, doc: str) -> Any:
        return property(operator.itemgetter(index), doc=doc)


class QueuedError(NamedTuple):
    """``struct sock_extended_err``."""

    errno: int
    """0 for timestamps and zero-copy notifications, which are no errors."""
    origin: int
    """``SO_EE_ORIGIN_*``: 1 local, 2 ICMP, 3 ICMPv6, 4 timestamp, 5 zero-copy."""
    type: int
    code: int
    info: int
    """The next hop's MTU; the first number of a zero-copy range."""
    data: int
    """A timestamp's id; the last number of a zero-copy range."""
    offender: str | None
    """The router or host that sent the ICMP error."""


class Datagram(tuple[memoryview, Any, "Batch", int]):
    """One datagram (or one whole GRO train, one chunk of a stream, one error) of a batch.

    ``payload`` is a view of the pool's memory and raises ValueError once the batch is released;
    ``bytes(payload)`` is yours to keep. What was not asked for, or did not come, is None.
    """

    # A plain tuple underneath: nothing else is made as fast, 256 at a time, from columns.
    __slots__ = ()

    payload: memoryview = _field(0, "The bytes, in place. Empty for an error.")
    source: Any = _field(
        1, "The sender as socket gives it: (host, port), (host, port, flowinfo, scope), a path."
    )
    batch: Batch = _field(2, "The batch this belongs to.")
    position: int = _field(3, "Its place in the batch.")

    @property
    def destination(self) -> Any:
        """The address it was sent to, as ``socket`` would give it; the port is 0 unless
        ``Meta.DESTINATION_PORT`` was asked for."""
        batch, position = self.batch, self.position
        address = batch._metadata(_DESTINATION, position)
        if address is None:
            return None
        port = batch._metadata(_DESTINATION_PORT, position) or 0
        family = batch._metadata(_FAMILY, position)
        # fe80::/10 means something only together with an interface.
        is_link_local = family == socket.AF_INET6 and address[0] == 0xFE and address[1] & 0xC0 == 0x80
        scope = batch._metadata(_SCOPE, position) if is_link_local else 0
        return _addresses.text(family, address, port, scope)

    @property
    def local_address(self) -> str | None:
        """The local IPv4 address to reply from (``ipi_spec_dst``)."""
        local = self.batch._metadata(_LOCAL_V4, self.position)
        return None if local is None else socket.inet_ntoa(local)

    @property
    def interface_index(self) -> int | None:
        """The index of the receiving interface (``socket.if_indextoname``)."""
        return self._integer(_INTERFACE)

    @property
    def traffic_class(self) -> int | None:
        """The TOS byte or traffic class."""
        return self._integer(_TRAFFIC_CLASS)

    @property
    def ecn(self) -> int | None:
        """Explicit congestion notification: 0 not capable, 1 ECT(1), 2 ECT(0), 3 congestion."""
        value = self._integer(_TRAFFIC_CLASS)
        return None if value is None else value & 3

    @property
    def hop_limit(self) -> int | None:
        """TTL or hop limit."""
        return self._integer(_HOP_LIMIT)

    @property
    def timestamp_ns(self) -> int | None:
        """When the kernel received it: CLOCK_REALTIME, ns. (The kernel switches stamping on in the
        background: the first datagrams after a receiver was made may have none.)"""
        return self._integer(_SOFTWARE_NS)

    @property
    def hardware_timestamp_ns(self) -> int | None:
        """When the network card received it: its own clock, ns."""
        return self._integer(_HARDWARE_NS)

    @property
    def dropped(self) -> int | None:
        """Socket buffers the kernel has dropped so far (with GRO: trains). 32 bits, wraps; None
        before the first drop."""
        return self._integer(_DROPPED)

    @property
    def mark(self) -> int | None:
        """SO_MARK of the packet."""
        return self._integer(_MARK)

    @property
    def flow_label(self) -> int | None:
        """The IPv6 flow label."""
        return self._integer(_FLOW_LABEL)

    @property
    def priority(self) -> int | None:
        """SO_PRIORITY of the packet (Linux 6.14)."""
        return self._integer(_PRIORITY)

    @property
    def queued_error(self) -> QueuedError | None:
        """An entry of the socket's error queue: what a request with ``MSG_ERRQUEUE`` receives."""
        number = self._integer(_SOCKET_ERROR)
        if number is None:
            return None
        batch, position = self.batch, self.position
        origin, kind, code, info, data = (batch._metadata(field, position) for field in _ERROR_FIELDS)
        offender = batch._metadata(_OFFENDER, position)
        family = batch._metadata(_FAMILY, position)
        router = None if offender is None else _addresses.text(family, offender, 0)[0]
        return QueuedError(number, origin, kind, code, info, data, router)

    def _integer(self, field: tuple[int, _layout.Field]) -> int | None:
        value: int | None = self.batch._metadata(field, self.position)
        return value

    def _record(self, field: _layout.Field) -> int:
        return int(self.batch._record(field, self.position))

    @property
    def segment_size(self) -> int | None:
        """Bytes per datagram of the GRO train that this is, or came in; None if it came alone."""
        return self._record(_SEGMENT_SIZE) or None if self.batch._wanted & Meta.SEGMENT_SIZE else None

    @property
    def segments(self) -> int:
        """Datagrams in the train that this is, or came in; 1 if it came alone."""
        return self._record(_SEGMENTS)

    @property
    def wire_length(self) -> int:
        """Payload bytes before truncation."""
        return self._record(_WIRE_LENGTH)

    @property
    def truncated(self) -> bool:
        """The payload was cut: the pool's buffers are too small."""
        return bool(self.flags & RecordFlag.TRUNCATED)

    @property
    def flags(self) -> RecordFlag:
        """``RecordFlag``s."""
        return RecordFlag(self._record(_FLAGS))

    @property
    def msg_flags(self) -> int:
        """``socket.MSG_*`` as the kernel set them."""
        return self._record(_MSG_FLAGS)

    @property
    def user_data(self) -> int:
        """The ``user_data`` of the request."""
        return self._record(_USER_DATA)

    @property
    def error(self) -> int:
        """The errno of a failed receive (``errno.ECONNREFUSED``, ...); 0 for data."""
        return max(0, -self._record(_RESULT))

    @property
    def control(self) -> list[tuple[int, int, bytes]]:
        """The control messages: (level, type, data), as ``socket.recvmsg`` gives them. Of
        descriptors see ``take_fds``."""
        return _control.parse(self.batch._control_of(self.position))

    def take_fds(self) -> list[int]:
        """The descriptors that came with it (SCM_RIGHTS), now yours to close. Those not taken are
        closed when the batch is released."""
        return self.batch._take_fds(self.position)

    def __repr__(self) -> str:
        try:
            size = f"{len(self.payload)} bytes"
        except ValueError:
            size = "released"
        return f"<ringmsg.Datagram {size} from {self.source!r}>"
