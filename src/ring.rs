//! The ring: what belongs together, and who may touch which part of it.
//!
//! | part      | guarded by                                                                |
//! |-----------|---------------------------------------------------------------------------|
//! | `core`    | its lock: requests, sockets, submissions, counters; never held in a sleep |
//! | a pool    | its own lock, taken inside `core` or alone (a release by another thread)  |
//! | `engine`  | submissions under `core`; completions by the one reaper; waiting by none  |
//! | `signals` | atomics                                                                   |

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::config::*;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::layout::Train;
use crate::linger::Arrivals;
use crate::mode::Setup;
use crate::pool::{POOLS_MAX, Pool, Pools};
use crate::request::Requests;
use crate::signal::Signals;
use crate::socket::Sockets;
use crate::stats::{Stats, Tallies};
use crate::support;
use crate::thread::{self, Owner};

/// One io_uring with its pools and requests. Opaque to C.
///
/// A ring whose granted flags hold SINGLE_ISSUER or DEFER_TASKRUN is bound to one thread, its
/// owner: functions marked [owner] answer -EPERM from any other. Other rings take every call
/// from any thread.
pub struct Ring {
    pub(crate) gate: Gate,
    pub(crate) engine: Engine,
    pub(crate) pools: Pools,
    pub(crate) signals: Signals,
    pub(crate) reaping: AtomicBool,
    pub(crate) tallies: Tallies,
    /// The arrival rate, per microsecond: the bits of an f32. For AUTO's linger.
    pub(crate) arrivals_per_us: AtomicU32,
    /// The engine watches the sleeper's descriptor.
    pub(crate) watching: AtomicBool,
    /// The kernel announces once for each registration of the eventfd.
    pub(crate) renews: AtomicBool,
    /// The thread that reaped or armed last: it re-arms what its releases unblock.
    pub(crate) home: AtomicU64,
    /// What is queued, or to be armed again, was refused: to be tried again, but no reason to stay awake.
    pub(crate) stuck: AtomicBool,
    enabled: AtomicBool,
    core: Mutex<Core>,
}

/// What the ring's lock guards.
pub(crate) struct Core {
    pub requests: Requests,
    pub sockets: Sockets,
    /// A train of which some datagrams are still to be handed out.
    pub train: Option<Train>,
    pub stats: Stats,
    pub arrivals: Arrivals,
    /// Pools drawn from in the pass that runs now. Has room for all of them.
    pub touched: Vec<u16>,
    /// Numbers the uses of buffers.
    pub generation: u32,
    /// The slot whose turn it is to be armed first when buffers have come.
    pub turn: u32,
}

impl Ring {
    /// Creates a ring in the best of the setups that `config` allows.
    pub(crate) fn new(config: &RingConfig) -> Result<Box<Self>> {
        reserved_is_zero("ringmsg_ring_config", &config.reserved)?;
        let io_uring = match config.engine {
            RINGMSG_ENGINE_IO_URING => true,
            RINGMSG_ENGINE_RECVMMSG => false,
            RINGMSG_ENGINE_AUTO => support::multishot().is_ok(),
            other => return Err(Error::with(libc::EINVAL, format!("ring: there is no engine {other}"))),
        };
        if !io_uring {
            return Self::with_setup(Setup::recvmmsg(config)?);
        }
        let mut refused = None;
        for setup in Setup::candidates(config)? {
            match Self::with_setup(setup) {
                // An unknown flag; anything else will not be better with fewer flags.
                Err(error) if error.errno() == libc::EINVAL => refused = Some(error),
                // It worked when it was tried, and a filter was put on since.
                Err(error) if config.engine == RINGMSG_ENGINE_AUTO && forbids(&error) => {
                    return Self::with_setup(Setup::recvmmsg(config)?);
                }
                other => return other,
            }
        }
        Err(refused.expect("there is at least one candidate"))
    }

    fn with_setup(setup: Setup) -> Result<Box<Self>> {
        let signals = Signals::new()?;
        let engine = Engine::new(setup)?;
        let owner = (setup.bound() && !setup.disabled()).then(Owner::current);
        Ok(Box::new(Self {
            gate: Gate::new(setup.bound(), owner),
            engine,
            pools: Pools::new(),
            signals,
            reaping: AtomicBool::new(false),
            tallies: Tallies::default(),
            arrivals_per_us: AtomicU32::new(0),
            watching: AtomicBool::new(false),
            renews: AtomicBool::new(false),
            home: AtomicU64::new(0),
            stuck: AtomicBool::new(false),
            enabled: AtomicBool::new(!setup.disabled()),
            core: Mutex::new(Core {
                requests: Requests::default(),
                sockets: Sockets::default(),
                train: None,
                stats: Stats::default(),
                arrivals: Arrivals::default(),
                touched: Vec::with_capacity(POOLS_MAX),
                generation: 0,
                turn: 0,
            }),
        }))
    }

    /// The parts that `teardown` takes apart; and whether the kernel watches the sleeper.
    pub(crate) fn into_parts(self: Box<Self>) -> (Engine, Pools, Core, bool) {
        let Self { engine, pools, core, watching, .. } = *self;
        (engine, pools, core.into_inner(), watching.into_inner())
    }

