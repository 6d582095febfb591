"""Medians, ratios and goals, from the values of the rounds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import BINDING_GOALS, GOALS, REGIME, ROW, BindingGoal, Goal, Regime, TWIN_OF

Cells = dict[str, dict[str, dict[str, Any]]]
INSTRUCTIONS = Path(__file__).resolve().parent / "instructions/figures.txt"
LATENCY_MARGIN = 1.10  # a peer counts for CPU if its p99 is at most this multiple of ours,
AUTO_BOUND_US = 100.0  # or within the bound that AUTO was given for its linger
FIGURES = ("cpu_ns", "dropped", "per_wait", "rate", "cpu_share", "p50", "p99", "p999")


def measured(cell: dict[str, Any] | None, figure: str = "cpu_ns") -> bool:
    """Whether the cell has that figure."""
    return bool(cell) and bool(cell and cell.get(figure))


def median(cell: dict[str, Any], figure: str) -> float:
    """The median of the rounds."""
    return float(statistics.median(cell[figure]))


def number(value: float) -> str:
    """Formats a number with three or four digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(mine: dict[str, Any], theirs: dict[str, Any], figure: str = "cpu_ns") -> float:
    """The median of the ratios within each round. For cells that were measured in different runs,
    the ratio of the medians."""
    a, b = mine[figure], theirs[figure]
    if mine.get("run") == theirs.get("run") and len(a) == len(b):
        return float(statistics.median(x / y for x, y in zip(a, b)))
    return float(statistics.median(a) / statistics.median(b))


def counts(regime: str, cells: dict[str, dict[str, Any]], name: str) -> bool:
    """Whether a peer counts in this CPU cell: its latency must not exceed ours by more than a tenth,
    or AUTO's bound, whichever is more."""
    ours, peer = cells.get(REGIME[regime].ours), cells.get(name)
    if ROW[name].ours or name in TWIN_OF.values() or not measured(peer) or peer is None or "error" in peer:
        return False
    if not REGIME[regime].latency or ours is None or not measured(ours, "p99") or not measured(peer, "p99"):
        return True
    return median(peer, "p99") <= max(LATENCY_MARGIN * median(ours, "p99"), AUTO_BOUND_US)


def best_peer(regime: str, cells: dict[str, dict[str, Any]], figure: str = "cpu_ns") -> str | None:
    """The peer that counts and needs the least."""
    peers = [name for name in cells if name in ROW and counts(regime, cells, name) and measured(cells[name], figure)]
    return min(peers, key=lambda name: median(cells[name], figure), default=None)


TWINS_DIFFER = 1.10  # a round is void where a row and its twin differ by more


def without_void_rounds(mine: dict[str, Any], theirs: dict[str, Any], twin: dict[str, Any] | None, figure: str) -> float | None:
    """The median of the ratios within each round in which a row and its twin agree; None without any."""
    if twin is None or not measured(twin, figure) or not theirs.get("run") == twin.get("run") == mine.get("run"):
        return ratio(mine, theirs, figure)
    rounds = zip(mine[figure], theirs[figure], twin[figure])
    calm = [a / b for a, b, c in rounds if max(b, c) <= TWINS_DIFFER * min(b, c)]
    return float(statistics.median(calm)) if calm else None


AHEAD, LEVEL = 0.97, 1.05  # a ratio up to the first is ahead of a peer, up to the second level with it


@dataclass
class Standing:
    """This library's row with every default, beside the best peer that counts."""

    ratio: float
    mine: float
    theirs: float
    peer: str


def standing(cells: Cells, regime: Regime) -> Standing | None:
    """None where one of the two is not measured, or no peer counts."""
    rows = cells.get(regime.name, {})
    best, mine = best_peer(regime.name, rows), rows.get(regime.ours)
    if best is None or mine is None or not measured(mine):
        return None
    return Standing(ratio(mine, rows[best]), median(mine, "cpu_ns"), median(rows[best], "cpu_ns"), best)


def summarize(cells: Cells) -> None:
    """Adds medians, extremes and the ratio to the best peer to each cell."""
    for regime, rows in cells.items():
        best = best_peer(regime, rows)
        for name, cell in rows.items():
            cell.pop("summary", None)
            if not measured(cell):
                continue
            summary: dict[str, Any] = {
                figure: [round(statistics.median(cell[figure]), 6), min(cell[figure]), max(cell[figure])]
                for figure in FIGURES
                if figure in cell
            }
            if best is not None:
                summary["ratio_to_best_peer"] = round(ratio(cell, rows[best]), 4)
                summary["best_peer"] = best
            if not ROW[name].ours:
                summary["counts"] = counts(regime, rows, name)
            cell["summary"] = summary


@dataclass
class Verdict:
    """A goal, what was measured, and the difference."""

    text: str
    limit: float
    figure: float | None
    detail: str
    alone: bool = False  # no peer counts: each is too late

    @property
    def reached(self) -> bool:
        return self.alone or self.figure is not None and self.figure <= self.limit + 0.0005

    @property
    def words(self) -> str:
        """The verdict for tables."""
        if self.alone:
            return "reached: no peer counts"
        if self.figure is None:
            return "not measured"
        if self.reached:
            return "reached"
        return f"missed by {self.figure - self.limit:.2f}"


