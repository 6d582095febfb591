//! The C and C++ compilers, as the tests use them. CC and CXX select others.
#![allow(dead_code)] // each test program uses a part of this

use std::path::{Path, PathBuf};
use std::process::Command;

/// A language and its standard.
#[derive(Clone, Copy)]
pub enum Language {
    C(&'static str),
    Cpp(&'static str),
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of the libringmsg.so that cargo just built. Adds the link with the soname.
pub fn library_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its program");
    // The library beside the test, because the one that `cargo build` left one level up may be
    // older.
    let deps = test.parent().expect("target/PROFILE/deps/test").to_path_buf();
    let library = deps.join("libringmsg.so");
    assert!(library.exists(), "{} is missing: cargo builds it with the tests", library.display());
    let soname = deps.join("libringmsg.so.0");
    // Another test may create the link at the same time.
    let _ = std::os::unix::fs::symlink("libringmsg.so", soname);
    deps
}

/// Fails a test that found no io_uring, unless the environment allows skips. Then it counts the
/// skip: `make test` prints their number and reasons at the end.
pub fn skip(name: &str, why: &str) {
    assert!(
        std::env::var_os("RINGMSG_TEST_ALLOW_SKIP").is_some(),
        "{why}(RINGMSG_TEST_ALLOW_SKIP=1 turns this failure into a counted skip)"
    );
    note_skip(name, why);
}

/// Counts something that could not be tested here, for example for lack of a privilege.
pub fn note_skip(name: &str, why: &str) {
    let skipped = scratch().join("skipped");
    std::fs::create_dir_all(&skipped).expect("the scratch folder is writable");
    std::fs::write(skipped.join(name), why).expect("the scratch folder is writable");
}

/// Scratch space of the tests.
pub fn scratch() -> PathBuf {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).to_path_buf();
    std::fs::create_dir_all(&scratch).expect("cargo's folder for tests is writable");
    scratch
}

/// The C files of a folder.
pub fn sources(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).expect("the folder exists").map(|entry| entry.unwrap().path());
    let mut sources: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "c")).collect();
    sources.sort();
    sources
}

/// A compiler with every warning as an error.
pub fn compiler(language: Language) -> Command {
    let (variable, default, name, standard) = match language {
        Language::C(standard) => ("CC", "cc", "c", standard),
        Language::Cpp(standard) => ("CXX", "c++", "c++", standard),
    };
    let program = std::env::var(variable).unwrap_or_else(|_| default.into());
    let mut command = Command::new(program);
    command.args([
        "-x",
        name,
        &format!("-std={standard}"),
        "-g",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
    ]);
    command.arg("-I").arg(root().join("include"));
    command
}

/// Runs a compiler, and fails with its messages.
pub fn succeed(command: Command) {
    succeed_with_output(command);
}

/// The same, for what it prints.
pub fn succeed_with_output(mut command: Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{:?}: {error}; `apt-get install gcc g++` provides it", command.get_program())
    });
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Compiles a program and links it with the shared library.
pub fn compile(language: Language, sources: &[&Path], name: &str) -> PathBuf {
    let program = scratch().join(name);
    let mut command = compiler(language);
    command.args(sources).arg("-o").arg(&program);
    command.arg("-L").arg(library_directory()).args(["-lringmsg", "-lpthread"]);
    succeed(command);
    program
}

/// Compiles a program and links it with the static library.
pub fn compile_static(language: Language, sources: &[&Path], name: &str) -> PathBuf {
    let program = scratch().join(name);
    let mut command = compiler(language);
    command.args(sources).arg("-o").arg(&program);
    // Resets the language that is set above, because the archive is not a source.
    command.args(["-x", "none"]).arg(library_directory().join("libringmsg.a"));
    command.args(["-lpthread", "-ldl", "-lm"]);
    succeed(command);
    program
}
