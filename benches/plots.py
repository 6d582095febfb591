"""The plots of docs/performance.md and of the machines' pages, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from cells import OURS, OURS_OF, REGIMES, ROW, ROWS, Regime
from summary import Cells, counts, measured, median, number, standing

IN_LATENCY = ("paced-10k", "paced-50k", "bursts", "ping")
IN_DNS_LATENCY = ("dns-10k-one", "dns-100k-one", "dns-10k-two", "dns-100k-two")
AUTO, OTHER_OURS, PEER, LATE = "#c2410c", "#fdba74", "#64748b", "#cbd5e1"
FAMILY = {"sockets": "#111827", "epoll": "#4b5563", "quinn": "#6b7280", "uring": "#9ca3af"}
MACHINES = ("#2563eb", "#c2410c", "#0d9488", "#7c3aed", "#475569")
DEFAULTS = set(OURS_OF.values())
INK, FAINT = "#1f2937", "#e5e7eb"
STYLE: Any = {  # matplotlib changes its type between versions
    "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#9ca3af",
    "axes.grid": True, "axes.grid.axis": "x", "grid.color": FAINT, "axes.axisbelow": True,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "figure.facecolor": "white", "svg.hashsalt": "ringmsg", "svg.fonttype": "none",
}


def colour(name: str, counting: bool = True) -> str:
    """The colour of a row: AUTO stands out, our other rows are similar, peers are grey, and paler
    where they do not count."""
    if name in DEFAULTS:
        return AUTO
    return OTHER_OURS if ROW[name].ours else PEER if counting else LATE


def family_colour(name: str) -> str:
    """The grey of a peer by family, for points that lie close together."""
    if ROW[name].ours:
        return colour(name)
    return FAMILY["epoll" if name.startswith("epoll") else ROW[name].program]


def plain_numbers(axes: Axes, logarithmic: bool = False) -> None:
    """Formats the horizontal axis as 1,000 and not 10^3, with few ticks."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    if not logarithmic:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    decades = high / low
    steps = (1.0,) if decades > 300 else (1.0, 3.0) if decades > 10 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_minor_locator(LogLocator(subs=()))


def ask(figure: Figure, question: str) -> None:
    """Puts the question that the plot answers on top of it."""
    figure.suptitle(question, x=0.01, ha="left", fontsize=12, fontweight="bold")


def legend(figure: Figure, late: bool = True) -> None:
    """Explains the colours below all panels."""
    entries = [Patch(color=AUTO, label="ringmsg with its defaults (AUTO)"),
               Patch(color=OTHER_OURS, label="ringmsg, tuned"), Patch(color=PEER, label="others")]
    if late:
        entries.append(Patch(color=LATE, label="others, that are too late to count"))
    figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), frameon=False)


def present(cells: Cells, regimes: list[Regime], figure: str) -> list[str]:
    """The rows that have a figure in any of the regimes, first row on top."""
    return [
        row.name
        for row in reversed(ROWS)
        if any(measured(cells.get(regime.name, {}).get(row.name), figure) for regime in regimes)
    ]


