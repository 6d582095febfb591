//! The ring: its parts, and what guards each of them.
//!
//! | part      | guarded by                                                                  |
//! |-----------|-----------------------------------------------------------------------------|
//! | `core`    | its lock: requests, counters, submissions. Never held in a sleep            |
//! | `sockets` | its lock, taken before `core`. The reaper only tries it                     |
//! | `reaper`  | its lock, which is only ever tried, and may be held asleep: whoever holds it |
//! |           | is the reaper, and the only one who takes completions                       |
//! | a pool    | its own lock, taken inside `core` or alone (a release by another thread)    |
//! | `engine`  | submissions: `core`. Completions: `reaper` and `core`. Looking and waiting: |
//! |           | nothing                                                                     |
//! | the rest  | atomics                                                                     |
//!
//! So the order of locks is `reaper` (tried), `sockets`, `core`, a pool.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use once_cell::sync::OnceCell;
use parking_lot::{Mutex, MutexGuard};

use crate::config::*;
use crate::engine::{Engine, Traits};
use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::ids::{Generation, PoolId, SocketId};
use crate::layout::Train;
use crate::linger::policy::Policy;
use crate::mode::Setup;
use crate::pool::{FewestPublished, POOLS_MAX, Pool, PoolSet, Pools, VacantIds};
use crate::probe;
use crate::request::Requests;
use crate::socket::{Socket, Sockets};
use crate::stats::{Stats, Tallies};
use crate::sys::memory::{try_box, try_vec};
use crate::sys::thread::{self, Owner};
use crate::wakeup::Wakeup;

mod counters;
mod pools;

/// A ring with its pools and requests: an io_uring, or an epoll instance. Opaque to C.
///
/// A ring whose granted flags hold SINGLE_ISSUER or DEFER_TASKRUN is bound to one thread, its
/// owner: functions marked [owner] return -EPERM in other threads. On other rings every thread may
/// call every function.
pub struct Ring {
    pub(crate) gate: Gate,
    pub(crate) wakeup: Wakeup,
    /// The thread that armed or reaped last. Its releases re-arm starved requests directly.
    /// Relaxed, and no pair: a thread asks only whether the number is its own.
    service_thread: AtomicU64,
    /// Every acquire of it pairs with the release of `enable`: it shows the owner.
    enabled: AtomicBool,
    engines: Engines,
    pub(crate) pools: Pools,
    pub(crate) tallies: Tallies,
    core: Mutex<Core>,
    pub(crate) reaper: Mutex<ReaperState>,
    /// Pools that the next pass looks after: buffers came back that a request waits for, or the
    /// first request was armed.
    pub(crate) pools_to_look_after: PoolSet,
    pub(crate) sockets: Mutex<Sockets>,
}

/// The engine; and the one that took its place, if that happened: see `Ring::change_engine`.
struct Engines {
    first: Engine,
    second: OnceCell<Engine>,
    /// The setup of the second, where the program left the choice to the library.
    alternative: Option<Setup>,
}

/// What the ring's lock guards.
#[repr(C)]
pub(crate) struct Core {
    // What each pass touches first.
    pub requests: Requests,
    pub stats: Stats,
    pool_ids: VacantIds,
    /// Sockets of requests that are over, one entry for each request; see `close_released_sockets`.
    pub released_sockets: Vec<SocketId>,
    /// Sockets to be closed once no lock is held.
    pub closing_sockets: Vec<Socket>,
}

/// What only the reaper uses.
#[repr(C)]
pub(crate) struct ReaperState {
    // What each reap touches first, and the policy's own such fields behind it.
    pub taken: Taken,
    /// The thread of the last reap.
    pub reaping_thread: u64,
    /// Numbers the uses of buffers.
    pub generation: Generation,
    /// Completions taken since a reap last entered the kernel to wait or for deferred work.
    pub since_entry: u32,
    /// The engine polls the wake-up descriptor.
    pub wakeup_polled: bool,
    /// A submission failed with a transient error. Retry on a 5 ms timer; do not spin.
    pub stuck: bool,
    /// The kernel refused the last entry for deferred work for good, with this errno.
    pub refused: Option<i32>,
    /// The running reap has ended requests, whose sockets are to be released.
    pub releases_sockets: bool,
    /// Pools that the running pass has drawn from. Has room for all of them.
    pub touched: Vec<PoolId>,
    /// A train of which some datagrams are still to be handed out.
    pub train: Option<Train>,
    /// Chooses the linger of reaps with AUTO; and what the running reap has to tell it.
    pub policy: Policy,
    pub fewest_published: FewestPublished,
}

