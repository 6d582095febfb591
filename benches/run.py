"""Measures cells, and writes tables, this machine's file in benches/results, plots and
docs/performance.md. See bench.mk.

    python benches/run.py [CELL...] [--rounds 7] [--seconds 0.5]

A CELL is "regime", "regime/receiver", "/receiver", "dns", "linger-two", "linger-one", "python" or
"go". Without one every cell is measured but those of "dns" and "linger". New figures of a cell replace
this machine's old ones.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import bindings
import linger
import measure
import report
import responders
import summary
from cells import APPLICATIONS, REGIME, select

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benches/results"
LANGUAGES = ("python", "go")


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", metavar="CELL")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="traffic of a cell in a round")
    parser.add_argument("--programs", type=Path, default=ROOT / "build/bench")
    parser.add_argument("--json", type=Path, help="the file of figures; else this machine's in benches/results")
    parser.add_argument("--no-report", action="store_true", help="leave docs/performance.md as it is")
    parser.add_argument("--report-only", action="store_true", help="measure nothing")
    parser.add_argument("--list", action="store_true", help="show the cells")
    return parser.parse_args()


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    model = next(
        (line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    hypervisor = " in a virtual machine" if "hypervisor" in Path("/proc/cpuinfo").read_text() else ""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    # the part of the release that names the Linux version
    release = platform.release().split("-")[0]
    compiler = subprocess.run([os.environ.get("CC", "cc"), "--version"], capture_output=True, text=True).stdout
    return {
        "processor": f"{model}{hypervisor}, {os.cpu_count()} cores: receiver on core 0, sender on core 1",
        "memory": f"{memory:.0f} GiB",
        "kernel": f"Linux {release}",
        "compiler": compiler.splitlines()[0] if compiler else "unknown",
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
        ).stdout.strip() or "unknown",
        "load average when it began": f"{os.getloadavg()[0]:.2f}",
    }


def file_of(described: dict[str, Any]) -> Path:
    """This machine's file, named after its processor. Another machine's is left alone: the next
    number is taken."""
    processor = str(described["processor"]).split(":")[0]
    slug = re.sub("[^a-z0-9]+", "-", re.sub(r"\(r\)|\(tm\)|cores| in a virtual machine", "", processor.lower())).strip("-")
    for number in range(1, 100):
        path = RESULTS / (f"{slug}.json" if number == 1 else f"{slug}-no{number}.json")
        known = read(path).get("machine")
        if known is None or all(known[key] == described[key] for key in ("processor", "memory")):
            return path
    raise SystemExit(f"{RESULTS} has too many files of {slug}")


def read(path: Path) -> dict[str, Any]:
    """Reads the figures so far."""
    if path.exists():
        document: dict[str, Any] = json.loads(path.read_text())
        return document
    return {"cells": {}, "bindings": {}}


def write(path: Path, document: dict[str, Any]) -> None:
    """Writes one line per cell, so that a diff shows which figures changed."""
    head = {name: value for name, value in document.items() if name not in ("cells", "bindings")}
    lines = [f' {json.dumps(name)}: {json.dumps(value)}' for name, value in head.items()]
    for part in ("cells", "bindings"):
        groups = []
        for name, rows in document[part].items():
            inner = ",\n".join(f"   {json.dumps(row)}: {json.dumps(cell)}" for row, cell in rows.items())
            groups.append(f"  {json.dumps(name)}: {{\n{inner}\n  }}")
        lines.append(f' "{part}": {{\n' + ",\n".join(groups) + "\n }")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def command_line(given: argparse.Namespace) -> str:
    """The command that repeats the measurement."""
    targets = {"dns": "bench-dns", "relay": "bench-relay"}
    target = targets.get(" ".join(given.cells), "bench")
    words = ["make", target, f"ROUNDS={given.rounds}", f"SECONDS={given.seconds:g}"]
    if given.cells and target == "bench":
        words.append(f"CELLS={' '.join(given.cells)}")
    return shlex.join(words)


def measure_all(given: argparse.Namespace, document: dict[str, Any]) -> list[str]:
    """Measures the requested cells and stores them in the document. Returns the failures."""
    run = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    whole = not given.cells
    linger_cells = [word for word in given.cells if word.startswith("linger-")]
    c_cells = [word for word in given.cells if word not in (*LANGUAGES, *linger_cells)]
    if whole:
        kept = {name: rows for name, rows in document["cells"].items() if REGIME[name].family in APPLICATIONS}
        document["cells"], document["bindings"] = kept, {}
    describes = whole or "cells" not in document or "machine" not in document
    if describes:
        document |= {"machine": machine(), "command": command_line(given), "rounds": given.rounds,
                     "seconds": given.seconds, "date": run}
    failed: list[str] = []
    if whole or c_cells:
        found = measure.measure(given.programs, select(c_cells), given.rounds, given.seconds,
                                lambda line: print(f"\n{line}", file=sys.stderr))
        if any(REGIME[regime].family == "dns" for regime in found):
            document["dns"] = {"date": run, "command": command_line(given), "programs": responders.versions()}
        for regime, rows in found.items():
            for name, cell in rows.items():
                document["cells"].setdefault(regime, {})[name] = {"run": run} | cell
                if "error" in cell:
                    failed.append(f"{regime}/{name}: {cell['error']}")
    for word in linger_cells:
        kept = document.setdefault("linger", {}).setdefault(word.partition("/")[0], {})
        found = linger.measure_all(given.programs, word, given.rounds, given.seconds)
        kept |= {regime: {"run": run} | cell for regime, cell in found.items()}
    if whole or "python" in given.cells:
        print("Python", file=sys.stderr)
        document["bindings"] |= bindings.python(2 * given.rounds + 1)
    if whole or "go" in given.cells:
        print("Go", file=sys.stderr)
        document["bindings"] |= bindings.go(2 * given.rounds + 1, given.programs / "speed")
    ended = f"{os.getloadavg()[1]:.2f}"
    if describes:
        document["machine"]["load average when it ended"] = ended
    if document.get("dns", {}).get("date") == run:
        document["dns"]["load average when it ended"] = ended
    return failed


def finish(document: dict[str, Any]) -> None:
    """Adds what follows from the figures."""
    summary.summarize(document["cells"])
    document["goals"] = [
        {"goal": verdict.text, "at_most": verdict.limit, "measured": verdict.figure, "reached": verdict.reached}
        for verdict in summary.verdicts(document["cells"], document["bindings"])
    ]


def report_all() -> None:
    """Rewrites docs/performance.md, and a page with plots for each machine."""
    import plots  # matplotlib is slow to load, and only needed here

    documents = {path.stem: read(path) for path in sorted(RESULTS.glob("*.json"))}
    if not documents:
        raise SystemExit("nothing is measured yet: make bench")
    pages = ROOT / "docs/performance"
    pages.mkdir(exist_ok=True)
    for name, document in documents.items():
        finish(document)
        plots.draw(document, pages, name)
        report.write_page(pages / f"{name}.md", name, document)
    plots.draw_all(documents, ROOT / "docs")
    report.rewrite(ROOT / "docs/performance.md", documents)


def main() -> int:
    """Returns 0 if everything was measured, whatever the figures, and 1 if a receiver failed or
    lost datagrams."""
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was made for a cell is removed
    if given.list:
        print("\n".join(f"{regime.name}/{row.name}" for regime, row in select(["/"])), "python", "go", sep="\n")
        return 0
    failed: list[str] = []
    if not given.report_only:
        path = given.json or file_of(machine())
        document = read(path)
        failed = measure_all(given, document)
        finish(document)
        write(path, document)
        print(report.terminal(document["cells"], document["bindings"]))
    if not given.no_report:
        report_all()
    for line in failed:
        print(f"FAILED {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
