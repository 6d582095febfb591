"""The table that the benchmarks of the asyncio endpoint print."""

from __future__ import annotations

import statistics
from typing import Any


def show(case: str, rows: dict[str, list[float]], ours: str, results: dict[str, Any]) -> None:
    """ns, and the ratios of the row `ours` to the others."""
    for kind, values in rows.items():
        ratios = sorted(mine / theirs for mine, theirs in zip(rows[ours], values))
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"{case:14}{kind:22}{statistics.median(values):8.0f} ns"
            f"   ringmsg is {middle:.2f} ({low:.2f}-{high:.2f})"
        )
        results.setdefault(case, {})[kind] = {"ns": values, "ratio": middle, "quartiles": [low, high]}
