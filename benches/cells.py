"""What is measured: receivers and servers (rows), traffic (regimes), their combinations, and the
goals. A family of rows and regimes has a harness of its own: "receive" takes datagrams in, "answer"
answers them, "dns" answers DNS queries of dnsperf (responders.py), "relay" is a program that relays
in both directions (relays.py)."""

from __future__ import annotations

from dataclasses import dataclass

OURS = "ringmsg-auto"
# The row of a family that has every default.
OURS_OF = {"receive": OURS, "answer": "ringmsg-answer-auto", "dns": "ringmsg-dns-auto", "relay": "ringmsg-relay-auto"}
APPLICATIONS = {"dns", "relay"}  # families that `make bench` leaves to commands of their own


@dataclass(frozen=True)
class Row:
    """A receiver or server: a variant of one of the C programs, or a whole program ("dns")."""

    name: str
    program: str
    title: str
    family: str = "receive"
    arguments: tuple[str, ...] = ()  # of a whole program, behind those of every cell

    @property
    def ours(self) -> bool:
        return self.name.startswith("ringmsg")


@dataclass(frozen=True)
class Regime:
    """Traffic, which the family's harness.c defines under the same name."""

    name: str
    title: str
    text: str
    longer: float = 1.0  # how much longer it runs, to have enough samples
    latency: bool = True  # whether latency is measured
    family: str = "receive"

    @property
    def ours(self) -> str:
        """The row of this library with every default."""
        return OURS_OF[self.family]


ROWS = [
    Row("recvmsg", "sockets", "recvmsg"),
    Row("recvmsg-spin", "sockets", "recvmsg, busy polling"),
    Row("recvmmsg-8", "sockets", "recvmmsg(8)"),
    Row("recvmmsg-64", "sockets", "recvmmsg(64)"),
    Row("epoll-recvmsg", "sockets", "epoll + recvmsg"),
    Row("epoll-recvfrom", "sockets", "epoll + recvfrom"),
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
    Row("answer-recvfrom-sendto", "sockets", "recvfrom + sendto", "answer"),
    Row("answer-recvmmsg-64", "sockets", "recvmmsg(64) + sendmmsg", "answer"),
    Row("answer-recvmmsg-64-without-gro", "sockets", "recvmmsg(64) + sendmmsg, no GRO", "answer"),
    Row("answer-epoll-recvmmsg-64", "sockets", "epoll + recvmmsg(64) + sendmmsg", "answer"),
    Row("answer-epoll-recvmmsg-64-twin", "sockets", "epoll + recvmmsg(64) + sendmmsg, once more", "answer"),
    Row("answer-recvmmsg-64-grouped", "sockets", "recvmmsg(64), grouped", "answer"),
    Row("answer-recvmmsg-512-grouped", "sockets", "recvmmsg(512), grouped", "answer"),
    Row("answer-quinn-udp", "quinn", "epoll + quinn-udp", "answer"),
    Row("answer-uring-sqes", "uring", "liburing, DEFER, send SQEs", "answer"),
    Row("ringmsg-answer-recvmmsg", "ringmsg", "ringmsg, recvmmsg engine", "answer"),
    Row("ringmsg-answer-0", "ringmsg", "ringmsg, DEFER, linger 0", "answer"),
    Row("ringmsg-answer-auto", "ringmsg", "ringmsg, AUTO", "answer"),
    Row("dns-recvfrom-sendto", "dns_recvfrom", "recvfrom + sendto", "dns"),
    Row("dns-recvmmsg-64", "dns_recvmmsg", "recvmmsg(64) + sendmmsg", "dns"),
    Row("dns-nsd", "nsd", "nsd", "dns"),
    Row("dns-knot", "knotd", "knot", "dns"),
    Row("ringmsg-dns-0", "dns_responder", "ringmsg, linger 0", "dns", ("0",)),
    Row("ringmsg-dns-auto", "dns_responder", "ringmsg, AUTO", "dns"),
    Row("relay-recvmmsg-64", "relay_recvmmsg", "recvmmsg(64) + sendmmsg", "relay"),
    Row("relay-grouped", "relay_grouped", "recvmmsg(512), GRO, grouped", "relay"),
    Row("ringmsg-relay-auto", "udp_relay", "ringmsg, udp_relay", "relay"),
]

