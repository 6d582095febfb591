//! Runs tests/installed/run.sh: `make install`, and then every example built and run from the
//! installed files only.

use std::process::Command;

mod toolchain;
use toolchain::{library_directory, root};

#[test]
fn examples_build_and_run_from_the_installed_tree_alone() {
    let output = Command::new(root().join("tests/installed/run.sh"))
        .arg(library_directory())
        // Make's own variables would reach the make that the script runs.
        .env_remove("MAKEFLAGS")
        .env_remove("MFLAGS")
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}
