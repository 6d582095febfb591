"""Every piece of Python in the READMEs runs as it stands, each of its lines, and does not warn.

Datagrams arrive while it runs. Where a piece loops over a receiver, that is closed when the loop begins
again for the fourth time, which ends it.
"""

from __future__ import annotations

import ast
import asyncio
import collections
import contextlib
import dis
import inspect
import pathlib
import re
import socket
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy
import pandas
import pytest
import trio

import ringmsg
import ringmsg.aio
from ringmsg import Meta, _loader

HERE = pathlib.Path(__file__).parents[1]
ROOT = _loader.checkout()
OFTEN = 4
ROW = numpy.dtype([("id", "<u4"), ("value", "<f8")])


class Snippet(NamedTuple):
    place: str
    line: int
    code: str


def snippets() -> list[Snippet]:
    """The blocks that begin with three backticks and `python`."""
    documents = [HERE / "README.md"]
    if ROOT is not None:
        documents += [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    found = []
    for path in documents:
        text = path.read_text()
        for match in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            line = text.count("\n", 0, match.start(1))
            found.append(Snippet(f"{path.parent.name}-{path.name}:{line + 1}", line, match[1]))
    return found


class Traffic:
    """A socket to which datagrams of one telemetry row come, again and again."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.senders = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        for sender in self.senders:
            sender.bind(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def send(self) -> None:
        for sender in self.senders:
            sender.sendto(numpy.array([(7, 0.5)], ROW).tobytes(), self.address)

    def run(self) -> None:
        while not self.over.wait(0.002):
            self.send()

    def close(self) -> None:
        self.over.set()
        self.thread.join()
        for sock in (self.socket, *self.senders):
            sock.close()


@pytest.fixture
def traffic() -> Iterator[Traffic]:
    made = Traffic()
    yield made
    made.close()


def lines_of(code: types.CodeType) -> set[int]:
    """The lines of a piece that have an instruction."""
    lines = {line for _, line in dis.findlinestarts(code) if line}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            lines |= lines_of(constant)
    return lines


def loops_of(code: str) -> set[int]:
    """The lines on which a loop over a receiver begins again; of one without end, too."""
    return {
        node.lineno
        for node in ast.walk(ast.parse(code))
        if (isinstance(node, (ast.For, ast.AsyncFor)) and ast.unparse(node.iter) == "rx")
        or isinstance(node, ast.While)
    }


class Lines:
    """Which lines of a piece have run. It ends loops over receivers."""

    def __init__(self, snippet: Snippet) -> None:
        self.place = snippet.place
        self.loops = {snippet.line + line for line in loops_of(snippet.code)}
        self.runs: collections.Counter[int] = collections.Counter()

    def trace(self, frame: types.FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != self.place:
            return None
        if event == "line":
            self.runs[frame.f_lineno] += 1
            if frame.f_lineno in self.loops and self.runs[frame.f_lineno] == OFTEN:
                frame.f_globals["rx"].close()
        return self.trace


def run(code: types.CodeType, names: dict[str, Any]) -> None:
    """Runs a piece: plainly, under asyncio, or under trio."""
    if not code.co_flags & inspect.CO_COROUTINE:
        exec(code, names)
        return

    async def under_asyncio() -> None:
        names["loop"] = asyncio.get_running_loop()
        await asyncio.wait_for(eval(code, names), 20)
        names["transport"].close()

    async def under_trio() -> None:
        with trio.fail_after(20), contextlib.suppress(OSError):  # of the closed receiver
            await eval(code, names)

    if "trio" in code.co_names:
        trio.run(under_trio)
    else:
        asyncio.run(under_asyncio())


@pytest.mark.parametrize("snippet", snippets(), ids=lambda snippet: snippet.place)
def test_a_piece_runs(snippet: Snippet, traffic: Traffic) -> None:
    port = 0
    if "sock.bind" in snippet.code:
        port = traffic.address[1]
        traffic.socket.close()  # the piece opens its own there
    text = re.sub(r"\b(9999|9000)\b", str(port), snippet.code)
    code = compile(
        "\n" * snippet.line + text,
        snippet.place,
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    lines = Lines(snippet)
    metadata = Meta.SOURCE | Meta.DESTINATION | Meta.SOFTWARE_TIMESTAMP | Meta.DROPPED
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        names: dict[str, Any] = {
            "sock": traffic.socket,
            "ringmsg": ringmsg,
            "pandas": pandas,
            "trio": trio,
            "dtype": ROW,
            "handle": lambda datagram: bytes(datagram.payload),
            "Protocol": asyncio.DatagramProtocol,
            "print": lambda *_: None,
        }
        names["peer"], names["other"] = (sender.getsockname() for sender in traffic.senders)
        own = None
        if "rx" not in assigned(code) and {"rx", "batch"} & set(code.co_names):
            own = ringmsg.Receiver(traffic.socket, metadata=metadata)
            names["rx"], names["batch"] = own, own.reap(20)
        before = sys.gettrace()
        sys.settrace(lines.trace)
        try:
            run(code, names)
        finally:
            sys.settrace(before)
            if own is not None:
                own.close()
            names["sock"].close()
    blank = {
        snippet.line + number
        for number, line in enumerate(snippet.code.splitlines(), 1)
        if line.strip() in ("", "...") or line.lstrip().startswith("#")
    }
    missing = {line for line in lines_of(code) if line > snippet.line} - blank - set(lines.runs)
    assert not missing, f"these lines did not run: {sorted(missing)}"
    for name in ("sent", "frame", "table", "samples"):
        if name in assigned(code):
            assert (names[name] if name == "sent" else len(names[name])) > 0


def assigned(code: types.CodeType) -> set[str]:
    """The names that a piece gives values to."""
    return {
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname.startswith("STORE_")
    }


def test_there_are_pieces() -> None:
    """Those that this file was written for: a change of the fence would find none."""
    assert len(snippets()) >= 6
