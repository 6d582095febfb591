//! The seccomp profile in packaging/ is valid, names each system call once, and allows what the
//! library needs.

use std::path::PathBuf;
use std::process::{Command, Output};

mod toolchain;
use toolchain::{Language, compile, library_directory, note_skip, root, scratch};

const IO_URING: [&str; 3] = ["io_uring_enter", "io_uring_register", "io_uring_setup"];

fn profile() -> PathBuf {
    root().join("packaging/seccomp/ringmsg.json")
}

fn parsed() -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(profile()).unwrap()).expect("the profile is JSON")
}

fn names(rule: &serde_json::Value) -> Vec<&str> {
    rule["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

#[test]
fn the_profile_refuses_by_default_and_names_each_call_once() {
    let profile = parsed();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = profile["syscalls"].as_array().unwrap();
    let mut all: Vec<_> = rules.iter().flat_map(names).collect();
    assert!(rules.iter().all(|rule| rule["action"] == "SCMP_ACT_ALLOW"));
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "a call is named twice");
    assert_eq!(names(&rules[0]), IO_URING);
    // The other system calls of the library and its engines.
    for call in
        "epoll_create1 epoll_ctl epoll_pwait2 eventfd2 recvmsg recvmmsg socketpair getsockopt setsockopt \
                 fcntl dup3 mmap munmap madvise close read write poll clone3 futex"
            .split_whitespace()
    {
        assert!(all.binary_search(&call).is_ok(), "{call} is not allowed");
    }
}

/// Runs tests/c/basic.c under a profile. Returns None where Python has no libseccomp.
fn run_basic(profile: &std::path::Path) -> Option<Output> {
    let program = compile(Language::C("c11"), &[&root().join("tests/c/basic.c")], "basic_under_seccomp");
    let output = Command::new("python3")
        .arg(root().join("packaging/seccomp/run.py"))
        .args([profile, &program])
        .env("LD_LIBRARY_PATH", library_directory())
        .output()
        .ok()?;
    let missing = String::from_utf8_lossy(&output.stderr).contains("libseccomp.so.2: cannot open");
    (!missing).then_some(output)
}

#[test]
fn the_library_runs_under_the_profile_and_without_io_uring_on_recvmmsg() {
    let Some(output) = run_basic(&profile()) else {
        return note_skip("seccomp_profile", "no python3 or no libseccomp.so.2 to load the profile with");
    };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !said.contains("no io_uring"), "{said}{output:?}");

    let mut without = parsed();
    without["syscalls"].as_array_mut().unwrap().remove(0);
    let path = scratch().join("without_io_uring.json");
    std::fs::write(&path, without.to_string()).unwrap();
    let output = run_basic(&path).expect("it was there just now");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("no io_uring") && said.contains("seccomp filter"),
        "{said}"
    );
}
