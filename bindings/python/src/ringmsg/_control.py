"""Control messages in the form in which ``socket.recvmsg`` gives them."""

from __future__ import annotations

import struct

_HEADER = struct.Struct("@Nii")  # struct cmsghdr: cmsg_len, cmsg_level, cmsg_type


def parse(control: memoryview) -> list[tuple[int, int, bytes]]:
    """(level, type, data) of each message; stops at what is none."""
    messages = []
    at = 0
    while at + _HEADER.size <= len(control):
        length, level, kind = _HEADER.unpack_from(control, at)
        if length < _HEADER.size:
            break
        messages.append((level, kind, bytes(control[at + _HEADER.size : at + length])))
        at += (length + 7) & ~7
    return messages
