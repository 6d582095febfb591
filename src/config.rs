//! The structs that programs pass in and get back, and their constants. Each struct begins with its
//! size; `capi::versioned` has the rule by which it may grow.

use crate::error::{Error, Result};

/// A kernel thread polls for submissions and runs completions (IORING_SETUP_SQPOLL). Excludes
/// COOP_TASKRUN, TASKRUN_FLAG and DEFER_TASKRUN.
pub const RINGMSG_SETUP_SQPOLL: u32 = 1u32 << 1;
/// Create the ring disabled: ringmsg_ring_enable() makes its caller the owner
/// (IORING_SETUP_R_DISABLED).
pub const RINGMSG_SETUP_R_DISABLED: u32 = 1u32 << 6;
/// Completions wait for the arming thread's next kernel entry (IORING_SETUP_COOP_TASKRUN).
pub const RINGMSG_SETUP_COOP_TASKRUN: u32 = 1u32 << 8;
/// With COOP_TASKRUN: the kernel flags waiting task work, so that a non-blocking reap costs no
/// kernel entry when there is none (IORING_SETUP_TASKRUN_FLAG).
pub const RINGMSG_SETUP_TASKRUN_FLAG: u32 = 1u32 << 9;
/// Bind the ring to one thread (IORING_SETUP_SINGLE_ISSUER).
pub const RINGMSG_SETUP_SINGLE_ISSUER: u32 = 1u32 << 12;
/// Completions wait until the owner reaps: the mode for batches. Binds the ring to its thread;
/// SINGLE_ISSUER is added for you (IORING_SETUP_DEFER_TASKRUN).
pub const RINGMSG_SETUP_DEFER_TASKRUN: u32 = 1u32 << 13;
/// The best mode this kernel offers: DEFER_TASKRUN, else COOP_TASKRUN, else plain. The mode may
/// bind the ring to its thread: ringmsg_ring_info() shows it.
pub const RINGMSG_SETUP_AUTO: u32 = 1u32 << 31;

/// io_uring where multishot recvmsg works, and where a ring and a pool have memory; else
/// RINGMSG_ENGINE_RECVMMSG, which does not grant setup flags that mean nothing to it.
/// ringmsg_ring_info() says which engine it is, ringmsg_describe_support() why. If io_uring has no
/// memory for a pool (RLIMIT_MEMLOCK) before anything is armed and before ringmsg_ring_fd() was
/// called, the ring changes its engine.
pub const RINGMSG_ENGINE_AUTO: u32 = 0;
/// io_uring: kernel 6.0 or later, unless a sandbox forbids it.
pub const RINGMSG_ENGINE_IO_URING: u32 = 1;
/// epoll and recvmmsg(2), with the same records: for older kernels (5.10 is the oldest tried) and
/// sandboxes that forbid io_uring. It takes R_DISABLED, SINGLE_ISSUER and AUTO; with another setup
/// flag ringmsg_ring_new() returns -EINVAL.
pub const RINGMSG_ENGINE_RECVMMSG: u32 = 2;

/// Multishot requests work (io_uring: kernel 6.0; recvmmsg: always).
pub const RINGMSG_FEATURE_MULTISHOT: u32 = 1u32 << 0;
/// The kernel can wait a minimum time for a batch (kernel 6.12).
pub const RINGMSG_FEATURE_MIN_WAIT: u32 = 1u32 << 1;

/// For ringmsg_wait.linger_us: like RINGMSG_LINGER_AUTO, with the caller's bound in microseconds,
/// as in RINGMSG_LINGER_AUTO_WITHIN | 250.
pub const RINGMSG_LINGER_AUTO_WITHIN: u32 = 1u32 << 31;
/// For ringmsg_wait.linger_us: the library chooses, from 0 to 100 us. In short trials, on the
/// traffic that arrives, it compares the thread's CPU time per datagram with and without lingering,
/// and takes what saves at least 5 %. It does not linger where that lowers the arrival rate, as it
/// does when clients wait for their answers, nor while datagrams arrive alone. Trials take place in
/// reaps that may sleep and do not spin, and not while signals, wakes or changes of the reaping
/// thread keep ending them. ringmsg_ring_stats() shows the choice and the trials. A datagram may
/// be late by the linger: where latency matters more than CPU time, give 0 or a lower bound.
pub const RINGMSG_LINGER_AUTO: u32 = 0xffff_ffffu32;

/// The longest linger, in microseconds. More is -EINVAL.
pub const RINGMSG_LINGER_MAX_US: u32 = 10_000;

/// How a ring is to be made. Fill with ringmsg_ring_config_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RingConfig {
    /// sizeof(struct ringmsg_ring_config)
    pub size: u32,
    /// RINGMSG_SETUP_*
    pub flags: u32,
    /// Submission queue entries; 0: a good default. Rounded up to a power of two.
    pub sq_entries: u32,
    /// Completion queue entries; 0: a good default. Rounded up to a power of two.
    pub cq_entries: u32,
    /// SQPOLL: how long the kernel thread polls before it sleeps, in ms; 0: the kernel's default.
    pub sq_thread_idle_ms: u32,
    /// SQPOLL: the processor to poll on; -1: any.
    pub sq_thread_cpu: i32,
    /// RINGMSG_ENGINE_*
    pub engine: u32,
    /// 0
    pub reserved: [u32; 9],
}

