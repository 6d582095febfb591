"""The constants of ``ringmsg.h``, as flags."""

from __future__ import annotations

import enum

__all__ = ["Engine", "Feature", "Meta", "RecordFlag", "RecvFlag", "Setup"]


class Setup(enum.IntFlag):
    """``RINGMSG_SETUP_*``: how a ring's completions are run. See docs/modes.md."""

    SQPOLL = 1 << 1
    R_DISABLED = 1 << 6
    COOP_TASKRUN = 1 << 8
    TASKRUN_FLAG = 1 << 9
    SINGLE_ISSUER = 1 << 12
    DEFER_TASKRUN = 1 << 13
    AUTO = 1 << 31


class Engine(enum.IntEnum):
    """``RINGMSG_ENGINE_*``: what receives."""

    AUTO = 0
    IO_URING = 1
    RECVMMSG = 2


class Feature(enum.IntFlag):
    """``RINGMSG_FEATURE_*``: what the kernel can do."""

    MULTISHOT = 1 << 0
    MIN_WAIT = 1 << 1


class RecordFlag(enum.IntFlag):
    """``RINGMSG_RECORD_*``: what a record is."""

    BUFFER = 1 << 0
    FINAL = 1 << 1
    TRUNCATED = 1 << 2
    CONTROL_TRUNCATED = 1 << 3
    SEGMENT = 1 << 4
    NAME_TRUNCATED = 1 << 5
    WRITABLE = 1 << 6


class RecvFlag(enum.IntFlag):
    """``RINGMSG_RECV_*``: how a request is to behave."""

    SPLIT = 1 << 0
    POLL_FIRST = 1 << 1
    NO_REARM = 1 << 2


class Meta(enum.IntFlag):
    """``RINGMSG_META_*``: what is to be known of each datagram."""

    SOURCE = 1 << 0
    DESTINATION = 1 << 1
    INTERFACE = 1 << 2
    TRAFFIC_CLASS = 1 << 3
    HOP_LIMIT = 1 << 4
    SEGMENT_SIZE = 1 << 5
    DROPPED = 1 << 6
    SOFTWARE_TIMESTAMP = 1 << 7
    HARDWARE_TIMESTAMP = 1 << 8
    DESTINATION_PORT = 1 << 9
    SOCKET_ERROR = 1 << 10
    MARK = 1 << 11
    FLOW_LABEL = 1 << 12
    LOCAL_V4 = 1 << 13
    PRIORITY = 1 << 14
    OFFENDER = 1 << 15


class PathFlag(enum.IntFlag):
    """``RINGMSG_PATH_*``: which fields of a path apply."""

    REMOTE = 1 << 0
    LOCAL = 1 << 1
    INTERFACE = 1 << 2
    TRAFFIC_CLASS = 1 << 3
    HOP_LIMIT = 1 << 4
    FLOW_LABEL = 1 << 5


class MessageFlag(enum.IntFlag):
    """``RINGMSG_MESSAGE_*``: how a message is to leave."""

    ALONE = 1 << 0
    TIMESTAMP = 1 << 1
    TRAFFIC_CLASS = 1 << 2


class SenderFlag(enum.IntFlag):
    """``RINGMSG_SENDER_*``: how a sender works."""

    NO_GROUPING = 1 << 0
    TIMESTAMPS = 1 << 1


class SendFlag(enum.IntFlag):
    """``RINGMSG_SEND_*``: what one call of a sender does."""

    WAIT = 1 << 0
    RESUME = 1 << 1