def label_rows(axes: Axes, names: list[str]) -> None:
    """Labels the vertical axis with receivers, ours in colour."""
    axes.set_yticks(range(len(names)), [ROW[name].title for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", length=0)
    for label, name in zip(axes.get_yticklabels(), names):
        if ROW[name].ours:
            label.set_color(AUTO)
            label.set_fontweight("bold" if name in DEFAULTS else "normal")


def cpu(cells: Cells, family: str) -> Figure | None:
    """Bars for every row of a family in every regime."""
    regimes = [regime for regime in REGIMES if regime.name in cells and regime.name != "ping" and regime.family == family]
    if not regimes:
        return None
    across = min(3, len(regimes))
    down = -(-len(regimes) // across)
    names = present(cells, regimes, "cpu_ns")
    figure, grid = plt.subplots(
        down, across, figsize=(3.0 * across + 2.6, down * (0.19 * len(names) + 0.75) + 0.5), sharey=True,
        squeeze=False, layout="constrained",
    )
    for axes, regime in zip(grid.flat, regimes):
        rows = cells[regime.name]
        highest = max(median(cell, "cpu_ns") for cell in rows.values() if measured(cell))
        for y, name in enumerate(names):
            cell = rows.get(name)
            if cell is None or not measured(cell):
                continue
            middle, low, high = median(cell, "cpu_ns"), min(cell["cpu_ns"]), max(cell["cpu_ns"])
            axes.barh(y, middle, 0.72, color=colour(name, counts(regime.name, rows, name)))
            axes.plot([low, min(high, highest * 1.2)], [y, y], color=INK, linewidth=0.8)
            axes.text(max(middle, min(high, highest * 1.2)) + highest * 0.02, y, number(middle), va="center",
                      fontsize=7.5, color=AUTO if name in DEFAULTS else INK, fontweight="bold" if name in DEFAULTS else "normal")
        axes.set_title(regime.title)
        axes.set_xlim(0, highest * 1.42)
        plain_numbers(axes)
        axes.set_xlabel("CPU time per datagram (ns)")
        label_rows(axes, names)
    for axes in list(grid.flat)[len(regimes):]:
        axes.set_visible(False)
    what = "datagram" if family == "receive" else "answer"
    ask(figure, f"How much CPU time does one {what} cost? (shorter is better; lines: lowest to highest)")
    legend(figure)
    return figure


def latency(cells: Cells, selected: tuple[str, ...]) -> Figure | None:
    """Lines from the median over the 99th to the 99.9th percentile, on a logarithmic axis."""
    regimes = [regime for regime in REGIMES if regime.name in selected and regime.name in cells]
    if not regimes:
        return None
    names = present(cells, regimes, "p99")
    figure, grid = plt.subplots(
        1, len(regimes), figsize=(2.6 * len(regimes) + 2.6, 0.21 * len(names) + 1.3), sharey=True, squeeze=False,
        layout="constrained",
    )
    for axes, regime in zip(grid.flat, regimes):
        for y, name in enumerate(names):
            cell = cells[regime.name].get(name)
            if cell is None or not measured(cell, "p99"):
                continue
            shade = AUTO if name in DEFAULTS else OTHER_OURS if ROW[name].ours else PEER
            p50, p99, p999 = (median(cell, figure_name) for figure_name in ("p50", "p99", "p999"))
            axes.plot([p99, p999], [y, y], color=shade, linewidth=1)
            axes.plot([p50, p99], [y, y], color=shade, linewidth=4, solid_capstyle="butt")
            axes.plot(p50, y, "o", color=shade, markersize=5.5)
            axes.plot(p999, y, "|", color=shade, markersize=7)
        plain_numbers(axes, logarithmic=True)
        axes.set_title(regime.title)
        axes.set_xlabel("round trip (us)" if regime.name not in IN_LATENCY[:3] else "latency (us)")
        label_rows(axes, names)
    marks = [Line2D([], [], marker="o", color=PEER, linestyle="", label="median"),
             Line2D([], [], color=PEER, linewidth=4, label="to the 99th percentile"),
             Line2D([], [], color=PEER, linewidth=1, marker="|", label="to the 99.9th")]
    what = "answers" if selected[0].startswith("dns") else "datagrams"
    ask(figure, f"How late do {what} arrive? (further left is better)")
    figure.legend(handles=marks, loc="outside lower center", ncols=3, frameon=False)
    return figure


def tradeoff(cells: Cells) -> Figure | None:
    """CPU time against latency. Points below and to the left are better; a receiver that sleeps
    trades one for the other."""
    selected = ("paced-10k", "paced-50k", "paced-200k")
    regimes = [regime for regime in REGIMES if regime.name in selected and regime.name in cells]
    if not regimes:
        return None
    names = [name for name in reversed(present(cells, regimes, "p99"))]
    figure, grid = plt.subplots(1, len(regimes), figsize=(3.6 * len(regimes) + 2.4, 4.2), squeeze=False,
                                layout="constrained")
    peers = [name for name in names if not ROW[name].ours]
    shapes = dict(zip(peers, "osD^v<>pP*hXd"))
    ours = [name for name in names if ROW[name].ours]
    shapes |= dict(zip(ours, "<>sD^vo"))
    shapes[OURS] = "o"
    handles = []
    for axes, regime in zip(grid.flat, regimes):
        for name in names:
            cell = cells[regime.name].get(name)
            if cell is None or not measured(cell, "p99"):
                continue
            axes.plot(median(cell, "p99"), median(cell, "cpu_ns"), shapes[name], color=family_colour(name),
                      markersize=9 if name == OURS else 6.5, markeredgecolor="white", markeredgewidth=0.6,
                      zorder=3 if name == OURS else 2)
        plain_numbers(axes, logarithmic=True)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.grid(True, axis="both")
        axes.set_title(regime.title)
        axes.set_xlabel("99th percentile of latency (us)")
    grid[0][0].set_ylabel("CPU time per datagram (ns)")
    for name in names:
        handles.append(Line2D([], [], marker=shapes[name], color=family_colour(name), linestyle="", label=ROW[name].title))
    ask(figure, "What does low latency cost in CPU time? (down and left is better)")
    figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8)
    return figure


def bindings(tables: dict[str, dict[str, dict[str, Any]]]) -> Figure | None:
    """Bars for the Python and Go rows, one panel per table."""
    shown = {title: {name: row for name, row in rows.items() if measured(row)} for title, rows in tables.items()}
    shown = {title: rows for title, rows in shown.items() if rows}
    if not shown:
        return None
    down = -(-len(shown) // 2)
    figure, grid = plt.subplots(down, 2, figsize=(10.5, 1.9 * down + 0.6), squeeze=False, layout="constrained")
    for axes, (title, rows) in zip(grid.flat, shown.items()):
        names = sorted(rows, key=lambda name: ("ringmsg" in name, median(rows[name], "cpu_ns")), reverse=True)
        highest = max(median(row, "cpu_ns") for row in rows.values())
        for y, name in enumerate(names):
            middle = median(rows[name], "cpu_ns")
            axes.barh(y, middle, 0.7, color=AUTO if "ringmsg" in name else PEER)
            axes.text(middle + highest * 0.015, y, number(middle), va="center", fontsize=8)
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0)
        for label, name in zip(axes.get_yticklabels(), names):
            label.set_color(AUTO if "ringmsg" in name else INK)
        axes.set_xlim(0, highest * 1.15)
        plain_numbers(axes)
        axes.set_title(title)
        axes.set_xlabel("CPU time per datagram (ns)")
    for axes in list(grid.flat)[len(shown):]:
        axes.set_visible(False)
    ask(figure, "How much CPU time does one datagram cost in Python and in Go? (shorter is better)")
    return figure


def side_by_side(documents: dict[str, dict[str, Any]]) -> Figure | None:
    """The ratio to the best peer that counts, a point for each machine."""
    regimes = [regime for regime in REGIMES if any(standing(document["cells"], regime) for document in documents.values())]
    if not regimes:
        return None
    figure, axes = plt.subplots(figsize=(8.5, 0.33 * len(regimes) + 1.6), layout="constrained")
    shapes = "osD^v<>"
    for number, document in enumerate(documents.values()):
        aside = 0.24 * ((len(documents) - 1) / 2 - number)  # so that machines do not cover each other
        found = [(standing(document["cells"], regime), y + aside) for y, regime in enumerate(reversed(regimes))]
        points = [(place.ratio, y) for place, y in found if place is not None]
        if points:
            axes.plot(*zip(*points), shapes[number % len(shapes)], color=MACHINES[number % len(MACHINES)], markersize=7,
                      markeredgecolor="white", label=str(document["machine"]["processor"]).split(",")[0])
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(regimes)), [regime.title for regime in reversed(regimes)])
    axes.set_xlim(left=0)
    axes.set_xlabel("CPU time of ringmsg, AUTO, as a ratio to that of the best peer that counts")
    ask(figure, "Does ringmsg cost less CPU time than the best other program? (left of 1: yes)")
    figure.legend(loc="outside lower center", frameon=False, ncols=2)
    return figure


def save(figure: Figure | None, path: Path) -> None:
    """Writes a figure with a background of its own, so that pages with a dark background show it
    unaltered."""
    if figure is not None:
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def draw(document: dict[str, Any], folder: Path, name: str) -> None:
    """Writes a machine's plots: NAME-cpu.svg and so on."""
    cells: Cells = document["cells"]
    with plt.rc_context(STYLE):
        save(cpu(cells, "receive"), folder / f"{name}-cpu.svg")
        save(cpu(cells, "answer"), folder / f"{name}-answering.svg")
        save(cpu(cells, "dns"), folder / f"{name}-dns.svg")
        save(latency(cells, IN_DNS_LATENCY), folder / f"{name}-dns-latency.svg")
        save(latency(cells, IN_LATENCY), folder / f"{name}-latency.svg")
        save(tradeoff(cells), folder / f"{name}-tradeoff.svg")
        save(bindings(document["bindings"]), folder / f"{name}-bindings.svg")


def draw_all(documents: dict[str, dict[str, Any]], folder: Path) -> None:
    """Writes the plot that shows all machines."""
    with plt.rc_context(STYLE):
        save(side_by_side(documents), folder / "performance-machines.svg")
