//! Which setup flags go together, which this kernel takes, and what AUTO makes of it.

use io_uring::IoUring;

use crate::config::*;
use crate::error::{Error, Result, describe};

/// The setup of one engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    /// RINGMSG_ENGINE_*, never AUTO.
    pub engine: u32,
    /// What the program asked for and got: RINGMSG_SETUP_*.
    pub flags: u32,
    sq_entries: u32,
    cq_entries: u32,
    sq_thread_idle_ms: u32,
    sq_thread_cpu: Option<u32>,
}

const SQ_ENTRIES: u32 = 64;
/// Multishot requests complete many times for one submission, so the completion queue is the
/// larger by far. 64 KiB of it.
const CQ_ENTRIES: u32 = 4096;
/// The kernel's own limits (it would answer -EINVAL without a reason).
const SQ_ENTRIES_MAX: u32 = 32768;
const CQ_ENTRIES_MAX: u32 = 65536;

const DEFER: u32 = RINGMSG_SETUP_DEFER_TASKRUN | RINGMSG_SETUP_SINGLE_ISSUER;
const TASKWORK: u32 = RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_TASKRUN_FLAG | RINGMSG_SETUP_DEFER_TASKRUN;
const KNOWN: u32 = RINGMSG_SETUP_SQPOLL
    | RINGMSG_SETUP_R_DISABLED
    | RINGMSG_SETUP_SINGLE_ISSUER
    | TASKWORK
    | RINGMSG_SETUP_AUTO;

impl Setup {
    pub(crate) fn is_recvmmsg(&self) -> bool {
        self.engine == RINGMSG_ENGINE_RECVMMSG
    }

    /// Submission and completion entries, as asked for, in powers of two.
    pub(crate) fn entries(&self) -> (u32, u32) {
        (self.sq_entries.next_power_of_two(), self.cq_entries.next_power_of_two())
    }

    pub(crate) fn sqpoll(&self) -> bool {
        self.flags & RINGMSG_SETUP_SQPOLL != 0
    }

    pub(crate) fn defer(&self) -> bool {
        self.flags & RINGMSG_SETUP_DEFER_TASKRUN != 0
    }

    pub(crate) fn disabled(&self) -> bool {
        self.flags & RINGMSG_SETUP_R_DISABLED != 0
    }

    /// The ring belongs to one thread.
    pub(crate) fn bound(&self) -> bool {
        self.flags & (RINGMSG_SETUP_SINGLE_ISSUER | RINGMSG_SETUP_DEFER_TASKRUN) != 0
    }

    /// Whether deferred completions are announced by a flag in the ring. Otherwise only an
    /// enter tells.
    pub(crate) fn announces(&self) -> bool {
        self.flags & RINGMSG_SETUP_COOP_TASKRUN == 0 || self.flags & RINGMSG_SETUP_TASKRUN_FLAG != 0
    }

    /// The setup for `config` without io_uring: of the flags only R_DISABLED and SINGLE_ISSUER
    /// mean something. The others are not granted; who asked for this engine by name is told so.
    pub(crate) fn recvmmsg(config: &RingConfig) -> Result<Setup> {
        let setup = Self::check(config)?;
        let useful = RINGMSG_SETUP_R_DISABLED | RINGMSG_SETUP_SINGLE_ISSUER;
        let useless = config.flags & !(RINGMSG_SETUP_AUTO | useful);
        if config.engine == RINGMSG_ENGINE_RECVMMSG && useless != 0 {
            return Err(Error::with(
                libc::EINVAL,
                format!(
                    "ring: setup flags {useless:#x} are io_uring's, and mean nothing to the recvmmsg engine; \
                     leave them out, or leave the engine to RINGMSG_ENGINE_AUTO"
                ),
            ));
        }
        Ok(Setup { engine: RINGMSG_ENGINE_RECVMMSG, flags: config.flags & useful, ..setup })
    }

    /// The setups of io_uring to try for `config`, best first.
    pub(crate) fn candidates(config: &RingConfig) -> Result<Vec<Setup>> {
        let setup = Self::check(config)?;
        if config.flags & RINGMSG_SETUP_AUTO == 0 {
            return Ok(vec![setup]);
        }
        // A flag asked for beside AUTO is a wish that every candidate keeps.
        let choices: &[u32] = match config.flags & (TASKWORK | RINGMSG_SETUP_SQPOLL) {
            0 => &[DEFER, RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_TASKRUN_FLAG, 0],
            _ => &[0],
        };
        Ok(choices.iter().map(|&more| Setup { flags: setup.flags | more, ..setup }).collect())
    }

    fn check(config: &RingConfig) -> Result<Setup> {
        let asked = config.flags;
        if asked & !KNOWN != 0 {
            return Err(Error::with(
                libc::EINVAL,
                format!("ring: unknown setup flags {:#x}", asked & !KNOWN),
            ));
        }
        if asked & RINGMSG_SETUP_SQPOLL != 0 && asked & TASKWORK != 0 {
            return Err(Error::new(
                libc::EINVAL,
                "ring: SQPOLL excludes COOP_TASKRUN, TASKRUN_FLAG and DEFER_TASKRUN: its kernel \
                 thread runs the completions",
            ));
        }
        let coop = asked & RINGMSG_SETUP_COOP_TASKRUN != 0;
        let defer = asked & RINGMSG_SETUP_DEFER_TASKRUN != 0;
        if asked & RINGMSG_SETUP_TASKRUN_FLAG != 0 && !coop && !defer {
            return Err(Error::new(
                libc::EINVAL,
                "ring: TASKRUN_FLAG needs COOP_TASKRUN or DEFER_TASKRUN: plain rings defer nothing",
            ));
        }
        let mut flags = asked & !RINGMSG_SETUP_AUTO;
        if defer {
            // COOP adds nothing to DEFER: the kernel looks at it on the other path only.
            flags = flags & !RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_SINGLE_ISSUER;
        }
        let (sq_entries, cq_entries) = entries(config)?;
        Ok(Setup {
            engine: RINGMSG_ENGINE_IO_URING,
            flags,
            sq_entries,
            cq_entries,
            sq_thread_idle_ms: config.sq_thread_idle_ms,
            sq_thread_cpu: processor(config)?,
        })
    }
}