    /// Whether some thread is changing the ring's parts right now.
    pub(crate) fn is_being_changed(&self) -> bool {
        self.core.is_locked() || self.pools.iter().any(Pool::is_locked)
    }

    #[inline]
    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock()
    }

    /// Enables a ring that was created disabled; the calling thread becomes its owner.
    pub(crate) fn enable(&self) -> Result<()> {
        let _core = self.core();
        if self.enabled.load(Ordering::Acquire) {
            return Err(Error::new(libc::EBADFD, "ring: it is enabled already"));
        }
        self.engine.enable()?;
        self.gate.own();
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

    pub(crate) fn info(&self) -> RingInfo {
        let (sq_entries, cq_entries) = self.engine.entries();
        let setup = self.engine.setup();
        let mut features = 0;
        if setup.is_recvmmsg() || support::multishot().is_ok() {
            features |= RINGMSG_FEATURE_MULTISHOT;
        }
        if !setup.is_recvmmsg() && self.engine.has_min_wait() {
            features |= RINGMSG_FEATURE_MIN_WAIT;
        }
        RingInfo {
            engine: setup.engine,
            flags: setup.flags,
            features,
            sq_entries,
            cq_entries,
            owner_thread: self.gate.owner().map_or(0, Owner::tid),
            ..RingInfo::default()
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let core = self.core();
        let mut stats = core.stats;
        for (_, request) in core.requests.live() {
            stats.add_request(&request.stats);
        }
        stats.enters = self.engine.enters();
        stats.reaps = self.tallies.reaps.get();
        stats.wakes = self.tallies.wakes.get();
        stats.cq_overflows = self.tallies.cq_overflows.get();
        stats.socket_drops = core.sockets.all_drops();
        drop(core);
        for pool in self.pools.iter() {
            if let Some(buffers) = pool.lock() {
                stats.buffers_held += u64::from(buffers.held);
                stats.buffers_published += u64::from(buffers.published);
            }
        }
        stats
    }

    pub(crate) fn request_stats(&self, user_data: u64) -> Result<Stats> {
        let core = self.core();
        let mut stats = Stats::default();
        let mut found = false;
        for (_, request) in core.requests.live().filter(|(_, r)| r.user_data == user_data) {
            found = true;
            stats.add_request(&request.stats);
            let drops = core.sockets.drops(request.socket).wrapping_sub(request.drops_before);
            stats.socket_drops += u64::from(drops);
        }
        let live = |id| core.requests.live().any(|(_, r)| r.user_data == user_data && r.pool() == Some(id));
        for pool in self.pools.iter().filter(|pool| live(pool.id())) {
            if let Some(buffers) = pool.lock() {
                stats.buffers_held += u64::from(buffers.held);
                stats.buffers_published += u64::from(buffers.published);
            }
        }
        if !found {
            return Err(Error::with(libc::ENOENT, format!("stats: no request with user_data {user_data}")));
        }
        Ok(stats)
    }

    /// The descriptor that is readable when a reap would return something.
    pub(crate) fn fd(&self) -> Result<i32> {
        let bell = self.signals.create_ready_fd()?;
        if let Some(fd) = self.engine.ready_fd(bell)? {
            // What is pending already no event will tell.
            if self.engine.pending() || self.has_something() {
                self.signals.ring_bell();
            }
            return Ok(fd);
        }
        let fd = bell;
        if self.engine.setup().defer() && support::eventfd::wears_out() {
            self.renews.store(true, Ordering::Relaxed);
        }
        let core = self.core();
        if !self.engine.eventfd_registered() {
            if self.may_register() {
                self.engine.register_eventfd(fd)?;
            }
            // What happened before nobody was told of. And only the owner can register: then
            // the first reap does.
            drop(core);
            if !self.may_register() || self.engine.pending() || self.has_something() {
                self.signals.ring_bell();
            }
        }
        Ok(fd)
    }

    pub(crate) fn new_pool(&self, config: &PoolConfig) -> Result<&Pool> {
        let _core = self.core();
        self.pools.add(std::ptr::from_ref(self).cast(), &self.engine, config)
    }

    pub(crate) fn free_pool(&self, pool: &Pool) -> Result<()> {
        let _core = self.core();
        self.pools.remove(pool, &self.engine)
    }

    /// The pool that a handle means, if it is one of this ring and not freed.
    pub(crate) fn check_pool(&self, pool: &Pool) -> Result<()> {
        if !std::ptr::eq(pool.owner(), std::ptr::from_ref(self).cast()) {
            return Err(Error::new(libc::EINVAL, "pool: it belongs to another ring"));
        }
        if pool.lock().is_none() {
            return Err(Error::new(libc::EINVAL, "pool: it is freed"));
        }
        Ok(())
    }

    /// Notes the calling thread as the one that serves this ring.
    #[inline]
    pub(crate) fn make_home(&self) {
        let me = thread::current();
        if self.home.load(Ordering::Relaxed) != me {
            self.home.store(me, Ordering::Relaxed);
        }
    }

    #[inline]
    pub(crate) fn is_home(&self) -> bool {
        self.home.load(Ordering::Relaxed) == thread::current()
    }
}

/// Whether io_uring was refused by an administrator, a filter or a security module.
fn forbids(error: &Error) -> bool {
    matches!(error.errno(), libc::EPERM | libc::ENOSYS | libc::EACCES)
}
