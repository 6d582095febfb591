"""The ctypes declarations say what the header says."""

from __future__ import annotations

import ctypes
import enum
import importlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

import ringmsg
from ringmsg import _abi, _layout, _loader, flags

ROOT = _loader.checkout()
HEADER = (ROOT or pathlib.Path(__file__).parents[1] / "crate") / "include/ringmsg.h"
TEXT = HEADER.read_text()
STRUCTS = {
    "record": _abi.Record,
    "metadata": _abi.Metadata,
    "support": _abi.Support,
    "ring_config": _abi.RingConfig,
    "ring_info": _abi.RingInfo,
    "stats": _abi.Stats,
    "pool_config": _abi.PoolConfig,
    "steering": _abi.Steering,
    "wait": _abi.Wait,
    "cmsg": _abi.Cmsg,
    "path": _abi.Path,
    "sender_config": _abi.SenderConfig,
    "message": _abi.Message,
    "sender_stats": _abi.SenderStats,
}
ENUMS: dict[str, type[enum.IntEnum] | type[enum.IntFlag]] = {
    "SETUP": flags.Setup,
    "ENGINE": flags.Engine,
    "FEATURE": flags.Feature,
    "RECORD": flags.RecordFlag,
    "RECV": flags.RecvFlag,
    "META": flags.Meta,
    "PATH": flags.PathFlag,
    "MESSAGE": flags.MessageFlag,
    "SENDER": flags.SenderFlag,
    "SEND": flags.SendFlag,
}
OTHERS = {
    "LINGER_AUTO": _abi.LINGER_AUTO,
    "LINGER_AUTO_WITHIN": _abi.LINGER_AUTO_WITHIN,
    "LINGER_MAX_US": _abi.LINGER_MAX_US,
    "POOL_NONE": _abi.POOL_NONE,
    "STEER_CPU": _abi.STEER_CPU,
    "STEER_PAYLOAD": _abi.STEER_PAYLOAD,
    "STEER_QUIC": _abi.STEER_QUIC,
    "ABI_VERSION": _abi.ABI_VERSION,
}


def header_constants() -> dict[str, int]:
    """Every number that the header defines."""
    found = {}
    for name, value in re.findall(r"^#define RINGMSG_(\w+) (.+)$", TEXT, re.MULTILINE):
        if re.fullmatch(r"[\d()u< ]+", value):
            found[name] = eval(value.replace("u", ""))  # noqa: S307
    return found


def test_every_constant() -> None:
    ours = dict(OTHERS)
    for prefix, kind in ENUMS.items():
        ours.update({f"{prefix}_{member.name}": int(member) for member in kind})
    theirs = header_constants()
    assert len(theirs) > 35
    assert ours == theirs


def test_every_size_and_offset(tmp_path: pathlib.Path) -> None:
    """A C program prints what the compiler makes of the header."""
    lines = []
    for name, kind in STRUCTS.items():
        lines.append(f'printf("{name} %zu\\n", sizeof(struct ringmsg_{name}));')
        for field, *_ in kind._fields_:
            member = f"(((struct ringmsg_{name} *)0)->{field})"
            lines.append(
                f'printf("{name}.{field} %zu %zu\\n", '
                f"offsetof(struct ringmsg_{name}, {field}), sizeof {member});"
            )
    source = tmp_path / "layout.c"
    source.write_text("#include <stdio.h>\n#include <ringmsg.h>\nint main(void) {" + "\n".join(lines) + "}\n")
    program = tmp_path / "layout"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, f"-I{HEADER.parent}", source, "-o", program], check=True)
    theirs = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    ours = []
    for name, kind in STRUCTS.items():
        ours.append(f"{name} {ctypes.sizeof(kind)}")
        for field, *_ in kind._fields_:
            descriptor = getattr(kind, field)
            ours.append(f"{name}.{field} {descriptor.offset} {descriptor.size}")
    assert ours == theirs