/// What a reap has taken.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Taken {
    /// When it last took something, by `now_ns`.
    pub at_ns: u64,
    pub datagrams: u64,
}

impl ReaperState {
    fn new() -> Result<Self> {
        Ok(Self {
            train: None,
            policy: Policy::new(),
            taken: Taken::default(),
            reaping_thread: 0,
            touched: try_vec(POOLS_MAX)?,
            fewest_published: FewestPublished::new()?,
            generation: Generation::default(),
            since_entry: 0,
            wakeup_polled: false,
            stuck: false,
            refused: None,
            releases_sockets: false,
        })
    }
}

/// The parts that teardown takes apart.
pub(crate) struct Parts {
    /// The engine in use, and the one before it, if it was changed.
    pub engine: Engine,
    pub former: Option<Engine>,
    pub pools: Pools,
    pub core: Core,
    pub sockets: Sockets,
    pub wakeup_polled: bool,
}

impl Ring {
    /// Creates a ring in the best of the setups that `config` allows.
    pub(crate) fn new(config: &RingConfig) -> Result<Box<Self>> {
        reserved_is_zero("ringmsg_ring_config", &config.reserved)?;
        match config.engine {
            RINGMSG_ENGINE_RECVMMSG => Self::with_engine(Engine::new(Setup::recvmmsg(config)?)?, None),
            RINGMSG_ENGINE_IO_URING => Self::with_engine(io_uring(config)?, None),
            RINGMSG_ENGINE_AUTO => {
                let recvmmsg = Setup::recvmmsg(config)?;
                match io_uring(config).and_then(probe::check_usable) {
                    Err(error) if is_refused(&error) => Self::with_engine(Engine::new(recvmmsg)?, None),
                    engine => Self::with_engine(engine?, Some(recvmmsg)),
                }
            }
            other => Err(Error::with(
                libc::EINVAL,
                format_args!("ring: engine {other} is none of RINGMSG_ENGINE_*"),
            )),
        }
    }

    fn with_engine(engine: Engine, alternative: Option<Setup>) -> Result<Box<Self>> {
        let wakeup = Wakeup::new()?;
        let setup = *engine.setup();
        let owner = match setup.bound() && !setup.disabled() {
            true => Some(Owner::current()?),
            false => None,
        };
        try_box(Self {
            gate: Gate::new(setup.bound(), owner),
            engines: Engines { first: engine, second: OnceCell::new(), alternative },
            pools: Pools::new()?,
            pools_to_look_after: PoolSet::default(),
            wakeup,
            tallies: Tallies::default(),
            service_thread: AtomicU64::new(0),
            enabled: AtomicBool::new(!setup.disabled()),
            sockets: Mutex::new(Sockets::default()),
            core: Mutex::new(Core {
                requests: Requests::default(),
                stats: Stats::default(),
                pool_ids: VacantIds::default(),
                released_sockets: Vec::new(),
                closing_sockets: Vec::new(),
            }),
            reaper: Mutex::new(ReaperState::new()?),
        })
    }

    pub(crate) fn into_parts(self: Box<Self>) -> Parts {
        let Self { engines, pools, core, sockets, reaper, .. } = *self;
        let (engine, former) = match engines.second.into_inner() {
            Some(second) => (second, Some(engines.first)),
            None => (engines.first, None),
        };
        Parts {
            engine,
            former,
            pools,
            core: core.into_inner(),
            sockets: sockets.into_inner(),
            wakeup_polled: reaper.into_inner().wakeup_polled,
        }
    }

    /// Whether some thread is changing the ring's parts right now.
    pub(crate) fn is_being_changed(&self) -> bool {
        self.core.is_locked() || self.sockets.is_locked() || self.pools.iter().any(Pool::is_locked)
    }

    #[inline]
    pub(crate) fn engine(&self) -> &Engine {
        self.engines.second.get().unwrap_or(&self.engines.first)
    }

    #[inline]
    pub(crate) fn traits(&self) -> Traits {
        self.engine().traits()
    }

