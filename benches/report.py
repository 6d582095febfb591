"""Tables: for the terminal, and the generated sections of docs/performance.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cells import OURS, REGIMES, ROW, ROWS, Regime
from summary import Cells, best_peer, counts, measured, median, number, verdicts

Tables = dict[str, dict[str, dict[str, Any]]]
PLOTS = [
    ("cpu", "CPU time per datagram in every regime"),
    ("latency", "Latency: median, 99th and 99.9th percentile"),
    ("tradeoff", "CPU time against 99th percentile of latency"),
    ("bindings", "CPU time per datagram in Python and Go"),
]


def aligned(rows: list[list[str]]) -> str:
    """Formats a table as text: the first column left-aligned, the others right-aligned."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths)))
        for row in rows
    )


def markdown(rows: list[list[str]], left: int = 1) -> str:
    """Formats a table as Markdown, with `left` columns left-aligned."""
    rule = ["---"] * left + ["---:"] * (len(rows[0]) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], rule, *rows[1:]])


def overview(cells: Cells) -> list[list[str]]:
    """CPU time per datagram, one line per receiver, one column per regime. A figure in brackets is
    of a peer that is later than ours, and so does not count."""
    regimes = [regime for regime in REGIMES if regime.name in cells]
    rows = [["ns per datagram", *(regime.title for regime in regimes)]]
    for row in ROWS:
        line = [row.title]
        for regime in regimes:
            cell = cells[regime.name].get(row.name)
            if cell is None or not measured(cell):
                line.append("-")
                continue
            text = number(median(cell, "cpu_ns"))
            passed = row.ours or counts(regime.name, cells[regime.name], row.name)
            line.append(text if passed else f"({text})")
        if any(text != "-" for text in line[1:]):
            rows.append(line)
    return rows


def ranges(cell: dict[str, Any], figure: str) -> str:
    """The median, with the extremes in brackets."""
    low, high = min(cell[figure]), max(cell[figure])
    return f"{number(median(cell, figure))} ({number(low)}-{number(high)})"


def details(regime: Regime, cells: Cells) -> list[list[str]]:
    """The table of one regime."""
    rows = cells[regime.name]
    best = best_peer(regime.name, rows)
    ping = regime.name == "ping"
    table = [["receiver", "CPU ns", "to best peer", "dropped", "per wake-up", "p50 us", "p99 us", "p99.9 us"]]
    for row in ROWS:
        cell = rows.get(row.name)
        if cell is None:
            continue
        if not measured(cell):
            table.append([row.title, "failed" if "error" in cell else "not supported", *["-"] * 6])
            continue
        mark = "" if row.ours or ping or counts(regime.name, rows, row.name) else " *"
        latency = [ranges(cell, figure) if regime.latency and figure in cell else "-" for figure in ("p50", "p99", "p999")]
        to_best = cell.get("summary", {}).get("ratio_to_best_peer") if best else None
        table.append([
            f"**{row.title}**" if row.name in (OURS, best) else row.title + mark,
            ranges(cell, "cpu_ns"),
            f"{to_best:.2f}" if to_best is not None else "-",
            f"{median(cell, 'dropped'):.2%}",
            number(median(cell, "per_wait")),
            *latency,
        ])
    return table


def goal_rows(cells: Cells, tables: Tables) -> list[list[str]]:
    """The table of the goals: goal, figure, verdict."""
    rows = [["goal", "at most", "measured", "", "medians"]]
    for verdict in verdicts(cells, tables):
        figure = "-" if verdict.figure is None else f"{verdict.figure:.2f}"
        rows.append([verdict.text, f"{verdict.limit:.2f}", figure, verdict.words, verdict.detail])
    return rows


def binding_tables(tables: Tables) -> dict[str, list[list[str]]]:
    """The Python and Go tables, with ratios to the first row."""
    result: dict[str, list[list[str]]] = {}
    for title, unordered in tables.items():
        rows = {name: unordered[name] for name in sorted(unordered, key=lambda name: "ringmsg" in name)}
        first = next((row for row in rows.values() if measured(row)), None)
        table = [["", "CPU ns", f"to {next(iter(rows), '')}"]]
        for name, row in rows.items():
            if not measured(row) or first is None:
                table.append([name, row.get("not_supported", "not measured"), "-"])
                continue
            share = median(row, "cpu_ns") / median(first, "cpu_ns")
            table.append([f"**{name}**" if "ringmsg" in name else name, ranges(row, "cpu_ns"), f"{share:.2f}"])
        result[title] = table
    return result


def terminal(cells: Cells, tables: Tables) -> str:
    """What `make bench` prints at the end."""
    parts = []
    if cells:
        parts += [aligned(overview(cells)), "(in brackets: later than ringmsg, AUTO by more than a tenth at the 99th "
                  "percentile; such a peer does not count)"]
        for regime in REGIMES:
            if regime.name in cells:
                parts.append(f"{regime.title}: {regime.text}\n" + aligned(details(regime, cells)).replace("**", "  "))
    parts += [f"{title}\n" + aligned(rows).replace("**", "  ") for title, rows in binding_tables(tables).items()]
    parts.append(aligned([row[:4] for row in goal_rows(cells, tables)]))
    return "\n\n".join(parts)


def conditions(document: dict[str, Any]) -> str:
    """Where, when and how the figures were measured."""
    machine = document["machine"]
    rows = [["", ""], *([name, str(value)] for name, value in machine.items())]
    rows += [["command", f"`{document['command']}`"], ["rounds", str(document["rounds"])],
             ["seconds per cell and round", str(document["seconds"])], ["measured", document["date"]]]
    runs = {cell.get("run") for cell_rows in document["cells"].values() for cell in cell_rows.values()} - {None}
    if len(runs) > 1:
        rows.append(["runs", f"{len(runs)}: some cells were measured again; ratios between runs are of medians"])
    return markdown(rows, left=2)


def sections(document: dict[str, Any], folder: Path) -> dict[str, str]:
    """The generated sections, by name, including the plots that exist in the folder."""
    cells: Cells = document["cells"]
    tables: Tables = document["bindings"]
    every = []
    for regime in REGIMES:
        if regime.name in cells:
            every.append(f"### {regime.title}\n\n{regime.text[0].upper()}{regime.text[1:]}.\n\n"
                         + markdown(details(regime, cells)))
    bindings = "\n\n".join(f"### {title}\n\n{markdown(rows)}" for title, rows in binding_tables(tables).items())
    return {
        "conditions": conditions(document),
        "goals": markdown(goal_rows(cells, tables)),
        "overview": markdown(overview(cells)),
        "cells": "\n\n".join(every),
        "bindings": bindings,
    } | {
        f"plot-{name}": f"![{title}](performance-{name}.svg)" if (folder / f"performance-{name}.svg").exists() else ""
        for name, title in PLOTS
    }


def rewrite(path: Path, document: dict[str, Any]) -> None:
    """Replaces each section between its markers. The text around them is kept."""
    text = path.read_text()
    for name, body in sections(document, path.parent).items():
        begin, end = f"<!-- {name} -->", f"<!-- end {name} -->"
        if begin not in text or end not in text:
            raise SystemExit(f"{path}: no markers {begin} ... {end}")
        text = re.sub(re.escape(begin) + ".*?" + re.escape(end), lambda _: f"{begin}\n{body}\n{end}", text, flags=re.S)
    path.write_text(text)
