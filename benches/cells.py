"""What is measured: receivers (rows), traffic (regimes), their combinations, and the goals."""

from __future__ import annotations

from dataclasses import dataclass

OURS = "ringmsg-auto"


@dataclass(frozen=True)
class Row:
    """A receiver: a variant of one of the C programs."""

    name: str
    program: str
    title: str

    @property
    def ours(self) -> bool:
        return self.name.startswith("ringmsg")


@dataclass(frozen=True)
class Regime:
    """Traffic, which harness.c defines under the same name."""

    name: str
    title: str
    text: str
    longer: float = 1.0  # how much longer it runs, to have enough samples
    latency: bool = True  # whether latency is measured


ROWS = [
    Row("recvmsg", "sockets", "recvmsg"),
    Row("recvmsg-spin", "sockets", "recvmsg, busy polling"),
    Row("recvmmsg-8", "sockets", "recvmmsg(8)"),
    Row("recvmmsg-64", "sockets", "recvmmsg(64)"),
    Row("epoll-recvmsg", "sockets", "epoll + recvmsg"),
    Row("epoll-recvmmsg-64", "sockets", "epoll + recvmmsg(64)"),
    Row("quinn-udp", "quinn", "epoll + quinn-udp"),
    Row("uring-plain", "uring", "liburing, plain"),
    Row("uring-defer", "uring", "liburing, DEFER"),
    Row("uring-defer-100us", "uring", "liburing, DEFER, min-wait 100 us"),
    Row("recvmmsg-64-sleep-100us", "sockets", "recvmmsg(64), sleep 100 us"),
    Row("recvmmsg-64-sleep-1ms", "sockets", "recvmmsg(64), sleep 1 ms"),
    Row("epoll-recvmmsg-64-sleep-100us", "sockets", "epoll + recvmmsg(64), sleep 100 us"),
    Row("ringmsg-recvmmsg-100us", "ringmsg", "ringmsg, recvmmsg engine, 100 us"),
    Row("ringmsg-recvmmsg-auto", "ringmsg", "ringmsg, recvmmsg engine, AUTO"),
    Row("ringmsg-plain", "ringmsg", "ringmsg, plain"),
    Row("ringmsg-coop", "ringmsg", "ringmsg, COOP"),
    Row("ringmsg-defer-0", "ringmsg", "ringmsg, DEFER, linger 0"),
    Row("ringmsg-100us", "ringmsg", "ringmsg, DEFER, linger 100 us"),
    Row("ringmsg-spin", "ringmsg", "ringmsg, AUTO, spinning"),
    Row("ringmsg-auto", "ringmsg", "ringmsg, AUTO"),
]

REGIMES = [
    Regime("paced-10k", "10 k/s", "10,000 datagrams of 64 bytes a second, evenly spaced", longer=2),
    Regime("paced-50k", "50 k/s", "50,000 a second"),
    Regime("paced-200k", "200 k/s", "200,000 a second"),
    Regime("bursts", "bursts", "1,000 at once, every 10 ms"),
    Regime("saturated", "saturated", "as many as the sender can send"),
    Regime("sockets-100", "100 sockets", "100,000 a second over 100 sockets in turn"),
    Regime("drained-64", "drained, 64 B", "4,000 queued while the receiver is stopped, then drained", latency=False),
    Regime("drained-gro", "drained, GRO", "400 trains of 32 x 1200 bytes queued, then drained", latency=False),
    Regime("gro-1m", "GRO, 1 M/s", "31,250 trains of 32 x 1200 bytes a second, evenly spaced"),
    Regime("ping", "ping-pong", "one datagram, answered, and 250 us of rest; latency is the round trip", longer=2),
]

SLEEPERS = {"recvmmsg-64-sleep-100us", "recvmmsg-64-sleep-1ms"}
SPINNERS = {"recvmsg-spin", "ringmsg-spin"}
ONE_SOCKET = {"recvmsg", "recvmmsg-8", "recvmmsg-64", "recvmmsg-64-sleep-100us", "recvmmsg-64-sleep-1ms"}
NOT_IN_PING = SLEEPERS | {"recvmmsg-8", "ringmsg-recvmmsg-100us", "epoll-recvmmsg-64-sleep-100us"}

ROW = {row.name: row for row in ROWS}
REGIME = {regime.name: regime for regime in REGIMES}


