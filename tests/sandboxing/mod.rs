//! System calls by name: the list in docs/security.md, seccomp filters that allow a list and
//! nothing else, and a trace(2) of what a program calls, by ptrace(2).
#![allow(dead_code)] // each test program uses a part of this

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;

use super::toolchain::{root, succeed_with_output};

pub type Numbers = BTreeMap<String, u32>;

/// The numbers of all system calls of this processor, by the C compiler's headers.
pub fn numbers() -> Numbers {
    let mut compiler = Command::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()));
    compiler.args(["-dM", "-E", "-x", "c", "-include", "sys/syscall.h", "/dev/null"]);
    let defined = succeed_with_output(compiler);
    let number = |line: &str| {
        let (name, number) = line.strip_prefix("#define __NR_")?.split_once(' ')?;
        Some((name.to_owned(), number.parse().ok()?))
    };
    defined.lines().filter_map(number).collect()
}

/// The rows of the table in docs/security.md: the first cell, and the system calls that the second
/// one names.
pub fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let page = std::fs::read_to_string(root().join("docs/security.md")).unwrap();
    let (_, section) = page.split_once("## What a sandbox must allow").expect("the section is there");
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let (name, calls) = (cells.next()?, cells.next()?);
        let calls: BTreeSet<_> = calls.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (!calls.is_empty()).then(|| (name.to_owned(), calls))
    };
    section.split("\n## ").next().unwrap().lines().filter_map(row).collect()
}

/// Makes `command` run under a filter that kills the process at the first system call that is not
/// in `allowed`, and answers EPERM to those in `refused`. Names that this processor does not have
/// are skipped.
pub fn filter<'a>(
    command: &mut Command,
    numbers: &Numbers,
    allowed: impl IntoIterator<Item = &'a str>,
    refused: &[&str],
) {
    let statement = |code: u32, k| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load_number = statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0); // seccomp_data.nr
    let answer = |k| statement(libc::BPF_RET | libc::BPF_K, k);
    let is = |number| libc::sock_filter {
        jf: 1,
        ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number)
    };
    let mut program = vec![load_number];
    let mut rule = |name: &str, action| {
        if let Some(&number) = numbers.get(name) {
            program.extend([is(number), answer(action)]);
        }
    };
    refused.iter().for_each(|name| rule(name, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    allowed.into_iter().for_each(|name| rule(name, libc::SECCOMP_RET_ALLOW));
    program.push(answer(libc::SECCOMP_RET_KILL_PROCESS));
    let install = move || {
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: the filter outlives the calls; the kernel copies it.
        let outcome = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
        };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: `install` makes two system calls, and allocates nothing.
    unsafe { command.pre_exec(install) };
}

/// Rows of the table that a program on each engine needs.
pub const ENGINES: [&[&str]; 2] = [&["io_uring"], &["recvmmsg"]];

/// What the examples call themselves: the start and the end of a C program, its output, threads,
/// signals and sockets.
const OF_THE_EXAMPLES: &str = "access arch_prctl bind brk clock_nanosleep clone3 close connect execve exit exit_group \
     fstat futex getpid getrusage getsockname getsockopt gettid kill lseek mmap mprotect munmap newfstatat openat pipe2 \
     pread64 prlimit64 read recvfrom recvmsg rseq rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity \
     sched_setaffinity sendmmsg sendmsg sendto set_robust_list set_tid_address setsockopt sigaltstack \
     socket socketpair sysinfo uname vfork wait4 write";

/// Makes an example run under a filter of the rows of these engines, of those that every program
/// needs, and of what the examples call themselves. io_uring is refused unless it is among them.
pub fn filter_example(command: &mut Command, engines: &[&str]) {
    let documented = documented();
    let rows = engines.iter().chain(&["each ring", "support", "sockets", "sending", "now and then"]);
    let allowed = rows.flat_map(|&row| documented[row].iter().map(String::as_str));
    let allowed = allowed.chain(OF_THE_EXAMPLES.split_whitespace());
    let refused: &[&str] = match engines.contains(&"io_uring") {
        true => &[],
        false => &["io_uring_setup", "io_uring_enter", "io_uring_register"],
    };
    filter(command, &numbers(), allowed, refused);
}

/// Runs `command` to its end, and returns the numbers of the system calls that its threads made
/// between one call of getppid(2) and the next. (Not those of its children.) An error where
/// ptrace(2) is unavailable.
pub fn traced_between_getppids(command: &mut Command, getppid: u32) -> io::Result<BTreeSet<u32>> {
    let ask_to_be_traced = || {
        // SAFETY: no pointers.
        match unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: one system call.
    unsafe { command.pre_exec(ask_to_be_traced) };
    let main = command.spawn()?.id() as libc::pid_t;
    let (mut calls, mut is_recording, mut is_set_up) = (BTreeSet::new(), false, false);
    loop {
        let mut status = 0;
        // Children of this thread only: other tests have theirs.
        // SAFETY: the status is writable.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::__WALL | libc::__WNOTHREAD) };
        assert!(pid > 0, "waitpid: {}", io::Error::last_os_error());
        if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
            if pid == main {
                assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status:#x}");
                return Ok(calls);
            }
            continue;
        }
        let mut signal = libc::WSTOPSIG(status);
        if !is_set_up {
            // The stop after execve(2).
            let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_EXITKILL;
            // SAFETY: no pointers.
            unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options) };
            (is_set_up, signal) = (true, 0);
        } else if signal == libc::SIGTRAP | 0x80 {
            signal = 0;
            match entered(pid) {
                Some(number) if number == u64::from(getppid) => is_recording = !is_recording,
                Some(number) if is_recording => drop(calls.insert(number as u32)),
                _ => {}
            }
        } else if status >> 16 != 0 || signal == libc::SIGSTOP {
            signal = 0; // a thread was made, or begins
        }
        // SAFETY: no pointers.
        unsafe { libc::ptrace(libc::PTRACE_SYSCALL, pid, 0, signal) };
    }
}

/// The number of the system call that a stopped thread is about to make; None at its end.
fn entered(pid: libc::pid_t) -> Option<u64> {
    // SAFETY: all-zero is a valid value.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of_val(&info);
    // SAFETY: the struct is writable, and of the size that is passed.
    unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, ptr::from_mut(&mut info)) };
    // SAFETY: the kernel has filled the part of the union that `op` says.
    if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY { Some(unsafe { info.u.entry.nr }) } else { None }
}
