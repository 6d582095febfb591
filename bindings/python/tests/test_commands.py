"""The command line and the examples."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from typing import Any

import pytest

import ringmsg
import ringmsg.__main__

HERE = pathlib.Path(__file__).parents[1]


class Program:
    """A program that says which port it listens on."""

    def __init__(self, *arguments: str, **more: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(HERE / "src"), "PYTHONWARNINGS": "error", **more}
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=HERE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        found = re.search(r"port (\d+)", first)
        assert found, first + self.process.communicate()[1]
        self.address = ("127.0.0.1", int(found[1]))

    def running(self) -> bool:
        return self.process.poll() is None

    def output(self) -> str:
        out, err = self.process.communicate(timeout=20)
        assert (self.process.returncode, err) == (0, "")
        return out


@pytest.fixture
def sender() -> Any:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield sock


def test_support(capsys: pytest.CaptureFixture[str]) -> None:
    assert ringmsg.__main__.main([]) == 0
    assert capsys.readouterr().out.strip() == ringmsg.describe_support().strip()


def test_bad_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert ringmsg.__main__.main(["listen", "nowhere"]) == 1
    assert "HOST:PORT" in capsys.readouterr().err
    for command in ("listen", "watch"):
        assert ringmsg.__main__.main([command, "127.0.0.1:99999", "--seconds", "0"]) == 1
        assert "'127.0.0.1:99999': a port is at most 65535" in capsys.readouterr().err
    assert ringmsg.__main__.main(["listen", "127.0.0.1:0", "--metadata", "smell"]) == 1
    assert "smell" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--seconds=nan", "invalid seconds value: 'nan'"),
        ("--seconds=-1", "invalid seconds value: '-1'"),
        ("--interval=0", "0 is not a number of seconds, at least 0.01"),
        ("--interval=nan", "nan is not a number of seconds"),
        ("--count=0", "0 is not 1 or more"),
        ("--mode=fast", "invalid choice: 'fast'"),
    ],
)
def test_options_that_make_no_sense(option: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An interval of 0 kept a processor busy, and a time that is no number ended the command at once."""
    command = "watch" if option.startswith("--interval") else "listen"
    with pytest.raises(SystemExit, match="2"):
        ringmsg.__main__.main([command, "127.0.0.1:0", "--seconds=0.1", option])
    assert sentence in capsys.readouterr().err


def test_listen(sender: socket.socket) -> None:
    program = Program("-m", "ringmsg", "listen", "127.0.0.1:0", "--gro", "--metadata", "all", "--count", "6")
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 3)
    sender.sendto(b"hello", program.address)
    sender.sendmsg([bytes(100)], [(17, 103, struct.pack("=H", 20))], 0, program.address)
    out = program.output()
    lines = out.splitlines()
    assert len(lines) >= 7
    assert "5 bytes b'hello'" in lines[0] and "ecn=3" in lines[0]
    assert f"destination=127.0.0.1 port {program.address[1]}" in lines[0]
    assert "segment_size=20" in lines[1]
    assert re.fullmatch(r"[\d,]+ datagrams/s  [\d,.]+ Mbit/s  [\d.]+ per reap  0 dropped", lines[-1])
    assert "\x1b" not in out, "plain in a pipe"


def test_watch(sender: socket.socket) -> None:
    program = Program("-m", "ringmsg", "watch", "127.0.0.1:0", "--seconds", "1.2", "--interval", "0.4")
    sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 3)
    for _ in range(100):
        sender.sendto(b"x" * 50, program.address)
    out = program.output()
    assert "\x1b" not in out, "plain in a pipe"
    first, last = out.split("\n\n\n")[0], out
    assert re.search(r"^datagrams .*/s +100$", last, re.MULTILINE)
    assert re.search(r"^CE +100\.0%  █{32}$", last, re.MULTILINE)
    assert re.search(r"^batch [\d-]+ +\d+  [█▏▎▍▌▋▊▉]+$", last, re.MULTILINE)
    for name in ("payload", "dropped", "starved", "errors", "a batch", "CPU each", "rate"):
        assert f"\n{name} " in first


