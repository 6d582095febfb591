"""AUTO against fixed lingers: make bench-linger. Prints a table, and keeps nothing.

Within a round each receiver runs once, and figures are ratios within the round. Linger 0 takes part
twice; a round in which the twins differ by more than 5 % is void."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).resolve().parent.parent / "build/bench/receive_ringmsg"
NONE, TWIN, AUTO = "ringmsg-defer-0", "ringmsg-defer-0-again", "ringmsg-auto"
FIXED = (NONE, "ringmsg-20us", "ringmsg-50us", "ringmsg-100us")
OPEN = ("paced-10k", "paced-50k", "paced-200k", "bursts", "saturated")
CLOSED = ("closed-1", "closed-16", "closed-256")
TWINS_DIFFER = 0.05


def run(row: str, regime: str, seconds: float) -> dict[str, Any]:
    """One run: what the program printed."""
    command = [str(PROGRAM), row, regime, str(seconds)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def figure(regime: str, result: dict[str, Any]) -> float:
    """What is compared: the CPU time per datagram; in a closed loop the time per answer."""
    return float(result["seconds"] / result["received"] if regime in CLOSED else result["cpu_ns"])


def measure(regime: str, rounds: int, seconds: float) -> tuple[dict[str, list[float]], int]:
    """The figures of every row, of the rounds that are valid; and how many were void."""
    rows = (*FIXED, TWIN, AUTO)
    figures: dict[str, list[float]] = {row: [] for row in rows}
    void = 0
    for number in range(rounds):
        shift = number % len(rows)
        found = {row: figure(regime, run(row, regime, seconds)) for row in rows[shift:] + rows[:shift]}
        if abs(found[TWIN] / found[NONE] - 1) > TWINS_DIFFER:
            void += 1
            continue
        for row in rows:
            figures[row].append(found[row])
    return figures, void


def line(regime: str, figures: dict[str, list[float]], void: int) -> str:
    """A row of the table."""
    valid = len(figures[AUTO])
    if valid == 0:
        return f"| {regime} | all {void} rounds are void |||||||"
    fixed = [statistics.median(figures[row]) for row in FIXED]
    base = [(a + b) / 2 for a, b in zip(figures[NONE], figures[TWIN])]
    best = FIXED[fixed.index(min(fixed))]
    against = base if regime in CLOSED else figures[best]
    ratio = statistics.median(auto / other for auto, other in zip(figures[AUTO], against))
    shown = fixed
    if regime in CLOSED:
        shown, ratio = [1 / value for value in fixed], 1 / ratio
    auto = statistics.median(figures[AUTO])
    mine = 1 / auto if regime in CLOSED else auto
    cells = " | ".join(f"{value:,.0f}" for value in [*shown, mine])
    name = "0" if regime in CLOSED else best.removeprefix("ringmsg-").replace("defer-0", "0")
    return f"| {regime} | {cells} | {name} | {ratio:.2f} | {valid} of {valid + void} |"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--processors", type=int, choices=(1, 2), default=2, help="of receiver and sender together")
    parser.add_argument("regimes", nargs="*", default=[*OPEN, *CLOSED])
    given = parser.parse_args()
    if given.processors == 1:
        os.environ["ONE_PROCESSOR"] = "1"
    print("CPU, ns per datagram; closed loops: answers per second, and AUTO's ratio is of these")
    print("| traffic | 0 us | 20 us | 50 us | 100 us | AUTO | best fixed | AUTO to it | valid rounds |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for regime in given.regimes:
        print(line(regime, *measure(regime, given.rounds, given.seconds)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
