//! Compiles and runs the C programs of tests/c, each as one test, against the shared library that
//! cargo just built. They run one at a time, because they measure time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

mod toolchain;
use toolchain::{Language, compile, library_directory, note_skip, skip};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c")
}

fn run(name: &str) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let source = sources().join(format!("{name}.c"));
    let program = compile(Language::C("c11"), &[&source], name);
    let mut command = Command::new(&program);
    command.env("LD_LIBRARY_PATH", library_directory());
    let output = command.output().expect("the program starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} failed ({}):\n{stdout}{stderr}", output.status);
    if let Some(line) = stdout.lines().find(|line| line.starts_with("(no io_uring")) {
        skip(name, line);
    }
    for line in stdout.lines().filter(|line| line.starts_with("(skipped")) {
        note_skip(name, line);
    }
    println!("{stdout}");
}

macro_rules! c_programs {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*
        const LISTED: &[&str] = &[$(stringify!($name)),*];
    };
}

c_programs! {
    bad_arguments
    bad_configs
    bad_releases
    bad_threads
    basic
    cancel
    concurrent_arming
    control
    counts
    errors
    fairness
    faults
    fork
    fork_registry
    free_during_calls
    freeing
    gro
    hot_trains
    large_batches
    limits
    lingering
    lingering_auto
    many_sockets
    memlock
    metadata
    msg_waitall
    pool_memory
    receive
    receive_records
    recvmmsg_faults
    recvmsg
    recvmsg_once
    release_threads
    ring_fd
    ring_fd_edge_triggered
    ring_fd_notifications
    ring_fd_steady_state
    sandbox
    scm_rights
    send_basic
    send_control
    send_errors
    send_forwarded
    send_full
    send_grouping
    send_interrupted
    send_memory
    send_misuse
    send_pending_errors
    send_refused
    send_reply
    send_sockets
    send_timeout
    send_times
    send_trains
    shared_socket
    signals
    socket_options
    socket_steer
    socket_steer_misuse
    starvation
    streams
    struct_sizes
    thread_cancellation
    threads
    traffic
    truncation
    unread_errors
    waiting
    window
    writable
}

#[test]
fn every_program_is_listed() {
    for entry in std::fs::read_dir(sources()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "c") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(LISTED.contains(&name), "tests/c/{name}.c is not in c_programs!");
        }
    }
}