def test_watch_on_a_terminal(sender: socket.socket) -> None:
    """It draws over the last table, and Ctrl-C ends it without a traceback."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "ringmsg", "watch", "127.0.0.1:0", "--interval", "0.1"]
    environment = {**os.environ, "PYTHONPATH": str(HERE / "src"), "COLUMNS": "60"}
    # A shell starts background jobs with the signal ignored, and a child would leave it so.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command, stdout=follower, stderr=follower, cwd=HERE, env=environment, preexec_fn=heed
    )
    os.close(follower)
    seen = ""
    interrupted = False
    while True:
        try:
            seen += os.read(leader, 4096).decode(errors="replace")
        except OSError:  # the other end is closed
            break
        if seen.count("\x1b[H") >= 3 and not interrupted:
            interrupted = True
            process.send_signal(signal.SIGINT)
    os.close(leader)
    assert process.wait(10) == 130
    assert "Traceback" not in seen and "\x1b[K" in seen and "\x1b[J" in seen


@pytest.mark.parametrize("command", [["support"], ["listen", "127.0.0.1:0", "--seconds", "1"]])
def test_a_reader_that_goes_away_causes_no_traceback(command: list[str]) -> None:
    """As ``| head -0`` does."""
    readable, writable = os.pipe()
    os.close(readable)
    environment = {**os.environ, "PYTHONPATH": str(HERE / "src")}
    run = [sys.executable, "-m", "ringmsg", *command]
    process = subprocess.Popen(
        run, stdout=writable, stderr=subprocess.PIPE, text=True, cwd=HERE, env=environment
    )
    os.close(writable)
    assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_that_has_no_blocks(sender: socket.socket, encoding: str) -> None:
    """The bars are drawn with characters that every encoding has."""
    command = "-m", "ringmsg", "watch", "127.0.0.1:0", "--seconds", "0.5"
    program = Program(*command, PYTHONIOENCODING=encoding)
    for _ in range(10):
        sender.sendto(b"x", program.address)
    out = program.output()
    assert re.search(r"^not ECT +100\.0%  #{32}$", out, re.MULTILINE)
    assert re.search(r"^batch [\d-]+ +\d+  #+$", out, re.MULTILINE)


@pytest.mark.parametrize("command", [["support"], ["listen", "127.0.0.1:0"], ["watch", "127.0.0.1:0"]])
def test_a_closed_standard_output(command: list[str]) -> None:
    """As the shell's ``>&-`` makes it: a sentence, and no traceback."""
    run = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-m", "ringmsg", *command],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(HERE / "src")},
        stderr=subprocess.PIPE,
        text=True,
        timeout=20,
    )
    assert (run.returncode, run.stderr) == (1, "ringmsg: the standard output is closed\n")


def test_statsd_sink(sender: socket.socket) -> None:
    program = Program("examples/statsd_sink.py", "127.0.0.1:0", "--seconds", "1")
    for metric in (b"visits:1|c", b"visits:2|c\nload:0.5|g", b"sampled:1|c|@0.1", b"rubbish"):
        sender.sendto(metric, program.address)
    assert program.output().splitlines() == [
        "sampled 10",
        "visits 3",
        "load 0.5",
        "malformed 1",
        "dropped_by_the_kernel 0",
    ]


def test_ecn_reader(sender: socket.socket) -> None:
    program = Program("examples/ecn_reader.py", "127.0.0.1:0", "--seconds", "1")
    for ecn in (0, 3, 3, 2):
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, ecn)
        sender.sendto(b"x", program.address)
    assert program.output().split(": ")[1].strip() == "1 not-ECT, 1 ECT(0), 2 CE"


def test_inter_arrival(sender: socket.socket, tmp_path: pathlib.Path) -> None:
    plot = tmp_path / "gaps.png"
    # The first import on a machine makes a cache of fonts, and says so.
    subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], capture_output=True, check=True)
    program = Program(
        "-W", "ignore", "examples/inter_arrival.py", "127.0.0.1:0", "--datagrams", "200", "--plot", str(plot)
    )
    while program.running():  # not a fixed number: what comes before the kernel stamps does not count
        for _ in range(50):
            sender.sendto(b"x", program.address)
        time.sleep(0.01)
    assert "50 %" in program.output()
    assert plot.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_types() -> None:
    """mypy --strict finds nothing."""
    run = subprocess.run([sys.executable, "-m", "mypy"], cwd=HERE, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_types_are_complete() -> None:
    """What pyright knows of a py.typed package: every symbol has a type that is written down."""
    command = [str(pathlib.Path(sys.executable).with_name("basedpyright")), "--pythonpath", sys.executable]
    environment = {**os.environ, "PYTHONPATH": str(HERE / "src")}
    run = subprocess.run(
        [*command, "--verifytypes", "ringmsg", "--ignoreexternal"],
        cwd=HERE,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "Type completeness score: 100%" in run.stdout, run.stdout


def test_a_users_program_has_types(tmp_path: pathlib.Path) -> None:
    """basedpyright, in strict mode, finds nothing in a program that uses the package; so does mypy, see
    above. It does in one that takes a payload for text."""
    good = (HERE / "tests/typed_program.py").read_text()
    bad = good.replace("data: bytes = payload", "data: str = payload")
    assert bad != good
    paths = [str(HERE / "src")]
    configuration = {"typeCheckingMode": "strict", "extraPaths": paths, "include": ["good.py", "bad.py"]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(configuration))
    (tmp_path / "good.py").write_text(good)
    (tmp_path / "bad.py").write_text(bad)
    checker = pathlib.Path(sys.executable).with_name("basedpyright")
    run = subprocess.run(
        [checker, "--outputjson", "--pythonpath", sys.executable, "-p", tmp_path],
        capture_output=True,
        text=True,
    )
    found = json.loads(run.stdout)["generalDiagnostics"]
    assert [(pathlib.Path(each["file"]).name, each["rule"]) for each in found] == [
        ("bad.py", "reportAssignmentType")
    ], found


def test_style() -> None:
    """Formatted, lines of at most 110 columns, nothing unused."""
    ruff = pathlib.Path(sys.executable).with_name("ruff")
    for command in (["format", "--check"], ["check", "--select", "E501,F,W,I", "--ignore", "F841"]):
        run = subprocess.run([ruff, *command, "."], cwd=HERE, capture_output=True, text=True)
        assert run.returncode == 0, run.stdout + run.stderr
