//! Which setup flags go together, which this kernel takes, and what AUTO makes of it.

use io_uring::{IoUring, Probe};

use crate::config::*;
use crate::diagnosis::{self, Call};
use crate::error::{Error, Result};

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

/// linux/io_uring.h; the io-uring crate keeps it to itself.
const ENTER_GETEVENTS: u32 = 1 << 0;

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

/// Creates the io_uring, and tries the other two calls on it: a filter may block them alone.
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
    let ring = builder.build(setup.sq_entries).map_err(refused(Call::Setup(setup.flags)))?;
    // A ring that is not enabled answers with something else, which is as good.
    let blocked = |error: &std::io::Error| {
        matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS | libc::EACCES))
    };
    // SAFETY: nothing is submitted, and no argument passed.
    match unsafe { ring.submitter().enter::<libc::sigset_t>(0, 0, ENTER_GETEVENTS, None) } {
        Err(error) if blocked(&error) => return Err(refused(Call::Enter)(error)),
        _ => {}
    }
    match ring.submitter().register_probe(&mut Probe::new()) {
        Err(error) if blocked(&error) => Err(refused(Call::Register)(error)),
        _ => Ok(ring),
    }
}

fn refused(call: Call) -> impl FnOnce(std::io::Error) -> Error {
    move |error| diagnosis::refusal(call, error.raw_os_error().unwrap_or(libc::EIO))
}
