"""Builds libringmsg.so with cargo and puts it into the wheel; puts the crate into the sdist.

``RINGMSG_WHEEL_TARGET`` makes a wheel for another system than this one, as wheels.sh does: a target
of cargo-zigbuild, the oldest glibc behind it: ``aarch64-unknown-linux-gnu.2.17``.
"""

import os
import pathlib
import shutil
import subprocess
import sysconfig
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# What cargo needs; the same list as `include` in Cargo.toml, and that file.
CRATE = [
    "Cargo.toml",
    "Cargo.lock",
    "build.rs",
    "cbindgen.toml",
    "src",
    "include",
    "README.md",
    "LICENSE-MIT",
    "LICENSE-APACHE",
]
# As `make build` does: where an rlib is asked for too, cargo builds without LTO.
LIBRARY = ["rustc", "--release", "--locked", "--lib", "--crate-type", "cdylib,staticlib"]
SHARED = ["rustc", "--release", "--locked", "--lib", "--crate-type", "cdylib"]
STRIPPED = ["--", "-C", "strip=symbols"]


class CargoHook(BuildHookInterface):
    """hatchling calls this for every wheel and sdist."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """The crate lies in crate/ when we are in an sdist, else two folders up."""
        carried = pathlib.Path(self.root) / "crate"
        crate = carried if carried.is_dir() else pathlib.Path(self.root).parents[1]
        if not (crate / "Cargo.toml").is_file():
            raise FileNotFoundError(f"ringmsg: no crate in {carried} nor {crate}")
        if self.target_name == "sdist":
            for name in CRATE:
                if (crate / name).exists():
                    build_data["force_include"][str(crate / name)] = f"crate/{name}"
            return
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", crate / "target")).absolute()
        if version == "editable":
            cargo(crate, LIBRARY, target)
            return  # the loader finds the checkout's target folder
        library, platform = self.build(crate, target / "wheel")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["force_include"][str(library)] = "ringmsg/libringmsg.so"

    def build(self, crate: pathlib.Path, target: pathlib.Path) -> tuple[pathlib.Path, str]:
        """A stripped library, and the platform that it is for."""
        other = os.environ.get("RINGMSG_WHEEL_TARGET")
        if other is None:
            cargo(crate, [*SHARED, *STRIPPED], target)
            return target / "release/libringmsg.so", sysconfig.get_platform().replace("-", "_").replace(
                ".", "_"
            )
        cargo(crate, [*SHARED, "--target", other, *STRIPPED], target, "cargo-zigbuild")
        triple = other.split(".")[0]
        return target / triple / "release/libringmsg.so", f"linux_{triple.split('-')[0]}"


def cargo(crate: pathlib.Path, command: list[str], target: pathlib.Path, program: str = "cargo") -> None:
    """Runs cargo in the crate."""
    found = os.environ.get("CARGO") if program == "cargo" else None
    found = found or shutil.which(program)
    if found is None:
        raise RuntimeError(
            f"ringmsg: building from source needs {program} (Rust 1.85 or later): https://rustup.rs"
        )
    subprocess.run(
        [found, *command], cwd=crate, env={**os.environ, "CARGO_TARGET_DIR": str(target)}, check=True
    )
