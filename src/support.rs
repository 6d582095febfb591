//! What this kernel and this sandbox offer, found out by trying.

use std::fmt::Write;

use once_cell::sync::OnceCell;

use crate::config::*;
use crate::diagnosis;
use crate::error::Result;
use crate::mode::{self, Setup};

pub(crate) mod eventfd;

/// Tries everything once. About a millisecond.
pub(crate) fn query() -> Support {
    aside(try_all)
}

/// Runs `trial` in a thread of its own. When a ring ends, the kernel interrupts the threads that
/// used it, a little later: their next epoll_wait(2) would fail with EINTR for no reason of theirs.
fn aside<T: Send>(trial: fn() -> T) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("ringmsg-probe".into())
            .stack_size(256 << 10)
            .spawn_scoped(scope, trial);
        match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => trial(),
        }
    })
}

fn try_all() -> Support {
    let mut support = Support {
        engines: 1 << RINGMSG_ENGINE_RECVMMSG,
        io_uring_disabled: diagnosis::io_uring_disabled(),
        kernel_version: diagnosis::kernel_version(),
        ..Support::default()
    };
    match try_flags(0) {
        Ok(ring) => {
            support.engines |= 1 << RINGMSG_ENGINE_IO_URING;
            if ring.params().is_feature_min_timeout() {
                support.features |= RINGMSG_FEATURE_MIN_WAIT;
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
    if multishot().is_ok() {
        support.features |= RINGMSG_FEATURE_MULTISHOT;
    }
    support
}

/// Whether multishot recvmsg works on io_uring here, and if not, why. Tried once, unless what
/// was in the way may pass.
pub(crate) fn multishot() -> Result<()> {
    static WORKS: OnceCell<Result<()>> = OnceCell::new();
    if let Some(known) = WORKS.get() {
        return known.clone();
    }
    let found = aside(probe::multishot);
    match &found {
        Err(error) if matches!(error.errno(), libc::EMFILE | libc::ENFILE | libc::ENOMEM) => found,
        _ => WORKS.get_or_init(|| found).clone(),
    }
}

fn try_flags(flags: u32) -> Result<io_uring::IoUring> {
    let mut config = RingConfig { flags, sq_entries: 1, cq_entries: 2, ..RingConfig::default() };
    if flags & RINGMSG_SETUP_SQPOLL != 0 {
        // Its thread may outlive the ring for as long as it polls.
        config.sq_thread_idle_ms = 1;
    }
    mode::build(&Setup::candidates(&config)?[0])
}

/// Whether multishot recvmsg works is told by nothing but itself.
mod probe {
    use crate::config::*;
    use crate::error::{Error, Result};
    use crate::reap::Output;
    use crate::ring::Ring;
    use crate::submit::Wish;
    use crate::teardown;

    pub(super) fn multishot() -> Result<()> {
        let mut pair = [-1; 2];
        // SAFETY: `pair` has room for two descriptors.
        let made = unsafe {
            libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr())
        };
        if made != 0 {
            return Err(Error::last_os("socketpair"));
        }
        // SAFETY: one readable byte, an open socket.
        unsafe { libc::send(pair[1], c"".as_ptr().cast(), 1, 0) };
        let works = receives(pair[0]);
        for fd in pair {
            // SAFETY: it is ours and open.
            unsafe { libc::close(fd) };
        }
        works
    }

    fn receives(fd: i32) -> Result<()> {
        let config = RingConfig {
            engine: RINGMSG_ENGINE_IO_URING,
            flags: 0,
            sq_entries: 4,
            cq_entries: 8,
            ..RingConfig::default()
        };
        let ring = Ring::new(&config)?;
        let pool = PoolConfig { buffers: 2, payload_capacity: 64, ..PoolConfig::default() };
        let armed = ring
            .new_pool(&pool)
            .and_then(|pool| ring.recvmsg_multishot(pool, Wish { fd, msg_flags: 0, flags: 0, user_data: 0 }));
        let mut records = [std::mem::MaybeUninit::uninit(); 2];
        let mut out = Output::new(&mut records, None);
        let wait = Wait { timeout_ns: 1_000_000_000, ..Wait::default() };
        let reaped = armed.and_then(|()| ring.reap(ring.become_reaper()?, &mut out, &wait));
        // SAFETY: a reap that returns 1 has written the first record.
        let works = reaped.map(|count| count == 1 && unsafe { records[0].assume_init() }.result == 1);
        let _ = teardown::free(ring);
        match works {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::new(
                libc::EOPNOTSUPP,
                "io_uring: this kernel has no multishot recvmsg (6.0 has it)",
            )),
            Err(error) => Err(error),
        }
    }
}

/// The same for a person.
pub(crate) fn describe() -> String {
    let support = query();
    let mut text = String::new();
    let version = support.kernel_version;
    let _ = writeln!(
        text,
        "ringmsg {} on Linux {}.{}.{}",
        env!("CARGO_PKG_VERSION"),
        version >> 16,
        version >> 8 & 0xff,
        version & 0xff
    );
    // It may have worked when multishot was tried, and be forbidden since.
    if let Err(error) = try_flags(0).and_then(|_| multishot()) {
        let _ = writeln!(text, "engine: AUTO takes recvmmsg (epoll and recvmmsg), with the same records");
        let _ = writeln!(text, "why not io_uring: {}", error.sentence());
        return text;
    }
    let has = |flag: u32| support.setup_flags & flag != 0;
    let (mode, why) = if has(RINGMSG_SETUP_DEFER_TASKRUN) {
        ("DEFER_TASKRUN", "completions wait for the reaper: best for batches")
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
    text
}