REGIMES = [
    Regime("paced-10k", "10 k/s", "10,000 datagrams of 64 bytes a second, evenly spaced", longer=2),
    Regime("paced-50k", "50 k/s", "50,000 a second"),
    Regime("paced-200k", "200 k/s", "200,000 a second"),
    Regime("bursts", "bursts", "1,000 at once, every 10 ms"),
    Regime("saturated", "saturated", "as many as the sender can send"),
    Regime("sockets-100", "100 sockets", "100,000 a second over 100 sockets in turn"),
    Regime("sockets-1k", "1,000 sockets", "100,000 a second over 1,000 sockets in turn, payload and source only; counting "
           "starts after a second"),
    Regime("sockets-10k", "10,000 sockets", "the same over 10,000 sockets"),
    Regime("drained-64", "drained, 64 B", "4,000 queued while the receiver is stopped, then drained", latency=False),
    Regime("drained-gro", "drained, GRO", "400 trains of 32 x 1200 bytes queued, then drained", latency=False),
    Regime("gro-1m", "GRO, 1 M/s", "31,250 trains of 32 x 1200 bytes a second, evenly spaced"),
    Regime("ping", "ping-pong", "one datagram, answered, and 250 us of rest; latency is the round trip", longer=2),
    Regime("echo-turn", "echo, peers in turn", "4,096 questions of 64 bytes from 128 peers in turn, queued while the "
           "server is stopped, then answered", latency=False, family="answer"),
    Regime("echo-row", "echo, in a row", "the same from 16 peers, 32 in a row each", latency=False, family="answer"),
    Regime("echo-once", "echo, every peer once", "the same from 4,096 peers", latency=False, family="answer"),
    Regime("relay-1200", "relay", "4,000 datagrams of 1200 bytes of 200 flows in turn, queued, then sent on to each flow's "
           "far end", latency=False, family="answer"),
    Regime("relay-trains", "relay, trains", "400 trains of 10 x 1200 bytes, as QUIC stacks send them, of the 200 flows, queued, "
           "then sent on, with GRO", latency=False, family="answer"),
    Regime("echo-trains", "echo, trains", "128 trains of 32 x 1200 bytes of 16 peers, queued, then answered, with GRO",
           latency=False, family="answer"),
    Regime("echo-50k", "echo, 50 k/s", "50,000 questions a second from 128 peers in turn; latency is the round trip",
           family="answer"),
    Regime("echo-200k", "echo, 200 k/s", "200,000 a second, or as many as the clients' processor can send and check",
           family="answer"),
    *(Regime(f"dns-{name}-{processors}", f"DNS, {title}, {shared}", f"{text}; {where}", family="dns")
      for processors, shared, where in (("one", "1 processor", "server and dnsperf share one processor"),
                                        ("two", "2 processors", "the server on one processor, dnsperf on the other"))
      for name, title, text in (("10k", "10 k/s", "10,000 queries a second"), ("100k", "100 k/s", "100,000 queries a second, "
                                 "or as many as dnsperf can send and the server answer"),
                                ("max", "highest", "as many queries as are answered, less than 0.1 % lost"))),
    Regime("udp-relay", "udp_relay", "200 flows: 4,000 datagrams of 1200 bytes in each direction, of the flows in turn, queued "
           "while the relay is stopped, then relayed", latency=False, family="relay"),
    Regime("udp-relay-trains", "udp_relay, trains", "the same, sent as trains of 10, as QUIC stacks do", latency=False,
           family="relay"),
]

