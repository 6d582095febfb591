"""The Python and Go rows: runs the benchmarks of the bindings, which measure a drained queue with
receivers in their own language, and copies their figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
Tables = dict[str, dict[str, dict[str, Any]]]


def tables_of(command: list[str], language: str, environment: dict[str, str], where: Path) -> Tables:
    """Returns what the command wrote to the file after --json: {table: {row: {"cpu_ns": [...]}}}."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "figures.json"
        run = subprocess.run([*command, str(file)], cwd=where, env=os.environ | environment, capture_output=True, text=True)
        if run.returncode != 0 or not file.exists():
            why = (run.stderr or run.stdout).strip().splitlines()
            print(f"{language}: not measured: {why[-1] if why else run.returncode}", file=sys.stderr)
            return {}
        found: Tables = json.loads(file.read_text())
    return {f"{language}, {title}": rows for title, rows in found.items()}


def python(rounds: int) -> Tables:
    """Runs bindings/python/benchmarks/receive.py, pinned like the C receivers.

    asyncio allocates 256 KiB for each datagram. Whether glibc maps that memory each time depends
    on the layout of the heap, and decides between 4 us and 16 us. In the first run malloc keeps
    its memory, which is the good case for asyncio; the second run uses malloc's defaults."""
    keep = {"MALLOC_MMAP_THRESHOLD_": str(16 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
    folder = ROOT / "bindings/python"
    command = ["taskset", "-c", "0", sys.executable, "benchmarks/receive.py", "--rounds", str(rounds), "--json"]
    tables = tables_of(command, "Python", {"PYTHONPATH": "src"} | keep, folder)
    with_defaults = tables_of(command, "Python", {"PYTHONPATH": "src"}, folder)
    for title in with_defaults.keys() & {"Python, under asyncio"}:
        tables[f"{title}, malloc as it comes"] = with_defaults[title]
    return tables


def go(rounds: int, program: Path) -> Tables:
    """Runs bindings/go/bench/speed, which the Makefile builds. It is not pinned, because the Go
    runtime needs its threads."""
    if not program.exists():
        print(f"Go: not measured: {program.name} is not built", file=sys.stderr)
        return {}
    return tables_of([str(program), "-rounds", str(rounds), "-json"], "Go", {}, ROOT)
