"""The C interface: structs, constants and function prototypes, as ``ringmsg.h`` has them.

Pointers are passed as plain integers (``c_void_p``): building ctypes pointer objects would cost
more than the calls. Records and metadata are never touched as ctypes structs at run time; their
classes below state the layout, and the tests compare it with the header's.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    c_char_p,
    c_int,
    c_int32,
    c_int64,
    c_size_t,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_void_p,
)
from typing import Any

from . import _loader

ABI_VERSION = 0
LINGER_AUTO = 0xFFFFFFFF
LINGER_AUTO_WITHIN = 1 << 31
LINGER_MAX_US = 10000
POOL_NONE = 0xFFFF
STEER_CPU = 0
STEER_PAYLOAD = 1
STEER_QUIC = 2


class Record(ctypes.Structure):
    """``struct ringmsg_record``."""

    _fields_ = [
        ("user_data", c_uint64),
        ("result", c_int32),
        ("flags", c_uint32),
        ("payload_offset", c_uint32),
        ("payload_length", c_uint32),
        ("control_offset", c_uint32),
        ("control_length", c_uint32),
        ("name_offset", c_uint32),
        ("name_length", c_uint32),
        ("wire_length", c_uint32),
        ("msg_flags", c_uint32),
        ("segment_size", c_uint32),
        ("pool", c_uint16),
        ("buffer", c_uint16),
        ("generation", c_uint32),
        ("segment", c_uint16),
        ("segments", c_uint16),
    ]


class Metadata(ctypes.Structure):
    """``struct ringmsg_metadata``."""

    _fields_ = [
        ("valid", c_uint32),
        ("family", c_uint16),
        ("source_port", c_uint16),
        ("source", c_uint8 * 16),
        ("source_scope", c_uint32),
        ("interface_index", c_uint32),
        ("destination", c_uint8 * 16),
        ("destination_port", c_uint16),
        ("traffic_class", c_uint8),
        ("hop_limit", c_uint8),
        ("segment_size", c_uint32),
        ("dropped", c_uint32),
        ("socket_error", c_int32),
        ("software_timestamp_ns", c_int64),
        ("hardware_timestamp_ns", c_int64),
        ("mark", c_uint32),
        ("flow_label", c_uint32),
        ("local_v4", c_uint8 * 4),
        ("priority", c_uint32),
        ("error_info", c_uint32),
        ("error_data", c_uint32),
        ("error_origin", c_uint8),
        ("error_type", c_uint8),
        ("error_code", c_uint8),
        ("reserved8", c_uint8),
        ("offender", c_uint8 * 16),
        ("reserved", c_uint32),
    ]


class Sized(ctypes.Structure):
    """A struct that begins with its own size."""

    def __init__(self, **fields: int) -> None:
        super().__init__(size=ctypes.sizeof(self), **fields)


class Support(Sized):
    """``struct ringmsg_support``."""

    _fields_ = [
        ("size", c_uint32),
        ("engines", c_uint32),
        ("setup_flags", c_uint32),
        ("features", c_uint32),
        ("create_error", c_int32),
        ("io_uring_disabled", c_int32),
        ("kernel_version", c_uint32),
        ("reserved", c_uint32 * 9),
    ]


class RingConfig(Sized):
    """``struct ringmsg_ring_config``."""

    _fields_ = [
        ("size", c_uint32),
        ("flags", c_uint32),
        ("sq_entries", c_uint32),
        ("cq_entries", c_uint32),
        ("sq_thread_idle_ms", c_uint32),
        ("sq_thread_cpu", c_int32),
        ("engine", c_uint32),
        ("reserved", c_uint32 * 9),
    ]


class RingInfo(Sized):
    """``struct ringmsg_ring_info``."""

    _fields_ = [
        ("size", c_uint32),
        ("engine", c_uint32),
        ("flags", c_uint32),
        ("features", c_uint32),
        ("sq_entries", c_uint32),
        ("cq_entries", c_uint32),
        ("owner_thread", c_int32),
        ("reserved", c_uint32 * 9),
    ]


class Stats(Sized):
    """``struct ringmsg_stats``."""

    _fields_ = [("size", c_uint32), ("reserved", c_uint32)] + [
        (name, c_uint64)
        for name in (
            "records datagrams payload_bytes reaps enters wakes rearms starvations window_misses "
            "cq_overflows truncated control_truncated zero_length errors socket_drops "
            "buffers_held buffers_published linger_us linger_trials linger_trial_ns"
        ).split()
    ]


class PoolConfig(Sized):
    """``struct ringmsg_pool_config``."""

    _fields_ = [
        ("size", c_uint32),
        ("buffers", c_uint32),
        ("payload_capacity", c_uint32),
        ("control_capacity", c_uint32),
        ("name_capacity", c_uint32),
        ("flags", c_uint32),
        ("reserved", c_uint32 * 10),
    ]


class Steering(Sized):
    """``struct ringmsg_steering``."""

    _fields_ = [
        ("size", c_uint32),
        ("by", c_uint32),
        ("offset", c_uint32),
        ("length", c_uint32),
        ("reserved", c_uint32 * 12),
    ]


class Wait(Sized):
    """``struct ringmsg_wait``."""

    _fields_ = [
        ("size", c_uint32),
        ("linger_us", c_uint32),
        ("timeout_ns", c_int64),
        ("spin_us", c_uint32),
        ("reserved", c_uint32),
    ]


class Cmsg(ctypes.Structure):
    """``struct ringmsg_cmsg``."""

    _fields_ = [("level", c_int32), ("type", c_int32), ("offset", c_uint32), ("length", c_uint32)]


class Path(ctypes.Structure):
    """``struct ringmsg_path``."""

    _fields_ = [
        ("valid", c_uint32),
        ("family", c_uint16),
        ("remote_port", c_uint16),
        ("remote", c_uint8 * 16),
        ("remote_scope", c_uint32),
        ("interface_index", c_uint32),
        ("local", c_uint8 * 16),
        ("traffic_class", c_uint8),
        ("hop_limit", c_uint8),
        ("reserved16", c_uint16),
        ("flow_label", c_uint32),
        ("reserved", c_uint32 * 2),
    ]


class SenderConfig(Sized):
    """``struct ringmsg_sender_config``."""

    _fields_ = [
        ("size", c_uint32),
        ("batch", c_uint32),
        ("flags", c_uint32),
        ("transmit_clock", c_int32),
        ("reserved", c_uint32 * 12),
    ]


class Message(ctypes.Structure):
    """``struct ringmsg_message``, as ``ringmsg_send_from`` reads it: ``payload`` is an offset and
    ``path`` an index."""

    _fields_ = [
        ("payload", c_uint64),
        ("path", c_uint64),
        ("payload_length", c_uint32),
        ("segment_size", c_uint32),
        ("flags", c_uint32),
        ("result", c_int32),
        ("transmit_time_ns", c_uint64),
        ("user_data", c_uint64),
        ("timestamp_id", c_uint32),
        ("traffic_class", c_uint8),
        ("reserved8", c_uint8 * 3),
        ("reserved", c_uint64),
    ]


class SenderStats(Sized):
    """``struct ringmsg_sender_stats``."""

    _fields_ = [("size", c_uint32), ("last_socket_error", c_int32)] + [
        (name, c_uint64)
        for name in (
            "messages datagrams payload_bytes calls trains grouped fallbacks would_block errors socket_errors"
        ).split()
    ]


RECORD_SIZE = ctypes.sizeof(Record)
METADATA_SIZE = ctypes.sizeof(Metadata)
PATH_SIZE = ctypes.sizeof(Path)
MESSAGE_SIZE = ctypes.sizeof(Message)

_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "version": (c_char_p, ()),
    "abi_version": (c_uint32, ()),
    "sizeof_record": (c_size_t, ()),
    "sizeof_metadata": (c_size_t, ()),
    "strerror": (c_char_p, (c_int,)),
    "last_error": (c_size_t, (c_void_p, c_size_t)),
    "query_support": (c_int, (c_void_p,)),
    "describe_support": (c_int, (c_void_p, c_size_t)),
    "ring_config_init": (None, (c_void_p,)),
    "ring_new": (c_int, (c_void_p, c_void_p)),
    "ring_enable": (c_int, (c_void_p,)),
    "ring_info": (c_int, (c_void_p, c_void_p)),
    "ring_fd": (c_int, (c_void_p,)),
    "ring_stats": (c_int, (c_void_p, c_void_p)),
    "request_stats": (c_int, (c_void_p, c_uint64, c_void_p)),
    "ring_free": (c_int, (c_void_p,)),
    "socket_disable": (c_int, (c_int, c_uint32)),
    "socket_enable": (c_int, (c_int, c_uint32)),
    "socket_steer": (c_int, (c_void_p, c_uint32, c_void_p)),
    "pool_config_init": (None, (c_void_p,)),
    "pool_config_for_socket": (c_int, (c_void_p, c_int)),
    "pool_new": (c_int, (c_void_p, c_void_p, c_void_p)),
    "pool_new_in": (c_int, (c_void_p, c_void_p, c_void_p, c_size_t, c_void_p)),
    "pool_free": (c_int, (c_void_p,)),
    "ring_pool": (c_void_p, (c_void_p, c_uint16)),
    "pool_id": (c_uint16, (c_void_p,)),
    "pool_base": (c_void_p, (c_void_p,)),
    "pool_size": (c_size_t, (c_void_p,)),
    "recvmsg_once": (c_int, (c_void_p, c_void_p, c_int, c_int, c_uint32, c_uint64)),
    "recvmsg_multishot": (c_int, (c_void_p, c_void_p, c_int, c_int, c_uint32, c_uint64)),
    "writable": (c_int, (c_void_p, c_int, c_uint64)),
    "cancel": (c_int, (c_void_p, c_uint64)),
    "submit": (c_int, (c_void_p,)),
    "wake": (c_int, (c_void_p,)),
    "reap": (c_int, (c_void_p, c_void_p, c_void_p, c_uint32, c_void_p)),
    "release": (c_int, (c_void_p, c_void_p, c_uint32)),
    "next": (c_int, (c_void_p, c_void_p, c_uint32, c_void_p, c_void_p, c_uint32, c_void_p)),
    "receive": (c_int, (c_int, c_void_p, c_size_t, c_void_p, c_void_p, c_void_p, c_uint32, c_uint32)),
    "take_fds": (c_int, (c_void_p, c_void_p, c_void_p, c_uint32)),
    "control_next": (c_int, (c_void_p, c_size_t, c_void_p)),
    "control_decode": (c_int, (c_void_p, c_size_t, c_void_p)),
    "path_reply": (c_int, (c_void_p, c_void_p)),
    "path_to": (c_int, (c_void_p, c_void_p, c_uint32)),
    "sender_config_init": (None, (c_void_p,)),
    "sender_new": (c_int, (c_int, c_void_p, c_void_p)),
    "send": (c_int, (c_void_p, c_void_p, c_uint32, c_uint32)),
    "send_from": (
        c_int,
        (c_void_p, c_void_p, c_size_t, c_void_p, c_uint32, c_void_p, c_uint32, c_uint32),
    ),
    "send_columns": (
        c_int,
        (c_void_p, c_void_p, c_size_t, c_void_p, c_void_p, c_void_p, c_void_p, c_uint32)
        + (c_void_p, c_uint32, c_uint32),
    ),
    "sender_stats": (c_int, (c_void_p, c_void_p)),
    "sender_free": (c_int, (c_void_p,)),
}


class Library:
    """The functions of the library, without their prefix: ``lib.ring_new``."""

    def __init__(self, dll: ctypes.CDLL) -> None:
        self.path = dll._name
        for name, (result, arguments) in _PROTOTYPES.items():
            try:
                function = getattr(dll, f"ringmsg_{name}")
            except AttributeError:
                raise ImportError(
                    f"ringmsg: {self.path} has no ringmsg_{name}(): not this package's library"
                ) from None
            function.restype = result
            function.argtypes = arguments
            setattr(self, name, function)
        self._check()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def _check(self) -> None:
        """Refuses a library whose binary interface is another."""
        for what, found, wanted in (
            ("ABI version", self.abi_version(), ABI_VERSION),
            ("record size", self.sizeof_record(), RECORD_SIZE),
            ("metadata size", self.sizeof_metadata(), METADATA_SIZE),
        ):
            if found != wanted:
                raise ImportError(f"ringmsg: {self.path}: {what} {found}, this package needs {wanted}")


lib = Library(_loader.load())
