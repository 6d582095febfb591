"""Runs cells in rounds. Within a round every receiver runs once on the same traffic."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import relays
import responders
from cells import Regime, Row

# Seconds for starting the processes, warm-up, markers and teardown, for the first estimate of the
# time left.
OVERHEAD = 0.25
NOT_SUPPORTED = 77
Cell = tuple[Regime, Row]


def run_once(programs: Path, regime: Regime, row: Row, seconds: float) -> dict[str, Any]:
    """Runs one cell once. Returns what the program printed, {"not_supported": why}, or {"error":
    why}."""
    if regime.family == "dns":
        return responders.run_once(programs, regime, row, seconds * regime.longer)
    if regime.family == "relay":
        return relays.run_once(programs, regime, row, seconds * regime.longer)
    program = programs / f"{row.family}_{row.program}"
    if not program.exists():
        return {"not_supported": f"{program.name} is not built"}
    command = [str(program), row.name, regime.name, f"{seconds * regime.longer:.4f}"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=60 + 2 * seconds * regime.longer)
    except subprocess.TimeoutExpired:
        return {"error": "hangs"}
    try:
        result: dict[str, Any] = json.loads(run.stdout)
    except ValueError:
        return {"error": run.stderr.strip() or f"exit status {run.returncode}"}
    if "wrong" in result:
        return {"error": f"{result['wrong']}: {run.stdout.strip()}"}
    if run.returncode not in (0, NOT_SUPPORTED):
        return {"error": run.stderr.strip()}
    return result


def columns(result: dict[str, Any]) -> dict[str, float]:
    """The figures that are kept of a run."""
    kept = {
        "cpu_ns": result["cpu_ns"],
        "dropped": 1 - result["received"] / max(result["sent"], 1),
        "per_wait": result["per_wait"],
        "rate": result["sent"] / result["seconds"],
        "cpu_share": result["cpu_share"],
    }
    if "latency" in result:
        names = ("p50", "p99", "p999", "usual_p99")
        kept |= {name: result["latency"][name] for name in names if name in result["latency"]}
    return kept


class Progress:
    """Prints which cell runs and how long the rest will take: one line on a terminal, otherwise one
    line per round."""

    def __init__(self, total: int, seconds: float) -> None:
        self.total, self.seconds, self.done = total, seconds, 0
        self.start = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def left(self) -> str:
        """An estimate at first, then an extrapolation from the cells so far."""
        elapsed = time.monotonic() - self.start
        left = self.seconds if self.done < 10 else elapsed / self.done * (self.total - self.done)
        return f"{int(left) // 60}:{int(left) % 60:02} left"

    def step(self, round_number: int, rounds: int, regime: Regime, row: Row) -> None:
        """Announces the next cell."""
        line = f"{self.done + 1} of {self.total}, round {round_number} of {rounds}, {self.left()}"
        self.done += 1
        if self.terminal:
            print(f"\r\033[K{line}: {regime.name}/{row.name}", end="", file=sys.stderr, flush=True)
        elif (self.done - 1) % max(self.total // max(rounds, 1), 1) == 0:
            print(line, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Clears the line."""
        if self.terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def round_order(cells: list[Cell], round_number: int) -> list[Cell]:
    """The order of a round: regime by regime, with the rows rotated, so that no row is always
    first."""
    order: list[Cell] = []
    for regime in dict.fromkeys(regime for regime, _ in cells):
        rows = [cell for cell in cells if cell[0] is regime]
        shift = int(round_number * 0.618 * len(rows)) % len(rows)
        order += rows[shift:] + rows[:shift]
    return order


def measure(
    programs: Path, cells: list[Cell], rounds: int, seconds: float, log: Callable[[str], None] = lambda _: None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns the cells' columns, with one value per round: {regime: {row: {"cpu_ns": [...],
    ...}}}. Ctrl-C ends it early, after the last complete round."""
    results: dict[str, dict[str, dict[str, Any]]] = {}
    guess = rounds * sum(seconds * regime.longer + OVERHEAD for regime, _ in cells)
    progress = Progress(rounds * len(cells), guess)
    try:
        for number in range(rounds):
            found: list[tuple[Cell, dict[str, Any]]] = []
            for regime, row in round_order(cells, number):
                known = results.get(regime.name, {}).get(row.name, {})
                progress.step(number + 1, rounds, regime, row)
                if "not_supported" in known:
                    continue
                result = run_once(programs, regime, row, seconds)
                if "error" in result:  # once more, because the fault may be temporary
                    log(f"{regime.name}/{row.name}: {result['error']}; again")
                    result = run_once(programs, regime, row, seconds)
                found.append(((regime, row), result))
            for (regime, row), result in found:
                add(results, regime, row, result)
    except KeyboardInterrupt:
        log("interrupted: the rounds so far are kept")
    progress.end()
    return results


def add(results: dict[str, dict[str, dict[str, Any]]], regime: Regime, row: Row, result: dict[str, Any]) -> None:
    """Adds one run to its cell."""
    cell = results.setdefault(regime.name, {}).setdefault(row.name, {})
    if "not_supported" in result or "error" in result:
        cell.update(result)
        return
    for name, value in columns(result).items():
        cell.setdefault(name, []).append(round(value, 6))
