//! Why io_uring is refused, in a sentence that says what to do.
//!
//! The same errno has many causes. The facts that distinguish them are read from /proc when needed:
//! the sysctl, whether a seccomp filter is on, limits, and the kernel's version. The version only
//! explains; whether something works is always tried.

use std::fmt::Write;

use crate::config::*;
use crate::error::{Error, Text, describe, written};

/// `format!`, which does not abort without memory.
macro_rules! say {
    ($($arguments:tt)*) => { written(format_args!($($arguments)*)) };
}

/// The system call that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// io_uring_setup(2), with these RINGMSG_SETUP_* flags.
    Setup(u32),
    Enter,
    Register,
    /// io_uring_register(2) for a pool's buffer ring.
    RegisterPool,
}

/// What is known of this process and its kernel.
#[derive(Debug, Clone, Default)]
struct Facts {
    /// kernel.io_uring_disabled and kernel.io_uring_group; None where there is no such setting.
    disabled: Option<i32>,
    group: Option<i64>,
    /// Seccomp: in /proc/self/status; 2 is a filter.
    seccomp: Option<u32>,
    /// CAP_SYS_ADMIN and CAP_IPC_LOCK are in force.
    administrator: bool,
    may_lock: bool,
    /// RLIMIT_MEMLOCK in bytes; None: unlimited.
    memlock: Option<u64>,
    /// major << 16 | minor << 8 | patch; 0: unknown.
    version: u32,
}

const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;

/// The error for a refused call.
pub(crate) fn refusal(call: Call, errno: i32) -> Error {
    Error::with(errno, format_args!("{}", sentence(call, errno, &Facts::gather())))
}

fn sentence(call: Call, errno: i32, facts: &Facts) -> String {
    let name = match call {
        Call::Setup(_) => "io_uring_setup",
        Call::Enter => "io_uring_enter",
        Call::Register => "io_uring_register",
        Call::RegisterPool => "pool: IORING_REGISTER_PBUF_RING",
    };
    let reason = match (errno, call) {
        (libc::EPERM, Call::Setup(_)) => forbidden(facts),
        (libc::EACCES, _) => {
            say!("a security module (SELinux, AppArmor) forbids it; its log says by which rule")
        }
        // A ring was made just now, so the kernel has the call and allows it.
        (libc::EPERM | libc::ENOSYS, Call::Enter | Call::Register) => {
            say!("rings can be made, but {}", blocked(facts))
        }
        (libc::ENOSYS, Call::Setup(_)) => absent(facts),
        (libc::ENOMEM, Call::RegisterPool) => short_of_memory(facts, "fewer buffers, or for fewer pools"),
        (libc::ENOMEM, _) => short_of_memory(facts, "fewer entries"),
        (libc::EINVAL, Call::Setup(flags)) => unknown_flags(flags, facts),
        (libc::EMFILE, _) => {
            say!("this process has too many descriptors open; raise RLIMIT_NOFILE (ulimit -n)")
        }
        (libc::ENFILE, _) => say!("the system has too many files open; raise fs.file-max"),
        _ => say!("unexpected here"),
    };
    say!("{name}: {}; {reason}", describe(errno))
}

/// The remedy for a filter that blocks io_uring.
const ALLOW: &str = "allow io_uring_setup, io_uring_enter and io_uring_register in it \
                     (docs/compatibility.md has a profile)";

fn blocked(facts: &Facts) -> String {
    match facts.seccomp {
        Some(2) => say!("the seccomp filter that is on blocks this call; {ALLOW}"),
        _ => say!("a seccomp filter or a sandbox blocks this call; {ALLOW}"),
    }
}

/// EPERM from io_uring_setup: the sysctl, else a filter, else a security module.
fn forbidden(facts: &Facts) -> String {
    let filtered = facts.seccomp == Some(2);
    match facts.disabled {
        Some(2) => say!(
            "kernel.io_uring_disabled = 2 forbids it to everybody; \
             `sysctl kernel.io_uring_disabled=0` allows it"
        ),
        // This setting does not stop an administrator, so something else refused.
        Some(1) if !(facts.administrator && filtered) => {
            let group = match facts.group {
                Some(group) if group >= 0 => say!("kernel.io_uring_group = {group}"),
                _ => say!("kernel.io_uring_group, which is not set"),
            };
            say!(
                "kernel.io_uring_disabled = 1 forbids it to processes without CAP_SYS_ADMIN that are \
                 not in the group {group}; `sysctl kernel.io_uring_disabled=0` allows it to all"
            )
        }
        disabled => {
            let setting =
                disabled.map_or(String::new(), |value| say!("kernel.io_uring_disabled = {value}, so "));
            match facts.seccomp {
                Some(2) => say!(
                    "{setting}the seccomp filter that is on blocks it, as the default profiles of Docker and containerd do; {ALLOW}"
                ),
                Some(_) => say!("{setting}no seccomp filter is on: a security module forbids it"),
                None => say!("{setting}a seccomp filter or a security module blocks it; {ALLOW}"),
            }
        }
    }
}