@pytest.mark.parametrize("name", STRUCTS)
def test_no_field_is_missing(name: str) -> None:
    body = re.search(rf"^struct ringmsg_{name} {{(.*?)^}};", TEXT, re.MULTILINE | re.DOTALL)
    assert body
    code = re.sub(r"/\*.*?\*/", "", body[1], flags=re.DOTALL)
    theirs = re.findall(r"(\w+)(?:\[\d+\])?;", code)
    assert [field for field, *_ in STRUCTS[name]._fields_] == theirs


def test_every_function_is_declared() -> None:
    theirs = set(re.findall(r"\bringmsg_(\w+)\(", re.sub(r"/\*.*?\*/", "", TEXT, flags=re.DOTALL)))
    # ringmsg_recvmsg() takes a msghdr that must not move: Python uses recvmsg_once().
    assert set(_abi._PROTOTYPES) == theirs - {"recvmsg"}


@pytest.mark.parametrize("kind", [_abi.Record, _abi.Metadata])
def test_numpy_dtypes(kind: type[ctypes.Structure]) -> None:
    made = _layout.dtype(kind)
    assert made.itemsize == ctypes.sizeof(kind)
    assert made.names == tuple(field for field, *_ in kind._fields_)
    for field in made.names:
        assert made.fields is not None and made.fields[field][1] == getattr(kind, field).offset


def test_version() -> None:
    assert ringmsg.version() == ringmsg.__version__


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_a_library_that_is_not_ours_is_refused(tmp_path: pathlib.Path) -> None:
    missing = python("import ringmsg", RINGMSG_LIBRARY=str(tmp_path / "nowhere.so"))
    assert "ImportError: ringmsg: the library could not be loaded" in missing.stderr
    libc = python("import ringmsg", RINGMSG_LIBRARY="libc.so.6")
    assert "has no ringmsg_version(): not this package's library" in libc.stderr


def test_another_abi_is_refused(tmp_path: pathlib.Path) -> None:
    functions = "".join(f"int ringmsg_{name}(void) {{ return 0; }}\n" for name in _abi._PROTOTYPES)
    functions = functions.replace(
        "int ringmsg_abi_version(void) { return 0", "int ringmsg_abi_version(void) { return 7"
    )
    source, library = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text(functions)
    subprocess.run([os.environ.get("CC", "cc"), "-shared", "-fPIC", source, "-o", library], check=True)
    other = python("import ringmsg", RINGMSG_LIBRARY=str(library))
    assert "ABI version 7, this package needs 0" in other.stderr


def test_other_peoples_manifests_are_no_obstacle(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed package looks for its checkout in every folder above it. What lies there may be in
    another encoding, unreadable, or no file."""
    package = tmp_path / "site/ringmsg"
    package.mkdir(parents=True)
    monkeypatch.delenv("RINGMSG_LIBRARY", raising=False)
    monkeypatch.setattr(_loader, "__file__", str(package / "_loader.py"))
    (tmp_path / "Cargo.toml").write_bytes(b'[package]\nname = "caf\xe9"\n')
    (tmp_path / "site/Cargo.toml").mkdir()
    (package / "Cargo.toml").symlink_to("Cargo.toml")  # which nobody can read, root neither
    assert _loader.candidates() == ["libringmsg.so.0"]


def test_the_loaders_order(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGMSG_LIBRARY", "/given.so")
    assert _loader.candidates() == ["/given.so"]
    monkeypatch.delenv("RINGMSG_LIBRARY")
    package = tmp_path / "bindings/python/src/ringmsg"
    package.mkdir(parents=True)
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "other"\n')
    (tmp_path / "target/release").mkdir(parents=True)
    (tmp_path / "target/release/libringmsg.so").touch()
    monkeypatch.setattr(_loader, "__file__", str(package / "_loader.py"))
    monkeypatch.delenv("CARGO_TARGET_DIR", raising=False)
    assert _loader.candidates() == ["libringmsg.so.0"], "somebody else's target folder"
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "ringmsg"\n')
    built = str(tmp_path / "target/release/libringmsg.so")
    assert _loader.candidates() == [built, "libringmsg.so.0"]
    bundled = package / "libringmsg.so"
    bundled.touch()
    assert _loader.candidates() == [str(bundled), built, "libringmsg.so.0"]
    importlib.reload(_loader)
