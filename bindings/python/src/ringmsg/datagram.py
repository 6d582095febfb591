"""One datagram of a batch: common fields at hand, rare ones decoded on access."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from . import _addresses, _control
from .flags import Meta, RecordFlag

if TYPE_CHECKING:
    from .batch import Batch

__all__ = ["Datagram"]

try:
    from _collections import _tuplegetter as _field  # type: ignore[import-not-found]
except ImportError:  # another Python than CPython

    def _field(index: int, doc: str) -> Any:
        return property(operator.itemgetter(index), doc=doc)


class Datagram(tuple[memoryview, Any, "Batch", int]):
    """One datagram (or one whole GRO train, one chunk of a stream, one error) of a batch.

    ``payload`` is a view of the pool's memory and raises ValueError once the batch is released;
    ``bytes(payload)`` is yours to keep. What was not asked for, or did not come, is None.
    """

    # A plain tuple underneath: nothing else is made as fast, 256 at a time, from columns.
    __slots__ = ()

    payload: memoryview = _field(0, "The bytes, in place. Empty for an error.")
    source: Any = _field(1, "The sender as socket gives it: (host, port), (host, port, flowinfo, scope), a path.")
    batch: Batch = _field(2, "The batch this belongs to.")
    position: int = _field(3, "Its place in the batch.")

    def _meta(self, bit: Meta, index: int) -> Any:
        metadata = self.batch._metadata_of(self.position)
        return metadata[index] if metadata[0] & bit & self.batch._wanted else None

    @property
    def destination(self) -> Any:
        """The address it was sent to, as ``socket`` would give it; the port is 0 unless
        ``Meta.DESTINATION_PORT`` was asked for."""
        metadata = self.batch._metadata_of(self.position)
        if not metadata[0] & self.batch._wanted & (Meta.DESTINATION | Meta.DESTINATION_PORT):
            return None
        port = metadata[7] if metadata[0] & Meta.DESTINATION_PORT else 0
        # fe80::/10 means something only together with an interface.
        local = metadata[1] == 10 and metadata[6][0] == 0xFE and metadata[6][1] & 0xC0 == 0x80
        return _addresses.text(metadata[1], metadata[6], port, metadata[5] if local else 0)

    @property
    def local_address(self) -> str | None:
        """The local IPv4 address to reply from (``ipi_spec_dst``)."""
        local = self._meta(Meta.LOCAL_V4, 17)
        return None if local is None else ".".join(map(str, local))

    @property
    def interface_index(self) -> int | None:
        """The index of the receiving interface (``socket.if_indextoname``)."""
        return self._int(Meta.INTERFACE, 5)

    @property
    def traffic_class(self) -> int | None:
        """The TOS byte or traffic class."""
        return self._int(Meta.TRAFFIC_CLASS, 8)

    @property
    def ecn(self) -> int | None:
        """Explicit congestion notification: 0 not capable, 1 ECT(1), 2 ECT(0), 3 congestion."""
        value = self._int(Meta.TRAFFIC_CLASS, 8)
        return None if value is None else value & 3

    @property
    def hop_limit(self) -> int | None:
        """TTL or hop limit."""
        return self._int(Meta.HOP_LIMIT, 9)

    @property
    def timestamp_ns(self) -> int | None:
        """When the kernel received it: CLOCK_REALTIME, ns. (The kernel switches stamping on in the
        background: the first datagrams after a receiver was made may have none.)"""
        return self._int(Meta.SOFTWARE_TIMESTAMP, 13)

    @property
    def hardware_timestamp_ns(self) -> int | None:
        """When the network card received it: its own clock, ns."""
        return self._int(Meta.HARDWARE_TIMESTAMP, 14)

    @property
    def dropped(self) -> int | None:
        """Socket buffers the kernel has dropped so far (with GRO: trains). 32 bits, wraps; None
        before the first drop."""
        return self._int(Meta.DROPPED, 11)

    @property
    def mark(self) -> int | None:
        """SO_MARK of the packet."""
        return self._int(Meta.MARK, 15)

    @property
    def flow_label(self) -> int | None:
        """The IPv6 flow label."""
        return self._int(Meta.FLOW_LABEL, 16)

    def _int(self, bit: Meta, index: int) -> int | None:
        value = self._meta(bit, index)
        return None if value is None else int(value)

    @property
    def segment_size(self) -> int | None:
        """Bytes per datagram of the GRO train that this is, or came in; None if it came alone."""
        if not self.batch._wanted & Meta.SEGMENT_SIZE:
            return None
        return int(self.batch._record_of(self.position)[11]) or None

    @property
    def segments(self) -> int:
        """Datagrams in the train that this is, or came in; 1 if it came alone."""
        return int(self.batch._record_of(self.position)[16])

    @property
    def wire_length(self) -> int:
        """Payload bytes before truncation."""
        return int(self.batch._record_of(self.position)[9])

    @property
    def truncated(self) -> bool:
        """The payload was cut: the pool's buffers are too small."""
        return bool(self.flags & RecordFlag.TRUNCATED)

    @property
    def flags(self) -> RecordFlag:
        """``RecordFlag``s."""
        return RecordFlag(self.batch._record_of(self.position)[2])

    @property
    def msg_flags(self) -> int:
        """``socket.MSG_*`` as the kernel set them."""
        return int(self.batch._record_of(self.position)[10])

    @property
    def user_data(self) -> int:
        """What was given when the request was submitted."""
        return int(self.batch._record_of(self.position)[0])

    @property
    def error(self) -> int:
        """The errno of a failed receive (``errno.ECONNREFUSED``, ...); 0 for data."""
        return max(0, -int(self.batch._record_of(self.position)[1]))

    @property
    def control(self) -> list[tuple[int, int, bytes]]:
        """The control messages: (level, type, data), as ``socket.recvmsg`` gives them. Of
        descriptors see ``take_fds``."""
        return _control.parse(self.batch._slice_of(self.position, 5, 6))

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
