"""Tests of the DNS cells: that the responders give the same answers, that the harness accounts for
them, and that nothing is left behind. No test depends on speed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import bindings
import measure
import responders
import run
from cells import REGIME, ROW, ROWS

HERE = Path(__file__).resolve().parent
PROGRAMS = HERE.parent / "build/bench"
RESPONDERS = {row.name: row for row in ROWS if row.family == "dns" and row.program not in responders.PACKAGES}
NAMES = ("www.example.test", "WWW.example.test", "example.test", "long.example.test", "missing.example.test",
         "other.test")


def query(number: int, name: str, kind: int, edns: bool) -> bytes:
    """A DNS query of class IN."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    head = number.to_bytes(2, "big") + bytes([1, 0, 0, 1, 0, 0, 0, 0, 0, int(edns)])
    option = bytes([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]) if edns else b""
    return head + labels + bytes([0, 0, kind, 0, 1]) + option


@contextmanager
def responder(name: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], socket.socket]]:
    """A responder on loopback, and a socket that is connected to it."""
    row = RESPONDERS[name]
    program = responders.command_of(row, PROGRAMS, folder)[0]
    process = subprocess.Popen([program, "127.0.0.1", "0", *row.arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        try:
            client.connect(("127.0.0.1", int(process.stdout.readline().split()[1])))
            client.settimeout(5)
            yield process, client
        finally:
            process.kill()
            process.communicate()


def test_all_responders_give_the_same_answers(tmp_path: Path) -> None:
    """Byte for byte: what differs is how packets are received and sent. Each also ends with SIGINT,
    and counts what was no query."""
    asked = [(name, kind, edns) for name in NAMES for kind in (1, 16, 28, 15) for edns in (False, True)]
    queries = [query(number, *one) for number, one in enumerate(asked)]
    answers: dict[str, list[bytes]] = {}
    for name in RESPONDERS:
        with responder(name, tmp_path) as (process, client):
            client.send(b"no query")
            answers[name] = []
            for one in queries:
                client.send(one)
                answers[name].append(client.recv(4096))
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=5)
            assert said == f"{len(queries) + 1} packets, 1 of them no queries; 0 answers not sent\n", name
    first = answers.pop("ringmsg-dns-auto")
    assert [answer[:2] for answer in first] == [one[:2] for one in queries]
    assert len(answers) == 3 and all(others == first for others in answers.values())


def skip_without_dnsperf() -> None:
    """Says which package is missing."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces take root")
    for name in ("dnsperf", "ip"):
        if shutil.which(name) is None:
            pytest.skip(f"no {name}; apt-get install {responders.PACKAGES[name]} provides it")
    if subprocess.run(["ip", "netns", "add", "ringmsg-probe"], capture_output=True).returncode != 0:
        pytest.skip("this system makes no network namespaces")
    subprocess.run(["ip", "netns", "delete", "ringmsg-probe"], check=True)


@pytest.mark.parametrize("name", [row.name for row in ROWS if row.family == "dns"])
@pytest.mark.parametrize("regime", ["dns-10k-one", "dns-max-two"])
def test_every_server_answers_dnsperf(name: str, regime: str) -> None:
    skip_without_dnsperf()
    result = measure.run_once(PROGRAMS, REGIME[regime], ROW[name], 1)
    if "not_supported" in result:
        pytest.skip(result["not_supported"])
    assert "error" not in result
    # A stall of a busy machine at the end leaves unanswered what is under way then.
    assert result["received"] > 0 and result["sent"] - result["received"] <= 200 + responders.LOSS_MAX * result["sent"]
    kept = measure.columns(result)
    assert kept["cpu_ns"] > 0 and 0 < kept["p50"] <= kept["p99"] <= kept["p999"]


def namespaces() -> set[str]:
    """The names of those of this benchmark."""
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    return {line.split()[0] for line in listed.splitlines() if line.startswith("ringmsg-dns-")}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_no_namespace_and_no_server(number: signal.Signals, tmp_path: Path) -> None:
    skip_without_dnsperf()
    command = [sys.executable, str(HERE / "run.py"), "dns-10k-two/dns-recvmmsg-64", "--rounds", "1",
               "--seconds", "30", "--no-report", "--json", str(tmp_path / "figures.json")]
    # Where the tests are a background job, SIGINT is ignored, and Python leaves it so.
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    mine = {f"ringmsg-dns-{end}-{process.pid}" for end in ("server", "load")}
    try:
        end = time.monotonic() + 20
        while not mine <= namespaces() and time.monotonic() < end:
            time.sleep(0.05)
        assert mine <= namespaces()
        time.sleep(0.5)
        os.killpg(process.pid, number)  # as a terminal does
        process.wait(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert not mine & namespaces()
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert not [line for line in running.splitlines() if f"dns_recvmmsg {responders.SERVER}" in line]


def test_a_run_of_everything_keeps_the_applications_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    cells: dict[str, Any] = {"dns-10k-two": {"dns-nsd": {}}, "bursts": {"recvmsg": {}}}
    document: dict[str, Any] = {"cells": cells, "bindings": {}}
    monkeypatch.setattr(measure, "measure", lambda *_: {})
    monkeypatch.setattr(bindings, "python", lambda _: {})
    monkeypatch.setattr(bindings, "go", lambda *_: {})
    monkeypatch.setattr(sys, "argv", ["run.py"])
    run.measure_all(run.arguments(), document)
    assert document["cells"] == {"dns-10k-two": {"dns-nsd": {}}}


def test_the_make_target_names_the_package_of_a_missing_tool(tmp_path: Path) -> None:
    for tool in ("sh", "make", "cargo", "cc", "ip", "taskset"):
        found = shutil.which(tool)
        if found is None:
            pytest.skip(f"no {tool}")
        (tmp_path / tool).symlink_to(found)
    make = subprocess.run(["make", "bench-dns-tools"], cwd=HERE.parent, env={"PATH": str(tmp_path)},
                          capture_output=True, text=True)
    assert make.returncode != 0
    assert "missing: dnsperf; install it with: apt-get install dnsperf" in make.stderr
