//! What this kernel and this sandbox offer, found out by trying the engine.

use std::fmt::Write;

use crate::config::*;
use crate::diagnosis;
use crate::engine::Engine;
use crate::engine::uring::closed;
use crate::error::{Error, Result, Text};
use crate::ids::PoolId;
use crate::mode::Setup;
use crate::pool::{BufferRing, POOLS_MAX};
use crate::sys::thread::run_aside;

/// Returns the engine if it has what AUTO needs: multishot recvmsg, and memory for a default pool,
/// which counts against RLIMIT_MEMLOCK as the ring does.
pub(crate) fn check_usable(engine: Engine) -> Result<Engine> {
    if !engine.has_multishot() {
        return Err(Error::new(
            libc::EOPNOTSUPP,
            "io_uring: this kernel has no multishot recvmsg (6.0 has it)",
        ));
    }
    let (trial, count) = (PoolId(POOLS_MAX as u16), PoolConfig::default().buffers);
    let buffers = BufferRing::new(count)?;
    let register = || engine.register_pool(trial, buffers.entries(), count as u16);
    closed::retry(register, |error| error.errno() == libc::ENOMEM)?;
    engine.unregister_pool(trial)?;
    Ok(engine)
}

/// Tries everything once. About a millisecond.
pub(crate) fn query() -> Support {
    run_aside(try_all)
}

/// Whether AUTO takes io_uring here; and if not, why.
pub(crate) fn usable() -> Result<()> {
    // As large as a ring by default: a smaller one may be granted where that one is refused.
    run_aside(|| check_usable(Engine::new(Setup::check(&RingConfig { flags: 0, ..RingConfig::default() })?)?))
        .map(drop)
}

fn try_all() -> Support {
    let mut support = Support {
        engines: 1 << RINGMSG_ENGINE_RECVMMSG,
        io_uring_disabled: diagnosis::io_uring_disabled(),
        kernel_version: diagnosis::kernel_version(),
        ..Support::default()
    };
    match try_flags(0) {
        Ok(engine) => {
            support.engines |= 1 << RINGMSG_ENGINE_IO_URING;
            if engine.traits().min_wait {
                support.features |= RINGMSG_FEATURE_MIN_WAIT;
            }
            if engine.has_multishot() {
                support.features |= RINGMSG_FEATURE_MULTISHOT;
            }
        }
        Err(error) => {
            support.create_error = -error.errno();
            return support;
        }
    }
    support.setup_flags = RINGMSG_SETUP_AUTO | RINGMSG_SETUP_R_DISABLED;
    for flags in [
        RINGMSG_SETUP_COOP_TASKRUN,
        RINGMSG_SETUP_COOP_TASKRUN | RINGMSG_SETUP_TASKRUN_FLAG,
        RINGMSG_SETUP_SINGLE_ISSUER,
        RINGMSG_SETUP_DEFER_TASKRUN | RINGMSG_SETUP_SINGLE_ISSUER,
        RINGMSG_SETUP_SQPOLL,
    ] {
        if try_flags(flags).is_ok() {
            support.setup_flags |= flags;
        }
    }
    support
}

fn try_flags(flags: u32) -> Result<Engine> {
    let mut config = RingConfig { flags, sq_entries: 1, cq_entries: 2, ..RingConfig::default() };
    if flags & RINGMSG_SETUP_SQPOLL != 0 {
        // Its kernel thread may outlive the ring for as long as it polls.
        config.sq_thread_idle_ms = 1;
    }
    Engine::new(Setup::check(&config)?)
}

/// The same for a person.
pub(crate) fn describe() -> String {
    let support = query();
    let mut text = Text::default();
    let version = support.kernel_version;
    let _ = writeln!(
        text,
        "ringmsg {} on Linux {}.{}.{}",
        env!("CARGO_PKG_VERSION"),
        version >> 16,
        version >> 8 & 0xff,
        version & 0xff
    );
    if let Err(error) = usable() {
        let _ = writeln!(text, "engine: AUTO takes recvmmsg (epoll and recvmmsg), with the same records");
        let _ = writeln!(text, "why not io_uring: {}", error.sentence());
        return text.0;
    }
    let has = |flag: u32| support.setup_flags & flag != 0;
    let (mode, why) = if has(RINGMSG_SETUP_DEFER_TASKRUN) {
        ("DEFER_TASKRUN", "completions wait until the owner reaps, so batches are largest")
    } else if has(RINGMSG_SETUP_COOP_TASKRUN) {
        ("COOP_TASKRUN", "this kernel has no DEFER_TASKRUN (6.1)")
    } else {
        ("plain", "this kernel has neither DEFER_TASKRUN (6.1) nor COOP_TASKRUN (5.19)")
    };
    let _ = writeln!(text, "engine: AUTO takes io_uring");
    let _ = writeln!(text, "mode: AUTO takes {mode}: {why}");
    let _ = match support.features & RINGMSG_FEATURE_MIN_WAIT {
        0 => writeln!(text, "minimum wait: no (6.12 has it; lingering costs a second kernel entry here)"),
        _ => writeln!(text, "minimum wait: yes"),
    };
    text.0
}
