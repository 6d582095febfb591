"""AUTO beside fixed lingers, with receiver and sender on two processors and on one: `make bench-linger`.

Within a round each receiver runs once, and figures are ratios within the round. Linger 0 is the first
and the last of a round; a round in which these twins differ by more than 5 % is void. Rounds are
repeated until enough are valid, or three times as many were tried."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

NONE, TWIN, AUTO = "ringmsg-defer-0", "ringmsg-defer-0-again", "ringmsg-auto"
FIXED = (NONE, "ringmsg-20us", "ringmsg-50us", "ringmsg-100us")
OPEN = {"paced-10k": "10 k/s", "paced-50k": "50 k/s", "paced-200k": "200 k/s", "bursts": "bursts", "saturated": "saturated"}
CLOSED = {"closed-1": "1 client that waits", "closed-16": "16 clients that wait", "closed-256": "256 clients that wait"}
TITLES = OPEN | CLOSED
PROCESSORS = {"linger-two": 2, "linger-one": 1}
TWINS_DIFFER = 0.05
TRIES = 3  # at most this many times the valid rounds that are asked for
CLOSED_GOAL = 0.97  # of the rate with linger 0, at least


def goal(regime: str, processors: int) -> float:
    """AUTO's CPU time to that of the best fixed linger, at most; in a closed loop its rate to that of
    linger 0, at least."""
    if regime in CLOSED:
        return CLOSED_GOAL
    return (1.15 if processors == 2 else 1.25) if regime == "bursts" else (1.08 if processors == 2 else 1.15)


def run(programs: Path, row: str, regime: str, seconds: float, processors: int) -> float:
    """The CPU time per datagram, in ns; in a closed loop the time per answer, in s."""
    environment = os.environ | ({"ONE_PROCESSOR": "1"} if processors == 1 else {})
    command = [str(programs / "receive_ringmsg"), row, regime, str(seconds)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    found: dict[str, Any] = json.loads(printed)
    return float(found["seconds"] / found["received"] if regime in CLOSED else found["cpu_ns"])


def measure(programs: Path, regime: str, rounds: int, seconds: float, processors: int) -> dict[str, Any]:
    """The figures of every row in the valid rounds, and how many rounds were void."""
    between = [AUTO] if regime in CLOSED else [*FIXED[1:], AUTO]
    figures: dict[str, list[float]] = {row: [] for row in (NONE, *between, TWIN)}
    void = 0
    while len(figures[AUTO]) < rounds and void + len(figures[AUTO]) < TRIES * rounds:
        shift = (void + len(figures[AUTO])) % len(between)
        order = [NONE, *between[shift:], *between[:shift], TWIN]
        found = {row: run(programs, row, regime, seconds, processors) for row in order}
        if abs(found[TWIN] / found[NONE] - 1) > TWINS_DIFFER:
            void += 1
            continue
        for row, value in found.items():
            figures[row].append(value)
    return {"rows": figures, "void": void}


def measure_all(programs: Path, word: str, rounds: int, seconds: float) -> dict[str, Any]:
    """What `word` names: "linger-two" or "linger-one", or one traffic of it ("linger-two/bursts")."""
    name, _, only = word.partition("/")
    if name not in PROCESSORS or only not in ("", *TITLES):
        raise SystemExit(f"no such cell: {word}; it is linger-two or linger-one, or one of these with /{', /'.join(TITLES)}")
    found: dict[str, Any] = {}
    for regime in [only] if only else list(TITLES):
        found[regime] = {"rounds": rounds, "seconds": seconds} | measure(programs, regime, rounds, seconds, PROCESSORS[name])
        print(" | ".join(line(regime, found[regime], PROCESSORS[name])), file=sys.stderr, flush=True)
    return found


HEAD = ["traffic", "0 us", "20 us", "50 us", "100 us", "AUTO", "best fixed linger", "AUTO to it", "goal", "valid rounds"]


def line(regime: str, cell: dict[str, Any], processors: int) -> list[str]:
    """A row of the table: CPU time in ns per datagram; in a closed loop answers per second."""
    figures, void = cell["rows"], cell["void"]
    valid = len(figures[AUTO])
    counted = f"{valid} of {valid + void}"
    if valid == 0:
        return [TITLES[regime], *["-"] * (len(HEAD) - 2), counted]
    base = [(a + b) / 2 for a, b in zip(figures[NONE], figures[TWIN])]
    bound = f"{goal(regime, processors):.2f}"
    if regime in CLOSED:
        ratio = statistics.median(zero / auto for auto, zero in zip(figures[AUTO], base))
        rates = [f"{1 / statistics.median(values):,.0f}" for values in (base, figures[AUTO])]
        return [TITLES[regime], rates[0], "-", "-", "-", rates[1], "0 us", f"{ratio:.2f}", f"at least {bound}", counted]
    medians = {row: statistics.median(figures[row]) for row in FIXED}
    best = min(medians, key=lambda row: medians[row])
    against = base if best == NONE else figures[best]
    ratio = statistics.median(auto / other for auto, other in zip(figures[AUTO], against))
    shown = [f"{value:,.0f}" for value in (*medians.values(), statistics.median(figures[AUTO]))]
    name = "0 us" if best == NONE else best.removeprefix("ringmsg-").replace("us", " us")
    return [TITLES[regime], *shown, name, f"{ratio:.2f}", f"at most {bound}", counted]


def tables(document: dict[str, Any]) -> dict[str, list[list[str]]]:
    """The tables of a machine's page, by title. A table may have been measured in parts."""
    titles = {"linger-two": "Receiver and sender on two processors", "linger-one": "Receiver and sender on one processor"}
    result = {}
    for word, title in titles.items():
        if found := document.get("linger", {}).get(word):
            cells = [found[regime] for regime in TITLES if regime in found]
            commands = {f"`make bench-linger ROUNDS={cell['rounds']} SECONDS={cell['seconds']:g}`" for cell in cells}
            days = {cell["run"][:10] for cell in cells}
            rows = [line(regime, found[regime], PROCESSORS[word]) for regime in TITLES if regime in found]
            result[f"{title} ({', '.join([*sorted(commands), *sorted(days)])})"] = [HEAD, *rows]
    return result