SLEEPERS = {"recvmmsg-64-sleep-100us", "recvmmsg-64-sleep-1ms"}
SPINNERS = {"recvmsg-spin", "ringmsg-spin"}
ONE_SOCKET = {"recvmsg", "recvmmsg-8", "recvmmsg-64", "recvmmsg-64-sleep-100us", "recvmmsg-64-sleep-1ms"}
MANY_SOCKETS = {"sockets-1k", "sockets-10k"}
IN_MANY_SOCKETS = {
    "epoll-recvfrom", "epoll-recvmmsg-64", "uring-defer", "ringmsg-recvmmsg-auto", "ringmsg-defer-0", "ringmsg-100us", OURS,
}
NOT_IN_PING = SLEEPERS | {"recvmmsg-8", "ringmsg-recvmmsg-100us", "epoll-recvmmsg-64-sleep-100us"}

# A row that is measured twice: how much the two differ is what a goal can be judged by.
TWIN_OF = {"answer-epoll-recvmmsg-64": "answer-epoll-recvmmsg-64-twin"}

ROW = {row.name: row for row in ROWS}
REGIME = {regime.name: regime for regime in REGIMES}


def is_measured_in(regime: Regime, row: Row) -> bool:
    """Whether the row is measured in the regime. Spinning is measured for latency only, and
    sleeping before a receive is pointless with a full queue."""
    if row.family != regime.family:
        return False
    if row.name == "answer-recvmmsg-64-without-gro":
        return regime.name == "relay-trains"
    if row.name in TWIN_OF.values():
        return regime.latency
    if regime.family != "receive":
        return True
    if regime.name in MANY_SOCKETS or row.name == "epoll-recvfrom":
        return regime.name in MANY_SOCKETS and row.name in IN_MANY_SOCKETS
    if regime.name == "ping":
        return row.name not in NOT_IN_PING
    if row.name in SPINNERS:
        return False
    if regime.name == "sockets-100":
        return row.name not in ONE_SOCKET
    return regime.latency or row.name not in SLEEPERS


def select(words: list[str]) -> list[tuple[Regime, Row]]:
    """Returns the cells named by "family", "regime", "regime/row" or "/row"; without a name all cells
    but those of applications."""
    cells = [(regime, row) for regime in REGIMES for row in ROWS if is_measured_in(regime, row)]
    if not words:
        return [cell for cell in cells if cell[0].family not in APPLICATIONS]
    chosen: list[tuple[Regime, Row]] = []
    for word in words:
        wanted_regime, _, wanted_row = word.partition("/")
        found = [
            cell for cell in cells
            if wanted_regime in ("", cell[0].name, cell[0].family) and wanted_row in ("", cell[1].name)
        ]
        if not found:
            raise SystemExit(f"no such cell: {word}; make bench-list shows them")
        chosen += [cell for cell in found if cell not in chosen]
    return [cell for cell in cells if cell in chosen]


@dataclass(frozen=True)
class Goal:
    """A ratio to reach. `against` is a row, or several, of which the best is taken; empty: the best
    peer that counts in that cell. `row` empty: this library's row with every default. Where `against`
    has a twin, rounds in which the two differ are void."""

    text: str
    regime: str
    limit: float
    against: str | tuple[str, ...] = ""
    row: str = ""
    figure: str = "cpu_ns"


HAND_GROUPED = ("answer-recvmmsg-64-grouped", "answer-recvmmsg-512-grouped")
EPOLL_MANY = ("epoll-recvfrom", "epoll-recvmmsg-64")
FIXED = ("ringmsg-defer-0", "ringmsg-100us")


