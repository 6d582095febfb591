//! Which setup flags can be combined, and which AUTO tries. Pure policy: the engine finds out which
//! the kernel accepts.

use crate::config::*;
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EngineKind {
    IoUring,
    Recvmmsg,
}

/// The setup of one engine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub engine: EngineKind,
    /// What the program asked for and got: RINGMSG_SETUP_*.
    pub flags: u32,
    pub sq_entries: u32,
    pub cq_entries: u32,
    pub sq_thread_idle_ms: u32,
    pub sq_thread_cpu: Option<u32>,
}

const SQ_ENTRIES: u32 = 64;
/// Multishot requests complete many times for one submission, so the completion queue is much
/// larger: 64 KiB.
const CQ_ENTRIES: u32 = 4096;
/// The kernel's own limits (it would return -EINVAL without a reason).
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
    /// Submission and completion entries, rounded up to powers of two.
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

    /// Whether the kernel flags deferred task work in the ring (IORING_SQ_TASKRUN). Otherwise only
    /// an enter shows whether there is any.
    pub(crate) fn flags_task_work(&self) -> bool {
        self.flags & RINGMSG_SETUP_COOP_TASKRUN == 0 || self.flags & RINGMSG_SETUP_TASKRUN_FLAG != 0
    }

    /// The setup for `config` without io_uring: of the flags only R_DISABLED and SINGLE_ISSUER
    /// mean something. AUTO does not grant the others; a caller who names this engine gets an
    /// error for them.
    pub(crate) fn recvmmsg(config: &RingConfig) -> Result<Setup> {
        let setup = Self::check(config)?;
        let useful = RINGMSG_SETUP_R_DISABLED | RINGMSG_SETUP_SINGLE_ISSUER;
        let useless = config.flags & !(RINGMSG_SETUP_AUTO | useful);
        if config.engine == RINGMSG_ENGINE_RECVMMSG && useless != 0 {
            return Err(Error::with(
                libc::EINVAL,
                format_args!(
                    "ring: setup flags {useless:#x} are io_uring's, and mean nothing to the recvmmsg engine; \
                     leave them out, or leave the engine to RINGMSG_ENGINE_AUTO"
                ),
            ));
        }
        Ok(Setup { engine: EngineKind::Recvmmsg, flags: config.flags & useful, ..setup })
    }

    /// The setups of io_uring to try for `config`, best first.
    pub(crate) fn candidates(config: &RingConfig) -> Result<impl Iterator<Item = Setup> + use<>> {
        let setup = Self::check(config)?;
        let is_open = config.flags & (TASKWORK | RINGMSG_SETUP_SQPOLL) == 0;
        // Every candidate keeps the flags that were asked for beside AUTO.
        let choices: &[u32] = match config.flags & RINGMSG_SETUP_AUTO != 0 && is_open {
            true => &[DEFER, RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_TASKRUN_FLAG, 0],
            false => &[0],
        };
        Ok(choices.iter().map(move |&more| Setup { flags: setup.flags | more, ..setup }))
    }

    /// The setup that `config` asks for by name, for io_uring.
    pub(crate) fn check(config: &RingConfig) -> Result<Setup> {
        let asked = config.flags;
        if asked & !KNOWN != 0 {
            return Err(Error::with(
                libc::EINVAL,
                format_args!("ring: unknown setup flags {:#x}", asked & !KNOWN),
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
            // COOP adds nothing to DEFER: the kernel reads that flag on the other path only.
            flags = flags & !RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_SINGLE_ISSUER;
        }
        let (sq_entries, cq_entries) = entries(config)?;
        Ok(Setup {
            engine: EngineKind::IoUring,
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
            format_args!("ring: at most {SQ_ENTRIES_MAX} sq_entries and {CQ_ENTRIES_MAX} cq_entries"),
        ));
    }
    if cq_entries.next_power_of_two() < sq_entries.next_power_of_two() {
        return Err(Error::with(
            libc::EINVAL,
            format_args!("ring: cq_entries ({cq_entries}) is less than sq_entries ({sq_entries})"),
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
