"""Tests that the harness works: every receiver in one regime, one round. No test depends on speed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import linger
import report
import run
import summary
from cells import GOALS, OURS, OURS_OF, REGIME, REGIMES, ROW, ROWS, TWIN_OF, is_measured_in, select
from measure import round_order

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs/performance.md"
PROGRAMS = HERE.parent / "build/bench"


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The document that one run wrote."""
    file = tmp_path_factory.mktemp("bench") / "bench.json"
    command = [sys.executable, str(HERE / "run.py"), "bursts", "drained-gro/ringmsg-auto", "ping/ringmsg-auto", "echo-row", "relay-trains", "echo-50k/ringmsg-answer-auto",
               "sockets-1k/ringmsg-auto",
               "--rounds", "1", "--seconds", "0.05", "--no-report", "--json", str(file)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr  # 1: a receiver failed, or lost a datagram that no counter counts as dropped
    assert "to best peer" in process.stdout
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
        if summary.best_peer("bursts", cells):  # none may count on a busy machine
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
    process = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert process.returncode == 1
    assert json.loads(process.stdout)["wrong"] == "destinations"


def test_an_answer_with_a_byte_that_was_not_asked_is_detected() -> None:
    for traffic in ("echo-turn", "relay-1200"):
        command = [str(PROGRAMS / "answer_sockets"), "answer-one-byte-wrong", traffic, "0.02"]
        process = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert process.returncode == 1
        assert json.loads(process.stdout)["wrong"] == "bytes"


def test_a_late_peer_does_not_count() -> None:
    def of(ours: float, cheap: float, dear: float) -> dict[str, dict[str, Any]]:
        return {OURS: {"cpu_ns": [100.0], "p99": [ours]}, "recvmsg": {"cpu_ns": [120.0], "p99": [dear]},
                "recvmmsg-64": {"cpu_ns": [60.0], "p99": [cheap]}}

    late = of(500.0, cheap=560.0, dear=550.0)
    assert summary.best_peer("paced-50k", late) == "recvmsg"
    assert summary.best_peer("drained-64", late) == "recvmmsg-64"


def test_a_peer_counts_within_the_bound_of_auto() -> None:
    def of(cheap: float) -> dict[str, dict[str, Any]]:
        return {OURS: {"cpu_ns": [100.0], "p99": [20.0]}, "recvmmsg-64": {"cpu_ns": [60.0], "p99": [cheap]}}

    assert summary.best_peer("paced-10k", of(100.0)) == "recvmmsg-64"
    assert summary.best_peer("paced-10k", of(101.0)) is None


def test_auto_is_compared_with_the_best_fixed_linger() -> None:
    rows = {linger.NONE: [100.0, 100.0], "ringmsg-20us": [90.0, 92.0], "ringmsg-50us": [80.0, 82.0],
            "ringmsg-100us": [70.0, 80.0], linger.AUTO: [77.0, 80.0], linger.TWIN: [104.0, 96.0]}
    assert linger.line("bursts", {"rows": rows, "void": 1}, 2) == [
        "bursts", "100", "91", "81", "75", "78", "100 us", "1.05", "at most 1.15", "2 of 3"]
    closed = {linger.NONE: [0.001], linger.AUTO: [0.0011], linger.TWIN: [0.0012]}
    assert linger.line("closed-16", {"rows": closed, "void": 0}, 1)[5:] == [
        "909", "0 us", "1.00", "at least 0.97", "1 of 1"]
    nothing: dict[str, list[float]] = {row: [] for row in rows}
    assert linger.line("bursts", {"rows": nothing, "void": 9}, 2)[-1] == "0 of 9"


def test_a_round_whose_twins_differ_is_void(monkeypatch: pytest.MonkeyPatch) -> None:
    twins = iter([1.0, 1.2, 1.0, 1.04, 1.0, 1.0])
    monkeypatch.setattr(linger, "run", lambda _, row, *rest: 0.5 if row == linger.AUTO else next(twins))
    found = linger.measure(PROGRAMS, "closed-1", 2, 0.1, 2)
    assert found["void"] == 1
    assert found["rows"] == {linger.NONE: [1.0, 1.0], linger.AUTO: [0.5, 0.5], linger.TWIN: [1.04, 1.0]}


def test_lingers_are_measured_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    command = [sys.executable, str(HERE / "run.py"), "linger-two/paced-200k", "linger-one/closed-16", "--rounds", "1",
               "--seconds", "0.05", "--no-report", "--json", str(file)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert process.returncode == 0, process.stderr
    document = json.loads(file.read_text())
    assert set(document["linger"]) == {"linger-two", "linger-one"}
    assert len(linger.tables(document)) == 2 and "best fixed linger" in report.lingers({"m": document})


def test_ratios_are_computed_within_a_round() -> None:
    mine, theirs = {"run": "a", "cpu_ns": [10.0, 20.0, 90.0]}, {"run": "a", "cpu_ns": [20.0, 40.0, 100.0]}
    assert summary.ratio(mine, theirs) == 0.5
    assert summary.ratio(mine, theirs | {"run": "b", "cpu_ns": [80.0]}) == 0.25


def test_a_goal_is_judged_by_rounds_in_which_the_peer_agrees_with_its_twin() -> None:
    def judged(*rounds: tuple[float, float, float]) -> summary.Verdict:
        names = ("ringmsg-answer-0", "answer-epoll-recvmmsg-64", TWIN_OF["answer-epoll-recvmmsg-64"])
        rows = {name: {"run": "a", "usual_p99": [values[i] for values in rounds]} for i, name in enumerate(names)}
        goal = next(goal for goal in GOALS if goal.regime == "echo-50k")
        return summary.judge(goal, {"echo-50k": rows})

    assert judged((30.0, 30.0, 31.0), (90.0, 30.0, 90.0), (33.0, 30.0, 29.0)).figure == 1.05
    assert judged((90.0, 30.0, 34.0)).words == "not measured"
    assert "twin" in judged((90.0, 30.0, 34.0)).detail
    assert summary.best_peer("echo-turn", {TWIN_OF["answer-epoll-recvmmsg-64"]: {"cpu_ns": [1.0]}}) is None


def test_no_receiver_is_first_twice() -> None:
    for regime in REGIMES:
        cells = [cell for cell in select(["/"]) if cell[0] is regime]
        rounds = [round_order(cells, number) for number in range(5)]
        assert len({order[0][1].name for order in rounds}) == min(5, len(cells)), regime.name
        assert all(sorted(cell[1].name for cell in order) == sorted(cell[1].name for cell in cells) for order in rounds)


def test_every_server_answers_everything(document: dict[str, Any]) -> None:
    for regime in ("echo-row", "relay-trains"):
        cells = document["cells"][regime]
        assert set(cells) == {row.name for row in ROWS if is_measured_in(REGIME[regime], row)}
        for name, cell in cells.items():
            assert "error" not in cell, name
            assert cell.get("not_supported") or cell["cpu_ns"][0] > 0 and cell["dropped"] == [0.0], name
    assert document["cells"]["echo-50k"][OURS_OF["answer"]]["p99"][0] > 0


def test_a_machines_figures_are_never_overwritten_by_anothers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    here = {"processor": "ABC(R) Model 7 in a virtual machine, 2 cores: receiver on core 0", "memory": "8 GiB"}
    empty: dict[str, Any] = {"cells": {}, "bindings": {}}
    first = run.file_of(here)
    assert first == tmp_path / "abc-model-7-2.json"
    run.write(first, {"machine": here} | empty)
    assert run.file_of(here) == first
    other = here | {"memory": "64 GiB"}
    second = run.file_of(other)
    assert second != first
    run.write(second, {"machine": other} | empty)
    assert (run.file_of(here), run.file_of(other)) == (first, second)


def test_the_honest_paragraph_says_ahead_level_and_behind() -> None:
    def of(mine: float) -> dict[str, dict[str, Any]]:
        return {OURS: {"cpu_ns": [mine], "p99": [50.0]}, "recvmsg": {"cpu_ns": [100.0], "p99": [50.0]}}

    document = {"machine": {"processor": "P, 2 cores"}, "date": "2026-01-01T00:00:00",
                "cells": {"paced-10k": of(96), "paced-50k": of(104), "bursts": of(106)}}
    said = report.honest(document)
    assert "Ahead of the best peer in 1 of 3 cells: 10 k/s (0.96 of recvmsg)" in said
    assert "Level with the best peer in 1 of 3 cells: 50 k/s (1.04 of recvmsg)" in said
    assert "Behind the best peer in 1 of 3 cells: bursts (1.06 of recvmsg)" in said


def test_sections_are_rewritten_between_their_markers(document: dict[str, Any], tmp_path: Path) -> None:
    file, page = tmp_path / "performance.md", tmp_path / "m.md"
    prose = re.sub("(<!-- ([a-z-]+) -->).*?(<!-- end \\2 -->)", r"\1 STALE \3", PAGE.read_text(), flags=re.S)
    assert prose.count("STALE") == len(report.sections({"m": document}))
    file.write_text(prose)
    report.rewrite(file, {"m": document, "n": document})
    text = file.read_text()
    assert "STALE" not in text and "performance/n.md" in text
    assert re.sub("(<!-- ([a-z-]+) -->).*?(<!-- end \\2 -->)", r"\1 STALE \3", text, flags=re.S) == prose
    report.write_page(page, "m", document)
    assert f"**{ROW[OURS].title}**" in page.read_text()
