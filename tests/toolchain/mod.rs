//! The C and C++ compilers, as the tests use them. CC and CXX are honoured.
#![allow(dead_code)] // each test program uses its part

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

/// Where cargo put libringmsg.so. The name its soname asks for is linked beside it.
pub fn library_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its program");
    // Beside the test itself: what `cargo build` leaves one level up may be older.
    let deps = test.parent().expect("target/PROFILE/deps/test").to_path_buf();
    let library = deps.join("libringmsg.so");
    assert!(library.exists(), "{} is missing: cargo builds it with the tests", library.display());
    let soname = deps.join("libringmsg.so.0");
    // Another test may be doing the same.
    let _ = std::os::unix::fs::symlink("libringmsg.so", soname);
    deps
}

/// Notes that a test found no io_uring. That fails unless the environment allows skips; then it is
/// counted: `make test` prints the count and the reasons at the end.
pub fn skip(name: &str, why: &str) {
    assert!(
        std::env::var_os("RINGMSG_TEST_ALLOW_SKIP").is_some(),
        "{why}(RINGMSG_TEST_ALLOW_SKIP=1 turns this failure into a counted skip)"
    );
    note_skip(name, why);
}

/// Counts something that could not be tried here, for want of a privilege, say.
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

/// A compiler with the warnings that everything here must be free of.
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

/// Runs a compiler; its messages are the test's failure.
pub fn succeed(mut command: Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{:?}: {error}; `apt-get install gcc g++` provides it", command.get_program())
    });
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
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

/// The same, linked with the static library.
pub fn compile_static(language: Language, sources: &[&Path], name: &str) -> PathBuf {
    let program = scratch().join(name);
    let mut command = compiler(language);
    command.args(sources).arg("-o").arg(&program);
    // The archive is no source: the compiler was told a language above.
    command.args(["-x", "none"]).arg(library_directory().join("libringmsg.a"));
    command.args(["-lpthread", "-ldl", "-lm"]);
    succeed(command);
    program
}