/// What a ring was granted.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct RingInfo {
    /// sizeof(struct ringmsg_ring_info), set by the caller.
    pub size: u32,
    /// RINGMSG_ENGINE_*
    pub engine: u32,
    /// The RINGMSG_SETUP_* flags that are in force. If they include DEFER_TASKRUN or SINGLE_ISSUER,
    /// the ring is bound to owner_thread.
    pub flags: u32,
    /// RINGMSG_FEATURE_*
    pub features: u32,
    /// Submission queue entries.
    pub sq_entries: u32,
    /// Completion queue entries.
    pub cq_entries: u32,
    /// The owner's thread id (gettid(2)); 0 when the ring is not bound, or not enabled yet.
    pub owner_thread: i32,
    /// 0
    pub reserved: [u32; 9],
}

/// What this kernel and this sandbox offer.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Support {
    /// sizeof(struct ringmsg_support), set by the caller.
    pub size: u32,
    /// Bit RINGMSG_ENGINE_x: that engine works here.
    pub engines: u32,
    /// The RINGMSG_SETUP_* flags that ringmsg_ring_new() accepts here.
    pub setup_flags: u32,
    /// RINGMSG_FEATURE_*
    pub features: u32,
    /// 0, or the -errno of io_uring_setup(2), or that of io_uring_enter(2) or io_uring_register(2)
    /// if only these are blocked.
    pub create_error: i32,
    /// kernel.io_uring_disabled: 0 allowed, 1 for privileged processes, 2 forbidden; -1: this
    /// kernel has no such setting, or it cannot be read.
    pub io_uring_disabled: i32,
    /// The kernel's version: major << 16 | minor << 8 | patch.
    pub kernel_version: u32,
    /// 0
    pub reserved: [u32; 9],
}

/// How a pool is to be made. Fill with ringmsg_pool_config_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct PoolConfig {
    /// sizeof(struct ringmsg_pool_config)
    pub size: u32,
    /// How many buffers: a power of two, at most 32768.
    pub buffers: u32,
    /// Payload bytes that a buffer holds; a longer payload is cut. GRO needs 65536.
    pub payload_capacity: u32,
    /// Bytes for control messages.
    pub control_capacity: u32,
    /// Bytes for the source address.
    pub name_capacity: u32,
    /// 0
    pub flags: u32,
    /// 0
    pub reserved: [u32; 10],
}

/// How a reap is to wait. Zero it, then set size.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Wait {
    /// sizeof(struct ringmsg_wait)
    pub size: u32,
    /// How long to wait for a second record once there is reason to expect one, in
    /// microseconds: an upper bound, at most 10 ms (RINGMSG_LINGER_MAX_US; more is -EINVAL).
    /// RINGMSG_LINGER_AUTO leaves it to the library. Ignored by plain and COOP rings, where
    /// lingering wastes CPU.
    pub linger_us: u32,
    /// How long to wait for a first record, in ns; negative: no limit; 0: do not block.
    pub timeout_ns: i64,
    /// How long to poll before sleeping, in microseconds, inside the timeout.
    pub spin_us: u32,
    /// 0
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<RingConfig>() == 64 && size_of::<RingInfo>() == 64);
    assert!(size_of::<Support>() == 64 && size_of::<PoolConfig>() == 64);
    assert!(size_of::<Wait>() == 24);
};

impl Default for RingConfig {
    fn default() -> Self {
        Self {
            size: size_of::<Self>() as u32,
            flags: RINGMSG_SETUP_AUTO,
            sq_entries: 0,
            cq_entries: 0,
            sq_thread_idle_ms: 0,
            sq_thread_cpu: -1,
            engine: RINGMSG_ENGINE_AUTO,
            reserved: [0; 9],
        }
    }
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            size: size_of::<Self>() as u32,
            buffers: 256,
            payload_capacity: 65536,
            control_capacity: 256,
            name_capacity: 128,
            flags: 0,
            reserved: [0; 10],
        }
    }
}

impl Default for Wait {
    fn default() -> Self {
        Self {
            size: size_of::<Self>() as u32,
            linger_us: RINGMSG_LINGER_AUTO,
            timeout_ns: -1,
            spin_us: 0,
            reserved: 0,
        }
    }
}

/// Refuses fields that must be zero.
pub(crate) fn reserved_is_zero(name: &str, reserved: &[u32]) -> Result<()> {
    if reserved.iter().any(|&word| word != 0) {
        return Err(Error::with(
            libc::EINVAL,
            format_args!("{name}: reserved is not zero; fill the struct with its _init() first"),
        ));
    }
    Ok(())
}
