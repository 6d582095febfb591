"""What is sent: ``Message``, and payloads put back to back. What is wrong with a message gets a sentence."""

from __future__ import annotations

import array
import dataclasses
from collections.abc import Sequence
from typing import Any

from ._arguments import integer


@dataclasses.dataclass(slots=True)
class Message:
    """A message that says more than where it goes. What is None is the socket's own setting."""

    payload: Any
    """Anything that has a buffer."""
    address: Any = None
    """As ``socket`` takes it; None: the connected peer."""
    _: dataclasses.KW_ONLY
    source: Any = None
    """The local address from which it leaves: a host, or ``Datagram.destination``."""
    interface_index: int | None = None
    ecn: int | None = None
    """The ECN bits. With None those of ``traffic_class``."""
    traffic_class: int | None = None
    """TOS byte or traffic class; its other bits are 0 where only ``ecn`` is given."""
    hop_limit: int | None = None
    flow_label: int | None = None
    segment_size: int = 0
    """0: one datagram. Else the payload leaves as datagrams of this size: a train."""
    transmit_time_ns: int = 0
    """0: now. Else a time of the sender's ``transmit_clock``."""
    timestamp_id: int | None = None
    """Not None: a transmit timestamp with this id comes back through the socket's error queue."""


# The path_key of a message that says nothing of how it leaves.
NOTHING = (None,) * 6


def path_key(message: Message) -> tuple[Any, ...]:
    """What a message's path is made from."""
    traffic_class = message.traffic_class
    if message.ecn is not None:
        traffic_class = integer("traffic_class", traffic_class or 0, 8) & ~3 | integer("ecn", message.ecn, 2)
    return (
        *(with_text(message.address), with_text(message.source), message.interface_index),
        *(traffic_class, message.hop_limit, message.flow_label),
    )


def with_text(address: Any) -> Any:
    """An address whose host is text, to be a key: socket takes bytes and bytearray, too."""
    if isinstance(address, (bytes, bytearray)):
        return address.decode("ascii", errors="replace")
    if isinstance(address, tuple) and address and isinstance(address[0], (bytes, bytearray)):
        return (with_text(address[0]), *address[1:])
    return address


def joined(payloads: Sequence[Any]) -> tuple[bytes, list[int]]:
    """Payloads back to back, and the bytes of each. TypeError for what has no buffer."""
    try:
        data = b"".join(payloads)
    except TypeError:  # perhaps only because of a buffer with gaps
        payloads = [memoryview(payload).tobytes() for payload in payloads]
        data = b"".join(payloads)
    try:
        sizes = list(map(len, payloads))
    except TypeError:  # an array of numpy without dimensions
        sizes = []
    if sum(sizes) != len(data) or len(sizes) != len(payloads):  # elements of more than one byte
        sizes = [memoryview(payload).nbytes for payload in payloads]
    return data, sizes


def pair(at: int, message: Any) -> tuple[Any, Any]:
    """A message that is no Message, as payload and address; TypeError for what is neither."""
    if isinstance(message, (bytes, bytearray, memoryview)):
        return message, None
    if not isinstance(message, (tuple, list)) or len(message) != 2:
        raise TypeError(f"message {at}: expected (payload, address) or a Message, not {message!r}")
    try:
        memoryview(message[0])
    except TypeError:
        kind = type(message[0]).__name__
        raise TypeError(f"message {at}: the payload must be a bytes-like object, not {kind}") from None
    return message[0], message[1]


def of_message(at: int, error: Exception) -> Exception:
    """An error, with the message to which it belongs."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    return kind(f"message {at}: {error}")


def column(name: str, code: str, values: Any) -> array.array[int]:
    """An array of unsigned numbers."""
    try:
        return array.array(code, values)
    except (OverflowError, TypeError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        bits = 8 * array.array(code).itemsize
        raise kind(f"{name} must be whole numbers of {bits} bits, at least 0: {error}") from None


def count_of(size: int, length: int) -> int:
    """How many messages of one length there are."""
    if length <= 0 or size % length:
        raise ValueError(f"data of {size} bytes is not a whole number of messages of {length} bytes")
    return size // length
