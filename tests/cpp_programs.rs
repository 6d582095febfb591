//! Compiles and runs tests/cpp, the test of ringmsg.hpp, with every C++ compiler that is installed.
//! The program checks itself; a missing compiler is reported.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

mod toolchain;
use toolchain::{Language, compiler, library_directory, note_skip, root, scratch, succeed};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The command of `compiler`, with this program: CXX, g++ or clang++. None if it is not installed.
fn compiler_named(program: &str, standard: &'static str) -> Option<Command> {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        println!("NOT CHECKED: {program} -std={standard} is not installed (`apt-get install g++ clang`)");
        return None;
    }
    let usual = compiler(Language::Cpp(standard));
    let mut command = Command::new(program);
    command.args(usual.get_args());
    Some(command)
}

fn sources() -> [PathBuf; 6] {
    ["wrapper.cpp", "collect.cpp", "sending.cpp", "control.cpp", "full_sockets.cpp", "lifetimes.cpp"]
        .map(|name| root().join("tests/cpp").join(name))
}

fn run(program: &Path) {
    let output = Command::new("timeout")
        .arg("120")
        .arg(program)
        .env("LD_LIBRARY_PATH", library_directory())
        .output()
        .expect("the program starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for line in stdout.lines().filter(|line| line.starts_with("(skipped")) {
        note_skip("cpp_programs", line);
    }
    assert!(output.status.success(), "{} failed ({}):\n{stdout}{stderr}", program.display(), output.status);
    println!("{stdout}");
}

/// Builds the translation units and runs the program.
fn build_and_run(cxx: &str, standard: &'static str, name: &str, more: &[&str]) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut command) = compiler_named(cxx, standard) else { return };
    let program = scratch().join(name);
    command.args(more).args(sources()).arg("-o").arg(&program);
    command.arg("-L").arg(library_directory()).args(["-lringmsg", "-lpthread"]);
    succeed(command);
    run(&program);
}

#[test]
fn the_wrapper_works_with_gcc() {
    build_and_run("g++", "c++20", "wrapper_gcc", &["-Wshadow=local", "-Wconversion"]);
}

#[test]
fn the_wrapper_works_with_clang() {
    build_and_run("clang++", "c++20", "wrapper_clang", &["-Wshadow", "-Wconversion"]);
}

#[test]
fn the_wrapper_works_with_address_sanitizer() {
    build_and_run("g++", "c++20", "wrapper_sanitized", &["-fsanitize=address"]);
}

#[test]
fn the_header_compiles_in_later_standards_and_without_exceptions() {
    for cxx in ["g++", "clang++"] {
        for (standard, more) in [("c++2b", &[][..]), ("c++20", &["-fno-exceptions", "-fno-rtti"])] {
            let Some(mut command) = compiler_named(cxx, standard) else { continue };
            let source = scratch().join("hpp_alone.cpp");
            let text = "#include <ringmsg.hpp>\n#include <ringmsg.hpp>\nint main() { ringmsg::ring ring; }\n";
            std::fs::write(&source, text).unwrap();
            command.args(more).arg("-fsyntax-only").arg(&source);
            succeed(command);
        }
    }
}
