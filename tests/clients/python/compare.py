"""Runs every suite and program twice, and compares: see ../python.sh."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

HERE = pathlib.Path(__file__).parent
# Folder of the source archive, and what of its tests is run: what uses datagram endpoints, where
# the rest takes long or needs more than PyPI has.
SUITES: dict[str, tuple[str, list[str]]] = {
    "aioquic": ("aioquic-1.7.2", ["tests"]),
    "zeroconf": (
        "zeroconf-0.154.0",
        ["tests", "--ignore=tests/benchmarks", "--ignore=tests/test_circular_imports.py"],
    ),
    "asyncio-dgram": ("asyncio_dgram-3.0.0", ["test"]),
    "aioice": ("aioice-0.13.0", ["tests"]),
    "uvloop": ("uvloop-0.23.0", ["tests/test_udp.py"]),
}
PROGRAMS = {"http3": "http3.py", "dns": "dns_garbage.py", "aiocoap": "coap.py"}
TRIES = 3
Outcomes = dict[str, str]


def pytest(folder: pathlib.Path, what: list[str], installed: bool) -> tuple[Outcomes, int]:
    """Each test's outcome, and how many endpoints were ours. The tests run in a folder of their own:
    beside the source of a package they would find that instead of the package."""
    with tempfile.TemporaryDirectory() as temporary:
        tests = what[0].split("/")[0]
        shutil.copytree(folder / tests, pathlib.Path(temporary, tests))
        report, endpoints = pathlib.Path(temporary, "report.xml"), pathlib.Path(temporary, "endpoints")
        plugin = ["-p", "installed_everywhere"] if installed else []
        options = ["-q", "-o", "addopts=", "-p", "no:cacheprovider", f"--junitxml={report}", *plugin]
        run = subprocess.run(
            [sys.executable, "-m", "pytest", *options, *what],
            cwd=temporary,
            env={**os.environ, "RINGMSG_ENDPOINTS_FILE": str(endpoints)},
            capture_output=True,
            text=True,
            timeout=900,
        )
        if not report.exists():
            raise SystemExit(
                f"{folder.name}: pytest ended without a report:\n{run.stdout[-2000:]}{run.stderr[-2000:]}"
            )
        outcomes = {}
        for case in xml.etree.ElementTree.parse(report).iter("testcase"):
            kinds = {child.tag for child in case} & {"failure", "error", "skipped"}
            outcomes[f"{case.get('classname')}::{case.get('name')}"] = min(kinds, default="passed")
        return outcomes, endpoints.stat().st_size if endpoints.exists() else 0


def suite(name: str, sources: pathlib.Path) -> bool:
    """Whether a suite's results are equal."""
    folder, what = SUITES[name]
    where = sources / folder
    own, _ = pytest(where, what, installed=False)
    ours, endpoints = pytest(where, what, installed=True)
    different = [test for test in own.keys() | ours.keys() if own.get(test) != ours.get(test)]
    for _ in range(TRIES):
        if not different or len(different) > 10:
            break
        # Suites that measure time or race are not equal to themselves: such tests are run again.
        again = [*what, "-k", " or ".join({test.split("::")[1].split("[")[0] for test in different})]
        own |= pytest(where, again, installed=False)[0]
        ours |= pytest(where, again, installed=True)[0]
        different = [test for test in different if own.get(test) != ours.get(test)]
    counts = {kind: list(own.values()).count(kind) for kind in sorted(set(own.values()))}
    print(
        f"{name}: {len(own)} tests, {counts}; {endpoints} endpoints were ringmsg's; {len(different)} differ"
    )
    for test in sorted(different):
        print(f"  {test}: {own.get(test)}, on ringmsg {ours.get(test)}")
    return not different and endpoints > 0 and counts.get("passed", 0) > 0


def program(name: str) -> bool:
    """Whether a program prints the same both times, and ends well."""
    outputs = []
    for argument in ("own", "ringmsg"):
        run = subprocess.run(
            [sys.executable, HERE / PROGRAMS[name], argument], capture_output=True, text=True, timeout=600
        )
        outputs.append((run.returncode, run.stdout))
        if run.returncode:
            print(run.stderr[-2000:], file=sys.stderr)
    verdict = "equal" if outputs[0] == outputs[1] else f"on ringmsg {outputs[1]}"
    print(f"{name}: {outputs[0][1].strip()}; {verdict}")
    return outputs[0] == outputs[1] and outputs[0][0] == 0


def main() -> int:
    """Prints a line for each; 0 if all are equal."""
    sources = pathlib.Path(sys.argv[1])
    names = sys.argv[2:] or [*SUITES, *PROGRAMS]
    results = []
    for name in names:
        results.append(suite(name, sources) if name in SUITES else program(name))
        sys.stdout.flush()
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
