"""Tests that the harness works: every receiver in one regime, one round. No test depends on speed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import report
import summary
from cells import GOALS, OURS, REGIMES, ROW, ROWS, is_measured_in, select
from measure import round_order

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs/performance.md"
PROGRAMS = HERE.parent / "build/bench"


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The document that one run wrote."""
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    command = [sys.executable, str(HERE / "run.py"), "bursts", "drained-gro/ringmsg-auto", "ping/ringmsg-auto",
               "--rounds", "1", "--seconds", "0.05", "--no-report", "--json", str(file)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr  # 1: a receiver failed, or lost a datagram that no counter counts as dropped
    assert "to best peer" in run.stdout
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_every_receiver_has_its_figures(document: dict[str, Any]) -> None:
    cells = document["cells"]["bursts"]
    assert set(cells) == {row.name for row in ROWS if is_measured_in(REGIMES[3], row)}
    for name, cell in cells.items():
        if "not_supported" in cell:
            assert cell["not_supported"]
            continue
        assert set(cell) == {"run", "cpu_ns", "dropped", "per_wait", "rate", "cpu_share", "p50", "p99", "p999", "summary"}
        assert all(len(cell[figure]) == 1 for figure in summary.FIGURES), name
        assert cell["cpu_ns"][0] > 0 and 0 <= cell["dropped"][0] < 1, name
        assert cell["p50"][0] <= cell["p99"][0] <= cell["p999"][0], name
        assert cell["summary"]["ratio_to_best_peer"] > 0, name
    assert "p50" not in document["cells"]["drained-gro"][OURS]  # a stopped receiver has no latency
    assert document["cells"]["ping"][OURS]["p50"][0] > 0
    assert len(document["goals"]) > len(GOALS)


def test_a_cell_measured_again_replaces_its_old_figures(document: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(document))
    command = [sys.executable, str(HERE / "run.py"), "ping/ringmsg-auto", "--rounds", "2", "--seconds", "0.02",
               "--no-report", "--json", str(file)]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    merged = json.loads(file.read_text())
    assert len(merged["cells"]["ping"][OURS]["cpu_ns"]) == 2
    assert merged["cells"]["bursts"] == document["cells"]["bursts"]


def test_a_receiver_that_decodes_less_is_detected() -> None:
    command = [str(PROGRAMS / "receive_sockets"), "recvmsg-no-control", "paced-10k", "0.02"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert json.loads(run.stdout)["wrong"] == "destinations"


def test_a_late_peer_does_not_count() -> None:
    cells = {OURS: {"cpu_ns": [100.0], "p99": [50.0]}, "recvmsg": {"cpu_ns": [120.0], "p99": [55.0]},
             "recvmmsg-64": {"cpu_ns": [60.0], "p99": [56.0]}}
    assert summary.best_peer("paced-50k", cells) == "recvmsg"
    assert summary.best_peer("drained-64", cells) == "recvmmsg-64"


def test_ratios_are_computed_within_a_round() -> None:
    mine, theirs = {"run": "a", "cpu_ns": [10.0, 20.0, 90.0]}, {"run": "a", "cpu_ns": [20.0, 40.0, 100.0]}
    assert summary.ratio(mine, theirs) == 0.5
    assert summary.ratio(mine, theirs | {"run": "b", "cpu_ns": [80.0]}) == 0.25


def test_no_receiver_is_first_twice() -> None:
    for regime in REGIMES:
        cells = [cell for cell in select([]) if cell[0] is regime]
        rounds = [round_order(cells, number) for number in range(7)]
        assert len({order[0][1].name for order in rounds}) == 7, regime.name
        assert all(sorted(cell[1].name for cell in order) == sorted(cell[1].name for cell in cells) for order in rounds)


def test_sections_are_rewritten_between_their_markers(document: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "performance.md"
    prose = re.sub("(<!-- ([a-z-]+) -->).*?(<!-- end \\2 -->)", r"\1 STALE \3", PAGE.read_text(), flags=re.S)
    assert prose.count("STALE") == len(report.sections(document, tmp_path))
    file.write_text(prose)
    report.rewrite(file, document)
    text = file.read_text()
    assert "STALE" not in text and f"**{ROW[OURS].title}**" in text
    assert re.sub("(<!-- ([a-z-]+) -->).*?(<!-- end \\2 -->)", r"\1 STALE \3", text, flags=re.S) == prose
