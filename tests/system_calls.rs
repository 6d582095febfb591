//! The system calls that the library makes are those that docs/security.md lists, on each engine.

use std::collections::BTreeSet;
use std::process::Command;

mod sandboxing;
mod toolchain;
use sandboxing::{documented, numbers, traced_between_getppids};
use toolchain::{Language, compile, library_directory, note_skip, root, skip};

/// The system calls of tests/system_calls/workload.c between its two calls of getppid(2). None
/// where they cannot be traced.
fn traced(arguments: &[&str]) -> Option<BTreeSet<String>> {
    let source = root().join("tests/system_calls/workload.c");
    let program = compile(Language::C("gnu11"), &[&source], &format!("workload_{}", arguments.join("_")));
    let numbers = numbers();
    let mut command = Command::new(program);
    command.args(arguments).env("LD_LIBRARY_PATH", library_directory());
    let name = |number| numbers.iter().find(|(_, its)| **its == number).expect("it has a name").0.clone();
    match traced_between_getppids(&mut command, numbers["getppid"]) {
        Ok(calls) => Some(calls.into_iter().map(name).collect()),
        Err(error) => {
            note_skip("system_calls", &format!("ptrace(2): {error}"));
            None
        }
    }
}

fn rows(names: &[&str]) -> BTreeSet<String> {
    let documented = documented();
    names.iter().flat_map(|&name| documented[name].clone()).collect()
}

/// Fails unless a trace shows every call that the rows name, and no other but those that occur now
/// and then.
fn compare(traced: &BTreeSet<String>, rows_: &[&str]) {
    let (expected, sometimes) = (rows(rows_), rows(&["now and then"]));
    let undocumented: Vec<_> =
        traced.iter().filter(|c| !expected.contains(*c) && !sometimes.contains(*c)).collect();
    let unused: Vec<_> =
        expected.iter().filter(|c| !traced.contains(*c) && !sometimes.contains(*c)).collect();
    assert!(undocumented.is_empty(), "{rows_:?} of docs/security.md lack {undocumented:?}");
    assert!(unused.is_empty(), "{rows_:?} of docs/security.md name {unused:?}, which nothing calls");
}

fn has_io_uring() -> bool {
    let source = root().join("tests/system_calls/workload.c");
    let program = compile(Language::C("gnu11"), &[&source], "workload");
    let ran = Command::new(program).arg("io_uring").env("LD_LIBRARY_PATH", library_directory()).output();
    ran.expect("the program starts").status.success()
}

#[test]
fn of_io_uring() {
    if !has_io_uring() {
        return skip("system_calls_of_io_uring", "no io_uring here ");
    }
    // The first ring_fd in DEFER mode starts a thread.
    if let Some(calls) = traced(&["io_uring"]) {
        let thread: BTreeSet<_> = rows(&["support"]).intersection(&calls).cloned().collect();
        compare(&calls.difference(&thread).cloned().collect(), &["each ring", "io_uring"]);
    }
    if let Some(calls) = traced(&["io_uring", "all"]) {
        compare(&calls, &["each ring", "io_uring", "support", "sockets"]);
    }
}

#[test]
fn of_recvmmsg() {
    if let Some(calls) = traced(&["recvmmsg"]) {
        compare(&calls, &["each ring", "recvmmsg"]);
    }
}

#[test]
fn of_senders() {
    if let Some(calls) = traced(&["senders"]) {
        compare(&calls, &["sending"]);
    }
}

/// What the workload does not call, no trace shows.
#[test]
fn the_workload_calls_every_function() {
    let workload = std::fs::read_to_string(root().join("tests/system_calls/workload.c")).unwrap();
    let symbols = std::fs::read_to_string(root().join("tests/abi/symbols.txt")).unwrap();
    for symbol in symbols.lines().filter(|line| line.starts_with("ringmsg_")) {
        assert!(workload.contains(&format!("{symbol}(")), "{symbol}");
    }
}