GOALS = [
    Goal("10 k/s: CPU, to recvmsg", "paced-10k", 1.05, "recvmsg"),
    Goal("10 k/s: CPU, to the best peer", "paced-10k", 1.15),
    Goal("50 k/s: CPU, to the best peer", "paced-50k", 1.00),
    Goal("200 k/s: CPU, to the best peer", "paced-200k", 0.90),
    Goal("bursts: CPU, to the best peer", "bursts", 1.00),
    Goal("100 sockets: CPU, to the best peer", "sockets-100", 1.00),
    Goal("saturated: CPU, to the best peer", "saturated", 0.90),
    Goal("saturated: CPU, to recvmmsg(64)", "saturated", 0.65, "recvmmsg-64"),
    Goal("drained GRO: CPU, to recvmmsg(64)", "drained-gro", 0.70, "recvmmsg-64"),
    Goal("drained GRO: CPU, to recvmmsg(8)", "drained-gro", 1.00, "recvmmsg-8"),
    Goal("drained GRO: CPU, to recvmsg", "drained-gro", 1.10, "recvmsg"),
    Goal("ping-pong: p99, to epoll + recvmsg", "ping", 1.00, "epoll-recvmsg", figure="p99"),
    Goal("ping-pong: p50 spinning, to epoll + recvmsg", "ping", 0.40, "epoll-recvmsg", "ringmsg-spin", "p50"),
    Goal("1,000 sockets: CPU, to epoll", "sockets-1k", 1.00, EPOLL_MANY),
    Goal("10,000 sockets: CPU, to epoll", "sockets-10k", 1.00, EPOLL_MANY),
    Goal("1,000 sockets: CPU, to the best fixed linger", "sockets-1k", 1.05, FIXED),
    Goal("10,000 sockets: CPU, to the best fixed linger", "sockets-10k", 1.05, FIXED),
    Goal("echo, in turn: CPU, to recvmmsg(64) + sendmmsg", "echo-turn", 0.70, "answer-recvmmsg-64"),
    Goal("echo, in turn: CPU, to the best grouped by hand", "echo-turn", 1.03, HAND_GROUPED),
    Goal("echo, in a row: CPU, to recvmmsg(64) + sendmmsg", "echo-row", 0.42, "answer-recvmmsg-64"),
    Goal("echo, in a row: CPU, to the best grouped by hand", "echo-row", 1.08, HAND_GROUPED),
    Goal("echo, once: CPU, to recvmmsg(64) + sendmmsg", "echo-once", 1.02, "answer-recvmmsg-64"),
    Goal("echo, once: CPU, to the best grouped by hand", "echo-once", 1.03, HAND_GROUPED),
    Goal("relay: CPU, to recvmmsg(64) + sendmmsg", "relay-1200", 0.60, "answer-recvmmsg-64"),
    Goal("relay: CPU, to the best grouped by hand", "relay-1200", 1.03, HAND_GROUPED),
    Goal("relay, trains: CPU, to recvmmsg(64) + sendmmsg without GRO", "relay-trains", 0.60,
         "answer-recvmmsg-64-without-gro"),
    Goal("relay, trains: CPU, to recvmmsg(64) + sendmmsg with GRO", "relay-trains", 1.03, "answer-recvmmsg-64"),
    Goal("echo, 50 k/s, linger 0: usual p99, to epoll + recvmmsg + sendmmsg", "echo-50k", 1.05, "answer-epoll-recvmmsg-64",
         "ringmsg-answer-0", "usual_p99"),
    Goal("echo, 200 k/s, linger 0: usual p99, to epoll + recvmmsg + sendmmsg", "echo-200k", 1.05, "answer-epoll-recvmmsg-64",
         "ringmsg-answer-0", "usual_p99"),
    *(Goal(f"{regime.title}: {text}, to recvmmsg(64) + sendmmsg", regime.name, limit, "dns-recvmmsg-64", figure=figure)
      for regime in REGIMES if regime.family == "dns"
      for text, limit, figure in (("CPU", 0.92, "cpu_ns"), ("p99", 1.05, "p99"))),
    *(Goal(f"{title}: CPU, to {text}", regime, limit, row)
      for regime, title in (("udp-relay", "udp_relay"), ("udp-relay-trains", "udp_relay, trains"))
      for text, limit, row in (("recvmmsg(64) + sendmmsg", 0.60, "relay-recvmmsg-64"), ("the same, grouped", 1.03, "relay-grouped"))),
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
