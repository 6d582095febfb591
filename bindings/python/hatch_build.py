"""Builds libringmsg.so with cargo and puts it into the wheel; puts the crate into the sdist."""

import os
import pathlib
import shutil
import subprocess
import sysconfig
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# What cargo needs; the same list as `include` in Cargo.toml, and that file.
CRATE = ["Cargo.toml", "Cargo.lock", "build.rs", "cbindgen.toml", "src", "include", "README.md", "LICENSE-MIT", "LICENSE-APACHE"]


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
        library = self.build(crate)
        if version == "editable":
            return  # the loader finds the checkout's target folder
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        build_data["force_include"][str(library)] = "ringmsg/libringmsg.so"

    def build(self, crate: pathlib.Path) -> pathlib.Path:
        """cargo build; returns the library."""
        cargo = os.environ.get("CARGO") or shutil.which("cargo")
        if cargo is None:
            raise RuntimeError("ringmsg: building from source needs cargo (Rust 1.85 or later): https://rustup.rs")
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", crate / "target")).absolute()
        # As `make build` does: where an rlib is asked for too, cargo builds without LTO.
        kinds = ["--lib", "--crate-type", "cdylib,staticlib"]
        command = [cargo, "rustc", "--release", "--locked", *kinds, "--target-dir", str(target)]
        subprocess.run(command, cwd=crate, check=True)
        return target / "release" / "libringmsg.so"
