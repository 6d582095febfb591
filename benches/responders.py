"""The DNS cells: a responder in one network namespace, dnsperf in another, and a veth pair between
them. Needs root, and removes the namespaces whatever ends the run."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cells import Regime, Row

SERVER, CLIENT, PORT = "198.18.0.1", "198.18.0.2", "53"  # of RFC 2544, and only in the namespaces
LOSS_MAX = 0.001
PACKAGES = {"nsd": "nsd", "knotd": "knot", "dnsperf": "dnsperf", "ip": "iproute2", "taskset": "util-linux"}

# Each question, and the answer that every server must give.
QUESTIONS = [
    ("www.example.test A", "NOERROR"), ("www.example.test AAAA", "NOERROR"), ("example.test A", "NOERROR"),
    ("www.example.test A", "NOERROR"), ("example.test AAAA", "NOERROR"), ("example.test TXT", "NOERROR"),
    ("www.example.test A", "NOERROR"), ("missing.example.test A", "NXDOMAIN"),
]

# `zone` of examples-c/dns.h, and the NS record without which knot loads no zone.
FIFTY = "01234567890123456789012345678901234567890123456789"
ZONE = f"""$ORIGIN example.test.
$TTL 300
@    SOA  example.test. example.test. 1 300 300 300 300
@    NS   example.test.
@    A    192.0.2.1
@    AAAA 2001:db8::1
@    TXT  "answered by ringmsg"
www  A    192.0.2.2
www  A    192.0.2.3
www  AAAA 2001:db8::2
long TXT  "{FIFTY * 4}"
long TXT  "{FIFTY * 4}1"
long TXT  "{FIFTY * 4}2"
"""

# What differs from the defaults: where they listen and keep files, one worker, and no limit of
# answers per client (nsd's is 200 a second).
NSD = """server:
  ip-address: {server}
  port: {port}
  server-count: 1
  rrl-ratelimit: 0
  username: ""
  chroot: ""
  zonesdir: "{folder}"
  database: ""
  pidfile: "{folder}/nsd.pid"
  xfrdfile: "{folder}/xfrd.state"
  zonelistfile: "{folder}/zone.list"
  xfrdir: "{folder}"
remote-control:
  control-enable: no
zone:
  name: example.test
  zonefile: zone
"""
KNOT = """server:
  rundir: "{folder}"
  listen: {server}@{port}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
database:
  storage: "{folder}"
zone:
  - domain: example.test
    storage: "{folder}"
    file: zone