/// ENOSYS from io_uring_setup: an old kernel, one built without io_uring, or a filter that returns
/// ENOSYS.
fn absent(facts: &Facts) -> String {
    let version = version(facts.version);
    if facts.disabled.is_some() {
        // The setting is there, so io_uring is.
        return say!("this kernel has io_uring (it has kernel.io_uring_disabled), but {}", blocked(facts));
    }
    match facts.seccomp {
        _ if facts.version != 0 && facts.version < since(5, 1) => {
            say!(
                "Linux {version} has no io_uring: it came with 5.1 (gVisor has none, and reports version 4.4)"
            )
        }
        Some(2) => say!(
            "a seccomp filter is on and may say so ({ALLOW}), or Linux {version} was built without CONFIG_IO_URING"
        ),
        _ => say!("Linux {version} was built without CONFIG_IO_URING"),
    }
}

fn short_of_memory(facts: &Facts, less: &str) -> String {
    match facts.memlock {
        Some(bytes) if !facts.may_lock => say!(
            "all rings and pools of a user count against RLIMIT_MEMLOCK before Linux 5.12 and since \
             6.14, and it is {} KiB; raise it (ulimit -l, LimitMEMLOCK= in systemd), or ask for {less}",
            bytes >> 10
        ),
        _ => say!(
            "the kernel has not enough memory; ask for {less}, or look at the memory limit of the \
             control group (RLIMIT_MEMLOCK is not the cause)"
        ),
    }
}

/// Setup flags, and the kernels they came with. 0: what every ring asks for.
const FLAGS: [(u32, &str, u32); 7] = [
    (RINGMSG_SETUP_R_DISABLED, "R_DISABLED", since(5, 10)),
    (0, "SUBMIT_ALL, which every ring here has,", since(5, 18)),
    (RINGMSG_SETUP_COOP_TASKRUN, "COOP_TASKRUN", since(5, 19)),
    (RINGMSG_SETUP_TASKRUN_FLAG, "TASKRUN_FLAG", since(5, 19)),
    (RINGMSG_SETUP_SINGLE_ISSUER, "SINGLE_ISSUER", since(6, 0)),
    (RINGMSG_SETUP_DEFER_TASKRUN, "DEFER_TASKRUN", since(6, 1)),
    (RINGMSG_SETUP_SQPOLL, "SQPOLL", since(5, 1)),
];

/// EINVAL: an old kernel, as far as our own checks go.
fn unknown_flags(flags: u32, facts: &Facts) -> String {
    let mut reason = Text(say!("Linux {} refuses these setup flags", version(facts.version)));
    for (flag, name, came) in FLAGS {
        if (flag == 0 || flags & flag != 0) && facts.version < came {
            let _ = write!(reason, "; {name} came with {}.{}", came >> 16, came >> 8 & 0xff);
        }
    }
    reason.0
}

const fn since(major: u32, minor: u32) -> u32 {
    major << 16 | minor << 8
}

fn version(version: u32) -> String {
    match version {
        0 => say!("of unknown version"),
        version => say!("{}.{}.{}", version >> 16, version >> 8 & 0xff, version & 0xff),
    }
}

impl Facts {
    fn gather() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let capabilities =
            field(&status, "CapEff:").and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or(0);
        Self {
            disabled: setting("io_uring_disabled"),
            group: setting("io_uring_group"),
            seccomp: field(&status, "Seccomp:").and_then(|text| text.parse().ok()),
            administrator: capabilities >> CAP_SYS_ADMIN & 1 != 0,
            may_lock: capabilities >> CAP_IPC_LOCK & 1 != 0,
            memlock: memlock(),
            version: kernel_version(),
        }
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::fs::read_to_string(say!("/proc/sys/kernel/{name}")).ok()?.trim().parse().ok()
}

fn memlock() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } == 0;
    (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// The value of kernel.io_uring_disabled; -1 where it cannot be read.
pub(crate) fn io_uring_disabled() -> i32 {
    setting("io_uring_disabled").unwrap_or(-1)
}

/// uname(2)'s release as major << 16 | minor << 8 | patch; 0 when it cannot be parsed. It is read
/// from a file, which a sandbox has to allow for the settings anyway; where /proc is not visible
/// (after chroot(2), for example), from the system call.
pub(crate) fn kernel_version() -> u32 {
    if let Ok(text) = std::fs::read("/proc/sys/kernel/osrelease") {
        return version_in(text);
    }
    // SAFETY: all-zero is a valid utsname.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: `name` is writable. A refused call leaves it empty.
    unsafe { libc::uname(&mut name) };
    version_in(name.release.map(|byte| byte as u8))
}

fn version_in(text: impl IntoIterator<Item = u8>) -> u32 {
    let (mut numbers, mut at) = ([0u32; 3], 0);
    for byte in text {
        match byte {
            b'0'..=b'9' => {
                numbers[at] = numbers[at].saturating_mul(10).saturating_add(u32::from(byte - b'0'))
            }
            b'.' if at < 2 => at += 1,
            _ => break,
        }
    }
    numbers[0].min(0xffff) << 16 | numbers[1].min(0xff) << 8 | numbers[2].min(0xff)
}

#[cfg(test)]
mod tests;
