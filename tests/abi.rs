//! The binary interface: the exported symbols, the soname, and the values and offsets that programs
//! are compiled against.

use std::process::Command;

mod toolchain;
use toolchain::{Language, compiler, library_directory, root, scratch, succeed};

const SYMBOLS: &str = include_str!("abi/symbols.txt");

/// Runs `tool` on the shared library and returns its output.
fn ask(tool: &str, arguments: &[&str]) -> String {
    let library = library_directory().join("libringmsg.so");
    let output = Command::new(tool)
        .args(arguments)
        .arg(&library)
        .output()
        .unwrap_or_else(|error| panic!("{tool}: {error}; `apt-get install binutils` provides it"));
    assert!(output.status.success(), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("symbols are text")
}

#[test]
fn exactly_the_listed_symbols_are_exported() {
    let exported = ask("nm", &["-D", "--defined-only"]);
    let mut exported: Vec<&str> = exported.lines().filter_map(|line| line.split(' ').nth(2)).collect();
    exported.sort_unstable();
    let listed: Vec<&str> = SYMBOLS.lines().collect();
    let missing: Vec<_> = listed.iter().filter(|name| !exported.contains(name)).collect();
    let unlisted: Vec<_> = exported.iter().filter(|name| !listed.contains(name)).collect();
    assert!(
        missing.is_empty() && unlisted.is_empty(),
        "gone: {missing:?} (programs will not start); not in tests/abi/symbols.txt: {unlisted:?}"
    );
    assert!(listed.is_sorted(), "tests/abi/symbols.txt is sorted");
}

#[test]
fn the_header_declares_exactly_the_exported_functions() {
    let header = std::fs::read_to_string(root().join("include/ringmsg.h")).unwrap();
    let code = |line: &&str| !line.starts_with([' ', '/', '#']);
    let mut declared: Vec<&str> = header
        .lines()
        .filter(code)
        .filter_map(|line| line.split_once('(')?.0.rsplit([' ', '*']).next())
        .filter(|name| name.starts_with("ringmsg_"))
        .collect();
    declared.sort_unstable();
    assert_eq!(declared, SYMBOLS.lines().collect::<Vec<_>>());
}

#[test]
fn the_soname_is_that_of_the_first_interface() {
    let dynamic = ask("readelf", &["-d"]);
    assert!(dynamic.contains("soname: [libringmsg.so.0]"), "{dynamic}");
}

/// dlclose(3) leaves it loaded: a thread that has owned a ring calls into it when it ends.
#[test]
fn a_thread_may_end_after_dlclose() {
    let program = scratch().join("dlclose");
    let mut command = compiler(Language::C("gnu11"));
    command.arg(root().join("tests/abi/dlclose.c")).arg("-o").arg(&program).args(["-lpthread", "-ldl"]);
    succeed(command);
    let mut command = Command::new(program);
    command.arg(library_directory().join("libringmsg.so"));
    succeed(command);
}

#[test]
fn values_and_offsets_never_change() {
    for standard in ["c11", "c17"] {
        let mut command = compiler(Language::C(standard));
        command.arg("-fsyntax-only").arg(root().join("tests/abi/layout.c"));
        succeed(command);
    }
}