def is_measured_in(regime: Regime, row: Row) -> bool:
    """Whether the row is measured in the regime. Spinning is measured for latency only, and
    sleeping before a receive is pointless with a full queue."""
    if regime.name == "ping":
        return row.name not in NOT_IN_PING
    if row.name in SPINNERS:
        return False
    if regime.name == "sockets-100":
        return row.name not in ONE_SOCKET
    return regime.latency or row.name not in SLEEPERS


def select(words: list[str]) -> list[tuple[Regime, Row]]:
    """Returns the cells named by "regime", "regime/row" or "/row", or all cells without a name."""
    cells = [(regime, row) for regime in REGIMES for row in ROWS if is_measured_in(regime, row)]
    if not words:
        return cells
    chosen: list[tuple[Regime, Row]] = []
    for word in words:
        wanted_regime, _, wanted_row = word.partition("/")
        found = [
            cell for cell in cells if wanted_regime in ("", cell[0].name) and wanted_row in ("", cell[1].name)
        ]
        if not found:
            raise SystemExit(f"no such cell: {word}; make bench-list shows them")
        chosen += [cell for cell in found if cell not in chosen]
    return [cell for cell in cells if cell in chosen]


@dataclass(frozen=True)
class Goal:
    """A ratio to reach. `against` is a row, or "" for the best peer that counts in that cell."""

    text: str
    regime: str
    limit: float
    against: str = ""
    row: str = OURS
    figure: str = "cpu_ns"


GOALS = [
    Goal("10 k/s: CPU, to the best peer", "paced-10k", 1.15),
    Goal("50 k/s: CPU, to the best peer", "paced-50k", 1.00),
    Goal("200 k/s: CPU, to the best peer", "paced-200k", 0.90),
    Goal("bursts: CPU, to the best peer", "bursts", 1.00),
    Goal("100 sockets: CPU, to the best peer", "sockets-100", 1.00),
    Goal("saturated: CPU, to the best peer", "saturated", 0.90),
    Goal("saturated: CPU, to recvmmsg(64)", "saturated", 0.65, "recvmmsg-64"),
    Goal("drained GRO: CPU, to recvmmsg(64)", "drained-gro", 0.65, "recvmmsg-64"),
    Goal("drained GRO: CPU, to recvmmsg(8)", "drained-gro", 0.90, "recvmmsg-8"),
    Goal("drained GRO: CPU, to recvmsg", "drained-gro", 1.00, "recvmsg"),
    Goal("ping-pong: p99, to epoll + recvmsg", "ping", 1.00, "epoll-recvmsg", figure="p99"),
    Goal("ping-pong: p50 spinning, to epoll + recvmsg", "ping", 0.40, "epoll-recvmsg", "ringmsg-spin", "p50"),
]


@dataclass(frozen=True)
class BindingGoal:
    """A goal for a row of the Python or Go benchmark, against the best of the rows in `against`."""

    text: str
    table: str
    row: str
    against: tuple[str, ...]
    limit: float


BINDING_GOALS = [
    BindingGoal("Python Datagrams, sources repeat, to recvmsg_into", "Python, sources repeat",
                "ringmsg Datagrams", ("recvmsg_into",), 0.70),
    BindingGoal("Python Datagrams, new sources, to recvmsg_into", "Python, each source is new",
                "ringmsg Datagrams", ("recvmsg_into",), 0.80),
    BindingGoal("Python numpy columns, to recvmsg_into", "Python, sources repeat",
                "ringmsg numpy columns", ("recvmsg_into",), 0.50),
    BindingGoal("Python endpoint, to asyncio's own", "Python, under asyncio",
                "ringmsg endpoint", ("asyncio's own",), 0.10),
    BindingGoal("Python endpoint, to uvloop's own", "Python, under uvloop",
                "ringmsg endpoint", ("uvloop's own",), 0.75),
    BindingGoal("Go Batches, to ReadMsgUDPAddrPort", "Go, 64-byte datagrams",
                "ringmsg Batches", ("net ReadMsgUDPAddrPort",), 0.65),
    BindingGoal("Go Batches, to x/net ReadBatch(64)", "Go, 64-byte datagrams",
                "ringmsg Batches", ("x/net ReadBatch(64)",), 0.85),
    BindingGoal("Go Batches with GRO, to x/net ReadBatch, best size, copying", "Go, trains of 32 x 1200 bytes",
                "ringmsg Batches, GRO", tuple(f"x/net ReadBatch({size}), GRO, copying" for size in (1, 4, 16, 64)), 0.75),
]
