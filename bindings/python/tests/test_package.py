"""What pip and build make of the package, installed in fresh virtual environments."""

from __future__ import annotations

import faulthandler
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import time
import zipfile

import pytest

from ringmsg import _loader

HERE = pathlib.Path(__file__).parents[1]
ROOT = _loader.checkout()
pytestmark = pytest.mark.skipif(ROOT is None, reason="not in a checkout")
RECEIVES = """
import socket, ringmsg
from ringmsg._abi import lib
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.bind(("127.0.0.1", 0))
with sock, ringmsg.Receiver(sock) as rx, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.sendto(b"x", sock.getsockname())
    assert rx.reap(5).payloads() == [b"x"]
print(lib.path)
"""


def environment(**more: str) -> dict[str, str]:
    """Without what would make a fresh environment find the checkout's library."""
    kept = {
        k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "RINGMSG_LIBRARY", "CARGO_TARGET_DIR")
    }
    return {**kept, **more}


def fresh(folder: pathlib.Path) -> pathlib.Path:
    """A new virtual environment; its python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin/python"


def check(command: list[object], **more: object) -> str:
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)  # type: ignore[call-overload]
    assert run.returncode == 0, run.stdout + run.stderr
    return str(run.stdout)


@pytest.fixture(autouse=True)
def no_time_limit() -> None:
    """Cargo compiles every crate on a new machine: minutes, of which the limit for a test knows nothing."""
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An sdist, and a wheel built from that, as `python -m build` does."""
    faulthandler.cancel_dump_traceback_later()  # no_time_limit comes after this
    out = tmp_path_factory.mktemp("dist")
    # Cargo's work is kept between runs, or each would compile every crate again.
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", str(ROOT) + "/target")) / "from-sdist"
    # Without this the files of an sdist are of 2020, and cargo takes an earlier build for newer.
    now = str(int(time.time()))
    building = environment(CARGO_TARGET_DIR=str(target), SOURCE_DATE_EPOCH=now)
    check([sys.executable, "-m", "build", "--outdir", out, HERE], env=building)
    return out


def test_the_sdist_carries_the_crate(artifacts: pathlib.Path) -> None:
    (sdist,) = artifacts.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    for needed in (
        "crate/Cargo.toml",
        "crate/Cargo.lock",
        "crate/src/lib.rs",
        "crate/include/ringmsg.h",
        "hatch_build.py",
    ):
        assert needed in names
    assert not [name for name in names if "target/" in name or name.endswith((".so", ".pyc"))]
    assert {"LICENSE-MIT", "LICENSE-APACHE"} <= names
    assert ROOT is not None
    for licence in ("LICENSE-MIT", "LICENSE-APACHE"):
        assert (HERE / licence).read_bytes() == (ROOT / licence).read_bytes(), (
            "a copy: pip refuses links in an sdist"
        )


def test_the_wheel_has_licences_and_addresses(artifacts: pathlib.Path) -> None:
    (wheel,) = artifacts.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        text = archive.read(metadata).decode()
        licences = [
            name
            for name in archive.namelist()
            if "/licenses/" in name and archive.getinfo(name).file_size > 500
        ]
        library = archive.getinfo("ringmsg/libringmsg.so").file_size
    assert len(licences) == 2
    assert "License-Expression: MIT OR Apache-2.0" in text and text.count("\nProject-URL: ") == 4
    assert library < 1 << 20, "stripped: with debug information it is 3.6 MB"


def test_the_wheel_has_the_library_and_a_floor(artifacts: pathlib.Path, tmp_path: pathlib.Path) -> None:
    (wheel,) = artifacts.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"ringmsg/libringmsg.so", "ringmsg/py.typed", "ringmsg/aio.py"} <= set(names)
    path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
    check([sys.executable, "-m", "auditwheel", "repair", wheel, "-w", tmp_path], env=environment(PATH=path))
    (repaired,) = tmp_path.glob("*.whl")
    floor = re.search(r"py3-none-.*manylinux_2_(\d+)_", repaired.name)
    assert floor and int(floor[1]) <= 39, repaired.name
    # No compiler and no cargo in the PATH, and nothing of the checkout.
    python = fresh(tmp_path / "env")
    bare = environment(PATH=str(python.parent))
    check([python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", repaired], env=bare)
    installed = check([python, "-c", RECEIVES], env=bare, cwd=tmp_path).strip()
    assert installed.endswith("/site-packages/ringmsg/libringmsg.so")


@pytest.mark.parametrize("editable", [False, True])
def test_pip_install(editable: bool, tmp_path: pathlib.Path) -> None:
    python = fresh(tmp_path / "env")
    options = ["-e", HERE] if editable else [HERE]
    check([python, "-m", "pip", "install", "-q", "--no-deps", *options], env=environment())
    installed = check([python, "-c", RECEIVES], env=environment(), cwd=tmp_path).strip()
    assert installed.endswith(
        "/target/release/libringmsg.so" if editable else "/site-packages/ringmsg/libringmsg.so"
    )


def test_without_numpy(tmp_path: pathlib.Path) -> None:
    """numpy is optional: what needs it says so."""
    python = fresh(tmp_path / "env")
    code = RECEIVES.replace(
        'assert rx.reap(5).payloads() == [b"x"]',
        "batch = rx.reap(5)\n    try: batch.records\n    except ImportError as error: "
        'assert "pip install numpy" in str(error)\n'
        '    else: raise SystemExit("no error")',
    )
    check([python, "-c", code], env=environment(PYTHONPATH=str(HERE / "src")))