def best_of(names: str | tuple[str, ...], rows: dict[str, dict[str, Any]], figure: str) -> str | None:
    """The row that needs the least; the one that is named, if it is one; None for no name."""
    if isinstance(names, str):
        return names or None
    found = [name for name in names if measured(rows.get(name), figure)]
    return min(found, key=lambda name: median(rows[name], figure), default=names[0])


def judge(goal: Goal, cells: Cells) -> Verdict:
    """Judges one goal of the C rows."""
    rows = cells.get(goal.regime, {})
    against = best_of(goal.against, rows, goal.figure) or best_peer(goal.regime, rows)
    mine = rows.get(goal.row or REGIME[goal.regime].ours)
    theirs = rows.get(against) if against else None
    if against is None and measured(mine) and any(not ROW[name].ours and measured(rows[name]) for name in rows):
        return Verdict(goal.text, goal.limit, None, "every peer is too late", alone=True)
    if mine is None or theirs is None or not measured(mine, goal.figure) or not measured(theirs, goal.figure):
        return Verdict(goal.text, goal.limit, None, "")
    unit = "ns" if goal.figure == "cpu_ns" else "us"
    name = ROW[against].title if against else ""
    detail = f"{number(median(mine, goal.figure))} {unit}; {name}: {number(median(theirs, goal.figure))}"
    if against in TWIN_OF:
        found = without_void_rounds(mine, theirs, rows.get(TWIN_OF[against]), goal.figure)
        return Verdict(goal.text, goal.limit, found, detail if found is not None else "the peer and its twin differ in every round")
    return Verdict(goal.text, goal.limit, ratio(mine, theirs, goal.figure), detail)


def judge_binding(goal: BindingGoal, tables: dict[str, dict[str, dict[str, Any]]]) -> Verdict:
    """Judges one goal of the Python or Go rows."""
    table = tables.get(goal.table, {})
    peers = [name for name in goal.against if measured(table.get(name))]
    if not peers or not measured(table.get(goal.row)):
        return Verdict(goal.text, goal.limit, None, "")
    best = min(peers, key=lambda name: median(table[name], "cpu_ns"))
    mine, theirs = table[goal.row], table[best]
    detail = f"{number(median(mine, 'cpu_ns'))} ns; {best}: {number(median(theirs, 'cpu_ns'))}"
    return Verdict(goal.text, goal.limit, ratio(mine, theirs), detail)


def judge_drops(cells: Cells) -> Verdict:
    """The drop share of ours above that of the best peer, in the regime where the difference is
    largest."""
    worst, detail = None, ""
    for regime, rows in cells.items():
        peers = [name for name in rows if not ROW[name].ours and measured(rows[name], "dropped")]
        ours = REGIME[regime].ours
        if not peers or not measured(rows.get(ours), "dropped"):
            continue
        mine = median(rows[ours], "dropped")
        best = min(peers, key=lambda name: median(rows[name], "dropped"))
        above = mine - median(rows[best], "dropped")
        if worst is None or above > worst:
            worst = above
            detail = f"most in {REGIME[regime].title}: {mine:.2%}; {ROW[best].title}: {median(rows[best], 'dropped'):.2%}"
    return Verdict("dropped share, above the best peer's", 0.0, worst, detail)


def judge_engine(cells: Cells) -> Verdict:
    """The recvmmsg engine against the same loop written by hand, in the regime where the ratio is
    worst."""
    mine, theirs = "ringmsg-recvmmsg-100us", "epoll-recvmmsg-64-sleep-100us"
    worst, detail = None, ""
    for regime, rows in cells.items():
        if not measured(rows.get(mine)) or not measured(rows.get(theirs)):
            continue
        found = ratio(rows[mine], rows[theirs])
        if worst is None or found > worst:
            worst, detail = found, f"worst in {REGIME[regime].title}: {number(median(rows[mine], 'cpu_ns'))} ns; " \
                f"{ROW[theirs].title}: {number(median(rows[theirs], 'cpu_ns'))}"
    return Verdict("recvmmsg engine, 100 us: CPU, to the same by hand", 1.05, worst, detail)


def judge_instructions() -> Verdict:
    """The instructions of the library itself, counted by callgrind: `make instructions` writes the
    file."""
    text, limit = "instructions per record, metadata and release, to a loop by hand", 1.20
    for line in INSTRUCTIONS.read_text().splitlines() if INSTRUCTIONS.exists() else []:
        if line.startswith("metadata"):
            mine, theirs = (float(part.split()[-1]) for part in line.split("|")[:2])
            return Verdict(text, limit, mine / theirs, f"{mine:.0f} instructions; by hand: {theirs:.0f}")
    return Verdict(text, limit, None, "")


def verdicts(cells: Cells, tables: dict[str, dict[str, dict[str, Any]]]) -> list[Verdict]:
    """Judges all goals."""
    return (
        [judge(goal, cells) for goal in GOALS]
        + [judge_drops(cells), judge_engine(cells), judge_instructions()]
        + [judge_binding(goal, tables) for goal in BINDING_GOALS]
    )