    #[inline]
    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }

    /// Whether some thread is in reap.
    pub(crate) fn is_reaping(&self) -> bool {
        self.reaper.is_locked()
    }

    /// Enables a ring that was created disabled; the calling thread becomes its owner.
    pub(crate) fn enable(&self) -> Result<()> {
        let _core = self.core();
        if self.enabled.load(Ordering::Acquire) {
            return Err(Error::new(libc::EBADFD, "ring: it is enabled already"));
        }
        let owner = Owner::current()?;
        self.engine().enable()?;
        self.gate.own(owner);
        self.enabled.store(true, Ordering::Release);
        Ok(())
    }

    /// Refuses what a disabled ring cannot do.
    #[inline]
    pub(crate) fn check_enabled(&self) -> Result<()> {
        if self.enabled.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::new(
            libc::EBADFD,
            "ring: it was created with R_DISABLED; call ringmsg_ring_enable() in the thread that is to own it",
        ))
    }

    /// Whether the calling thread may register things with the kernel.
    fn may_register(&self) -> bool {
        !self.enabled.load(Ordering::Acquire) || self.gate.check_owner().is_ok()
    }

    /// The descriptor that is readable when a reap would return something.
    pub(crate) fn fd(&self) -> Result<i32> {
        let may_register = self.may_register();
        let fd = self.engine().open_ready_fd(self.wakeup.create_ready_fd()?, may_register)?;
        // Completions that predate registration raise no event: signal once by hand. So it is
        // where only the owner can register: then the first reap does.
        if !may_register || self.engine().pending() || self.has_something() {
            self.wakeup.notify_ready_fd();
        }
        Ok(fd)
    }

    /// Whether a reap would find something to do right now, besides deferred work.
    pub(crate) fn has_something(&self) -> bool {
        self.engine().ready() || self.wakeup.has_work() || self.wakeup.is_woken() || self.engine().dropped()
    }

    // --- threads -----------------------------------------------------------------------------

    /// Notes the calling thread, which `check_owner` has let through, as the one that serves this
    /// ring. Returns its number.
    #[inline]
    pub(crate) fn note_service_thread(&self) -> u64 {
        let me = self.gate.owner().map_or_else(thread::current, Owner::number);
        if self.service_thread.load(Ordering::Relaxed) != me {
            self.service_thread.store(me, Ordering::Relaxed);
        }
        me
    }

    #[inline]
    pub(crate) fn is_service_thread(&self) -> bool {
        self.service_thread.load(Ordering::Relaxed) == thread::current()
    }

    // --- sockets -----------------------------------------------------------------------------

    /// Releases the sockets of requests that are over, and closes those that no request refers to.
    /// Closing may block, so no lock is held then. The lock of `sockets` is only tried: a thread
    /// that holds it calls this afterwards.
    pub(crate) fn close_released_sockets(&self) {
        while let Some(socket) = self.next_released_socket() {
            self.close_socket(socket);
        }
    }

    fn next_released_socket(&self) -> Option<Socket> {
        let is_empty = |core: &Core| core.released_sockets.is_empty() && core.closing_sockets.is_empty();
        if is_empty(&self.core()) {
            return None;
        }
        let mut sockets = self.sockets.try_lock()?;
        let mut core = self.core();
        while let Some(id) = core.released_sockets.pop() {
            if let Some(socket) = sockets.release(id) {
                core.closing_sockets.push(socket);
            }
        }
        core.closing_sockets.pop()
    }

    fn close_socket(&self, socket: Socket) {
        self.engine().unregister_fd(socket.fd());
        self.tallies.drops_of_closed.fetch_add(socket.drops_so_far(), Ordering::Relaxed);
        drop(socket);
    }
}

/// An io_uring in the best of the setups that `config` allows.
fn io_uring(config: &RingConfig) -> Result<Engine> {
    let mut refused = None;
    for setup in Setup::candidates(config)? {
        match Engine::new(setup) {
            // An unknown flag. Another error would be the same with fewer flags.
            Err(error) if error.errno() == libc::EINVAL => refused = Some(error),
            other => return other,
        }
    }
    Err(refused.expect("there is at least one candidate"))
}

/// Whether AUTO is to take the other engine: an administrator, a filter or a security module
/// refuses io_uring, or this kernel has none, or none with multishot recvmsg, or there is no memory
/// for it (RLIMIT_MEMLOCK). (-EINVAL can also mean that the kernel lacks a flag that was requested
/// by name: then the caller gets the error.)
fn is_refused(error: &Error) -> bool {
    match error.errno() {
        libc::EPERM | libc::ENOSYS | libc::EACCES | libc::EOPNOTSUPP | libc::ENOMEM => true,
        libc::EINVAL => probe::usable().is_err(),
        _ => false,
    }
}