fn entries(config: &RingConfig) -> Result<(u32, u32)> {
    let cq_entries = match config.cq_entries {
        0 => CQ_ENTRIES.max(config.sq_entries.saturating_mul(2)).min(CQ_ENTRIES_MAX),
        given => given,
    };
    let sq_entries = match config.sq_entries {
        0 => SQ_ENTRIES.min(cq_entries),
        given => given,
    };
    if sq_entries > SQ_ENTRIES_MAX || cq_entries > CQ_ENTRIES_MAX {
        return Err(Error::with(
            libc::EINVAL,
            format!("ring: at most {SQ_ENTRIES_MAX} sq_entries and {CQ_ENTRIES_MAX} cq_entries"),
        ));
    }
    if cq_entries.next_power_of_two() < sq_entries.next_power_of_two() {
        return Err(Error::with(
            libc::EINVAL,
            format!("ring: cq_entries ({cq_entries}) is less than sq_entries ({sq_entries})"),
        ));
    }
    Ok((sq_entries, cq_entries))
}

fn processor(config: &RingConfig) -> Result<Option<u32>> {
    if config.flags & RINGMSG_SETUP_SQPOLL == 0 {
        if config.sq_thread_idle_ms != 0 || config.sq_thread_cpu > 0 {
            return Err(Error::new(libc::EINVAL, "ring: sq_thread_* are set without SQPOLL"));
        }
        return Ok(None);
    }
    match config.sq_thread_cpu {
        -1 => Ok(None),
        cpu => u32::try_from(cpu).map(Some).map_err(|_| {
            Error::new(libc::EINVAL, "ring: sq_thread_cpu is a processor's number, or -1 for any")
        }),
    }
}

/// Creates the io_uring.
pub(crate) fn build(setup: &Setup) -> Result<IoUring> {
    let has = |flag: u32| setup.flags & flag != 0;
    let mut builder = IoUring::builder();
    builder.dontfork().setup_submit_all().setup_cqsize(setup.cq_entries);
    if has(RINGMSG_SETUP_R_DISABLED) {
        builder.setup_r_disabled();
    }
    if has(RINGMSG_SETUP_SINGLE_ISSUER) {
        builder.setup_single_issuer();
    }
    if has(RINGMSG_SETUP_COOP_TASKRUN) {
        builder.setup_coop_taskrun();
    }
    if has(RINGMSG_SETUP_DEFER_TASKRUN) {
        builder.setup_defer_taskrun();
    }
    // Under DEFER the flag is always wanted: it saves empty enters and empty wake-ups.
    if has(RINGMSG_SETUP_TASKRUN_FLAG) || has(RINGMSG_SETUP_DEFER_TASKRUN) {
        builder.setup_taskrun_flag();
    }
    if has(RINGMSG_SETUP_SQPOLL) {
        builder.setup_sqpoll(setup.sq_thread_idle_ms);
        if let Some(cpu) = setup.sq_thread_cpu {
            builder.setup_sqpoll_cpu(cpu);
        }
    }
    builder.build(setup.sq_entries).map_err(|error| refusal(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// Why a ring cannot be had, in a sentence.
fn refusal(errno: i32) -> Error {
    Error::with(errno, format!("io_uring_setup: {}; {}", describe(errno), why_refused(errno)))
}

/// The value of kernel.io_uring_disabled; -1 where it cannot be had.
pub(crate) fn io_uring_disabled() -> i32 {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(-1)
}

/// What a person needs to know when io_uring_setup(2) answers `errno`.
pub(crate) fn why_refused(errno: i32) -> String {
    match (errno, io_uring_disabled()) {
        (libc::EPERM, 2) => "kernel.io_uring_disabled = 2 forbids it to everybody; 0 allows it".into(),
        (libc::EPERM, 1) => "kernel.io_uring_disabled = 1 forbids it to unprivileged processes; \
                             run as root or in the group kernel.io_uring_group"
            .into(),
        (libc::EPERM, 0) => "kernel.io_uring_disabled = 0, so a seccomp filter blocks it \
                             (Docker's default does)"
            .into(),
        (libc::EPERM, _) => "a seccomp filter or a security module blocks it".into(),
        (libc::ENOSYS, _) => "this kernel has no io_uring, or a seccomp filter says so".into(),
        (libc::ENOMEM, _) => "not enough memory; before kernel 5.12 RLIMIT_MEMLOCK counts".into(),
        (libc::EMFILE | libc::ENFILE, _) => "raise RLIMIT_NOFILE, or close some".into(),
        (libc::EINVAL, _) => "this kernel does not know these setup flags".into(),
        _ => "unexpected".into(),
    }
}
