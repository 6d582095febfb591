"""``python -m ringmsg watch HOST:PORT``: a live table of what arrives, and what receiving costs."""

from __future__ import annotations

import collections
import shutil
import time
from typing import NamedTuple, TextIO

from . import Receiver, _abi, _layout
from ._core import Stats
from .flags import Meta

METADATA = Meta.TRAFFIC_CLASS | Meta.DROPPED
ECN_NAMES = ("not ECT", "ECT(1)", "ECT(0)", "CE")
_TRAFFIC_CLASS = _layout.metadata("traffic_class")
_HOME, _CLEAR_BELOW, _CLEAR_LINE = "\x1b[H", "\x1b[J", "\x1b[K"
_BOLD, _RED, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[0m"
_WIDTH = 32


class Glyphs(NamedTuple):
    """What bars are drawn with."""

    full: str
    rests: str
    """The end of a horizontal bar, in steps of one character."""
    columns: str
    """Columns of a character's width, from empty to full."""


_BLOCKS = Glyphs("█", " ▏▎▍▌▋▊▉", " ▁▂▃▄▅▆▇█")
_ASCII = Glyphs("#", " ", " .:-=+*%#")


def glyphs_for(out: TextIO) -> Glyphs:
    """Blocks, unless the encoding of the output has none."""
    try:
        "".join(_BLOCKS).encode(out.encoding or "ascii")
    except UnicodeEncodeError:
        return _ASCII
    return _BLOCKS


def run(rx: Receiver, title: str, interval: float, seconds: float | None, out: TextIO) -> None:
    """Receives and shows, until the time is over or Ctrl-C."""
    watcher = Watcher(rx, title, out)
    end = None if seconds is None else time.monotonic() + seconds
    next_show = time.monotonic() + interval
    while end is None or time.monotonic() < end:
        until = next_show if end is None else min(next_show, end)
        watcher.count(max(0.0, until - time.monotonic()))
        if time.monotonic() >= next_show:
            watcher.show()
            next_show = time.monotonic() + interval
    watcher.show()


class Watcher:
    """What has arrived since the last time it was shown, and in all."""

    def __init__(self, rx: Receiver, title: str, out: TextIO) -> None:
        self.rx, self.title, self.out = rx, title, out
        self.is_terminal = out.isatty()
        self.glyphs = glyphs_for(out)
        self.started = self.shown_at = time.monotonic()
        self.cpu_before = time.thread_time()
        self.before: Stats = rx.stats
        self.sizes: collections.Counter[int] = collections.Counter()  # batches, by the bits of their size
        self.marks = [0, 0, 0, 0]
        self.rates: collections.deque[float] = collections.deque(maxlen=_WIDTH)
        if self.is_terminal:
            out.write("\x1b[2J")

    def count(self, timeout: float) -> None:
        """Receives for that long, without making an object of any datagram."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            batch = self.rx.reap(left)
            if not len(batch):
                continue
            self.sizes[len(batch).bit_length()] += 1
            view = batch._slab.metadata_view[: len(batch) * _abi.METADATA_SIZE]
            for value, count in collections.Counter(bytes(_TRAFFIC_CLASS.column(view))).items():
                self.marks[value & 3] += count

    def show(self) -> None:
        """Draws the table; on a terminal over the last one."""
        lines = self.lines()
        if self.is_terminal:
            width = shutil.get_terminal_size().columns
            shown = "".join(f"{self._colored(line[:width])}{_CLEAR_LINE}\n" for line in lines)
            self.out.write(f"{_HOME}{shown}{_CLEAR_BELOW}")
        else:
            self.out.write("\n".join(lines) + "\n\n")
        self.out.flush()

    def lines(self) -> list[str]:
        """The table as text. Begins the next interval."""
        now, before = self.rx.stats, self.before
        elapsed = max(time.monotonic() - self.shown_at, 1e-9)
        cpu = time.thread_time() - self.cpu_before
        datagrams = now.datagrams - before.datagrams
        payload = now.payload_bytes - before.payload_bytes
        batches = sum(self.sizes.values())
        self.rates.append(datagrams / elapsed)
        rows = [
            ("datagrams", f"{datagrams / elapsed:,.0f} /s", f"{now.datagrams:,}"),
            ("payload", f"{payload * 8e-6 / elapsed:,.1f} Mbit/s", f"{now.payload_bytes / 1e6:,.1f} MB"),
            ("dropped", f"{now.socket_drops - before.socket_drops:,}", f"{now.socket_drops:,}"),
            ("starved", f"{now.starvations - before.starvations:,}", f"{now.starvations:,}"),
            ("errors", f"{now.errors - before.errors:,}", f"{now.errors:,}"),
            ("a batch", f"{datagrams / max(batches, 1):.1f}", ""),
            (
                "CPU each",
                f"{cpu / datagrams * 1e9:,.0f} ns" if datagrams else "-",
                f"{cpu / elapsed:.0%} of one",
            ),
        ]
        lines = [
            f"{self.title}  {time.monotonic() - self.started:.0f} s",
            f"{'':12}{'now':>16}{'in all':>16}",
        ]
        lines += [f"{name:12}{value:>16}{total:>16}" for name, value, total in rows]
        lines += [
            "",
            f"rate        {sparkline(self.rates, self.glyphs)}",
            "",
            *self._marks(),
            "",
            *self._sizes(),
        ]
        self.before, self.shown_at, self.cpu_before = now, time.monotonic(), time.thread_time()
        self.sizes.clear()
        self.marks = [0, 0, 0, 0]
        return lines

    def _marks(self) -> list[str]:
        """ECN marks of the interval."""
        total = max(sum(self.marks), 1)
        return [
            f"{name:12}{count / total:>15.1%}  {bar(count / total, self.glyphs)}"
            for name, count in zip(ECN_NAMES, self.marks)
        ]

    def _sizes(self) -> list[str]:
        """A histogram of batch sizes."""
        total = max(sum(self.sizes.values()), 1)
        lines = []
        for bits in range(1, max(self.sizes, default=1) + 1):
            low, high = 1 << bits - 1, (1 << bits) - 1
            name = f"{low}" if low == high else f"{low}-{high}"
            count = self.sizes[bits]
            lines.append(f"batch {name:8}{count:>13,}  {bar(count / total, self.glyphs)}".rstrip())
        return lines

    def _colored(self, line: str) -> str:
        if line.startswith(self.title):
            return f"{_BOLD}{line}{_PLAIN}"
        is_trouble = line.startswith(("dropped", "starved", "errors", "CE ")) and line.split()[1] not in (
            "0",
            "0.0%",
        )
        return f"{_RED}{line}{_PLAIN}" if is_trouble else line


def bar(share: float, glyphs: Glyphs) -> str:
    """A bar, all of it as wide as _WIDTH."""
    steps = len(glyphs.rests)
    whole, rest = divmod(round(share * _WIDTH * steps), steps)
    return glyphs.full * whole + (glyphs.rests[rest] if rest else "")


def sparkline(values: collections.deque[float], glyphs: Glyphs) -> str:
    """A column for each value, the highest full."""
    top = max(values, default=0.0) or 1.0
    return "".join(glyphs.columns[round(value / top * 8)] for value in values)