"""


@dataclass(frozen=True)
class Load:
    """What dnsperf sends, and the processor that it runs on. The server runs on 0."""

    rate: int  # queries per second; 0: as many as are answered
    window: int  # queries under way, at most
    processor: int


LOADS = {
    f"dns-{name}-{processors}": Load(rate, window, processor)
    for processors, processor in (("one", 0), ("two", 1))
    for name, rate, window in (("10k", 10_000, 200), ("100k", 100_000, 200), ("max", 0, 200))
}


def versions() -> str:
    """The versions of what is not of this project, for the report."""
    found = []
    for name in ("nsd", "knotd", "dnsperf"):
        if shutil.which(name) is not None:
            option = {"nsd": "-v", "knotd": "--version", "dnsperf": "-h"}[name]
            run = subprocess.run([name, option], capture_output=True, text=True)
            version = re.search(r"[Vv]ersion (\d[\d.]*)", run.stdout + run.stderr)
            found.append(f"{PACKAGES[name]} {version.group(1) if version else '?'}")
    return ", ".join(found)


class Failed(Exception):
    """A server or dnsperf did not do what it must."""


class Network:
    """Two namespaces of this process with a veth pair between them."""

    def __init__(self) -> None:
        self.server, self.load = (f"ringmsg-dns-{end}-{os.getpid()}" for end in ("server", "load"))

    def __enter__(self) -> Network:
        try:
            for space in (self.server, self.load):
                command("ip", "netns", "add", space)
            command("ip", "link", "add", "veth0", "netns", self.server, "type", "veth", "peer", "name",
                    "veth0", "netns", self.load)
            for space, address in ((self.server, SERVER), (self.load, CLIENT)):
                command("ip", "-n", space, "address", "add", f"{address}/24", "dev", "veth0")
                command("ip", "-n", space, "link", "set", "lo", "up")
                command("ip", "-n", space, "link", "set", "veth0", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for space in (self.server, self.load):
            subprocess.run(["ip", "netns", "delete", space], stderr=subprocess.DEVNULL)


def command(*words: str) -> None:
    """Runs a command that must succeed."""
    run = subprocess.run(words, capture_output=True, text=True)
    if run.returncode != 0:
        raise Failed(f"{' '.join(words)}: {run.stderr.strip()}")


def command_of(row: Row, programs: Path, folder: Path) -> list[str]:
    """The command of a server; its files are in the folder."""
    (folder / "zone").write_text(ZONE)
    texts = {"nsd": NSD, "knotd": KNOT}
    if row.program not in texts:
        where = programs.parent / "examples" if row.program == "dns_responder" else programs
        return [str(where / row.program), SERVER, PORT, *row.arguments]
    configuration = folder / "configuration"
    configuration.write_text(texts[row.program].format(folder=folder, server=SERVER, port=PORT))
    return [row.program, *(["-d"] if row.program == "nsd" else []), "-c", str(configuration)]


@contextlib.contextmanager
def server(network: Network, command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server on processor 0, in a session of its own, which is what is measured."""
    words = ["ip", "netns", "exec", network.server, "taskset", "-c", "0", *command]
    with log.open("w") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        for number in members(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.wait()


def members(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[3]) == session:
                found.append(int(path.parent.name))
    return found


def threads(session: int) -> list[Path]:
    """Their threads, in /proc."""
    return [task for number in members(session) for task in threads_of(number)]


def threads_of(process: int) -> list[Path]:
    """The threads of a process, in /proc."""
    return list(Path(f"/proc/{process}/task").glob("*"))


def softirq() -> list[Path]:
    """ksoftirqd/0, which works for the server where the kernel defers a delivery; nothing where it
    cannot be seen, as in a container."""
    def is_named(path: Path) -> bool:
        with contextlib.suppress(OSError):
            return path.read_text() == "ksoftirqd/0\n"
        return False

    return [path.parent for path in Path("/proc").glob("[0-9]*/comm") if is_named(path)]


def cpu_ns(tasks: list[Path]) -> int:
    """The time that threads have run."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def waits(tasks: list[Path]) -> int:
    """How often threads have slept."""
    texts = [(task / "status").read_text() for task in tasks]
    return sum(int(number) for text in texts for number in re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.M))


def dnsperf(network: Network, folder: Path, processor: int, *options: str) -> str:
    """Runs dnsperf; what it says about every answer and in sum."""
    words = ["ip", "netns", "exec", network.load, "taskset", "-c", str(processor), "dnsperf",
             "-s", SERVER, "-p", PORT, "-d", str(folder / "questions"), "-e", "-v", "-O", "suppress=timeout",
             *options]
    with (folder / "answers").open("w+") as output:
        run = subprocess.run(words, stdout=output, stderr=subprocess.PIPE, text=True)
        output.seek(0)
        said = output.read()
    if run.returncode != 0 or "Statistics:" not in said:
        raise Failed(f"dnsperf: {run.stderr.strip()}")
    return said


ANSWER = re.compile(r"^> (\w+) (\S+ \w+) ([\d.]+)$", re.M)


def wait_for(process: subprocess.Popen[bytes], network: Network, folder: Path, seconds: float = 10) -> None:
    """Waits until the server gives every question its answer."""
    end = time.monotonic() + seconds
    answers: list[tuple[str, str]] = []
    while answers != sorted(QUESTIONS):
        if process.poll() is not None or time.monotonic() > end:
            raise Failed(f"gives {answers}; {(folder / 'log').read_text().strip()}")
        said = dnsperf(network, folder, 1, "-n", "1", "-t", "0.2")
        answers = sorted((name, code) for code, name, _ in ANSWER.findall(said))


def sums(said: str) -> dict[str, float]:
    """dnsperf's counts, of queries."""
    titles = {"sent": "Queries sent", "received": "Queries completed", "seconds": r"Run time \(s\)"}
    found = {name: re.search(rf"^  {title}:\s+([\d.]+)", said, re.M) for name, title in titles.items()}
    if not all(found.values()):
        raise Failed(f"dnsperf says {said[-500:]}")
    return {name: float(match.group(1)) for name, match in found.items() if match}


def load(network: Network, folder: Path, session: int, given: Load, seconds: float) -> dict[str, Any]:
    """Loads the server for a while. Returns what the C programs of the benchmark print."""
    tasks, kernel = threads(session), softirq()
    pace = ["-Q", str(given.rate)] if given.rate else []
    before = cpu_ns(tasks), cpu_ns(kernel), waits(tasks)
    said = dnsperf(network, folder, given.processor, "-l", f"{max(round(seconds), 1)}",
                   "-q", str(given.window), "-t", "1", "-b", "4096", *pace)
    after = cpu_ns(tasks), cpu_ns(kernel), waits(tasks)
    used, deferred, slept = (last - first for first, last in zip(before, after))
    result: dict[str, Any] = sums(said)
    codes = {code for code, _, _ in ANSWER.findall(said)}
    if not codes <= {"NOERROR", "NXDOMAIN"}:
        raise Failed(f"answers with {', '.join(sorted(codes))}")
    answers = max(result["received"], 1)
    delays = statistics.quantiles([float(delay) * 1e6 for _, _, delay in ANSWER.findall(said)], n=1000)
    return result | {
        "cpu_ns": (used + deferred) / answers,
        "softirq_ns": deferred / answers,
        "per_wait": answers / max(slept, 1),
        "cpu_share": (used + deferred) / 1e9 / result["seconds"],
        "latency": {"p50": delays[499], "p99": delays[989], "p999": delays[998]},
    }


def highest(run: Callable[[Load], dict[str, Any]], given: Load) -> dict[str, Any]:
    """With fewer queries under way until fewer than LOSS_MAX are lost."""
    window = given.window
    while True:
        result = run(Load(0, window, given.processor))
        if 1 - result["received"] / result["sent"] < LOSS_MAX:
            return result
        if window == 1:
            raise Failed("loses queries one by one")
        window //= 2


def run_once(programs: Path, regime: Regime, row: Row, seconds: float) -> dict[str, Any]:
    """Runs one cell once, as measure.run_once does."""
    tools = [name for name in (row.program, "dnsperf", "ip", "taskset") if name in PACKAGES]
    missing = [name for name in tools if shutil.which(name) is None]
    if missing:
        return {"not_supported": f"no {missing[0]}; apt-get install {PACKAGES[missing[0]]} provides it"}
    if os.geteuid() != 0:
        return {"not_supported": "network namespaces take root"}
    given = LOADS[regime.name]
    try:
        with tempfile.TemporaryDirectory() as name, Network() as network:
            folder = Path(name)
            (folder / "questions").write_text("".join(f"{question}\n" for question, _ in QUESTIONS))
            with server(network, command_of(row, programs, folder), folder / "log") as process:
                wait_for(process, network, folder)
                if given.rate:
                    return load(network, folder, process.pid, given, seconds)
                return highest(lambda one: load(network, folder, process.pid, one, seconds), given)
    except Failed as failure:
        return {"error": str(failure)}
