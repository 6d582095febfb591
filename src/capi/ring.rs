//! Rings: making, knowing, and freeing them.

use std::ffi::c_int;
use std::ptr::NonNull;

use crate::config::{RingConfig, RingInfo};
use crate::error::Error;
use crate::ring::Ring;
use crate::stats::Stats;
use crate::sys::fork;
use crate::teardown;

use super::{Caller, known, null, versioned, with_ring, without_ring};

/// ringmsg_ring_config_init: fills in the size and the defaults: the best mode and engine this
/// machine offers.
///
/// **Threads:** any.
///
/// # Safety
/// `config` is NULL, or writable for sizeof(struct ringmsg_ring_config) bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_ring_config_init(config: *mut RingConfig) {
    if !config.is_null() {
        // SAFETY: the caller promises the room.
        unsafe { config.write_unaligned(RingConfig::default()) };
    }
}

/// ringmsg_ring_new: makes a ring. `config` NULL means the defaults, RINGMSG_SETUP_AUTO.
///
/// **Ownership:** the caller owns `*ring`, and frees it with ringmsg_ring_free(), which also
/// frees its pools.
/// **Threads:** any. With SINGLE_ISSUER or DEFER_TASKRUN (AUTO may take it) the calling thread
/// becomes the owner; with R_DISABLED the thread that calls ringmsg_ring_enable().
/// **Returns:** 0; -EINVAL (NULL `ring`, bad size, unknown or contradictory flags, entries out of
/// range, flags that the requested engine does not have); -EPERM, -ENOSYS, -ENOMEM, -EMFILE from
/// io_uring_setup(2): ringmsg_last_error() says what to do about it. Locked memory of rings that
/// were freed less than a quarter of a second ago may still be counted: then the call waits for it,
/// at most that long. On failure `*ring` is left as it was.
///
/// # Safety
/// `config` is NULL, or readable for as many bytes as its `size` says; `ring` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_ring_new(config: *const RingConfig, ring: *mut *mut Ring) -> c_int {
    without_ring(|| {
        if ring.is_null() {
            return Err(null("ring"));
        }
        let config = match config.is_null() {
            true => RingConfig::default(),
            // SAFETY: the caller's promise is passed on.
            false => unsafe { versioned::read(config) }?,
        };
        let made = Ring::new(&config)?;
        if let Err(error) = fork::handle_created(std::ptr::from_ref(&*made) as usize) {
            let _ = teardown::free(made);
            return Err(error);
        }
        // SAFETY: not NULL, and the caller promises it is writable.
        unsafe { ring.write(Box::into_raw(made)) };
        Ok(0)
    })
}

/// ringmsg_ring_enable: starts a ring that was made with RINGMSG_SETUP_R_DISABLED; the calling
/// thread becomes its owner. Until then any thread may make pools and get ring_fd, and arming,
/// reaping and cancelling return -EBADFD.
///
/// **Threads:** any, once.
/// **Returns:** 0; -EINVAL (NULL); -EBADFD (it is enabled already).
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_ring_enable(ring: Option<NonNull<Ring>>) -> c_int {
    with_ring(known(ring), Caller::Anybody, |ring| ring.enable().map(|()| 0))
}

/// ringmsg_ring_info: reports what was granted: engine, setup flags, features, entries, owner.
/// Flags that the library sets for itself are not shown. COOP_TASKRUN beside DEFER_TASKRUN adds
/// nothing and is not shown either.
///
/// **Ownership:** `info` is the caller's; its `size` must be set.
/// **Threads:** any.
/// **Returns:** 0; -EINVAL (NULL, bad size).
///
/// # Safety
/// `info` is NULL, or writable for as many bytes as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_ring_info(ring: Option<&Ring>, info: *mut RingInfo) -> c_int {
    // SAFETY: the caller's promise is passed on.
    with_ring(ring, Caller::Anybody, |ring| unsafe { versioned::write(info, &ring.info()) }.map(|()| 0))
}

/// ringmsg_ring_fd: a descriptor for poll(2), epoll(7), asyncio, libuv: readable when a reap would
/// return something. It suits level-triggered and edge-triggered loops that reap with timeout 0. Do
/// not read or write it. (The ring's own descriptor does not become readable in DEFER mode.)
///
/// The first call in a process on a ring in DEFER mode starts a thread that tests how this kernel
/// notifies an eventfd, and waits until that thread has ended.
///
/// **Ownership:** the library's, made on first use; do not close it.
/// **Threads:** any.
/// **Returns:** the descriptor; -EINVAL (NULL); -EMFILE, -ENFILE, -ENOMEM.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_ring_fd(ring: Option<NonNull<Ring>>) -> c_int {
    with_ring(known(ring), Caller::Anybody, |ring| ring.fd().map(|fd| fd as usize))
}

/// ringmsg_ring_stats: reports the ring's counters.
///
/// **Ownership:** `stats` is the caller's; its `size` must be set.
/// **Threads:** any.
/// **Returns:** 0; -EINVAL (NULL, bad size).
///
/// # Safety
/// `stats` is NULL, or writable for as many bytes as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_ring_stats(ring: Option<&Ring>, stats: *mut Stats) -> c_int {
    // SAFETY: the caller's promise is passed on.
    with_ring(ring, Caller::Anybody, |ring| unsafe { versioned::write(stats, &ring.stats()) }.map(|()| 0))
}

/// ringmsg_request_stats: reports the same counters for one request, until its FINAL record is
/// reaped. Requests that share `user_data` are added up.
///
/// **Ownership:** `stats` is the caller's; its `size` must be set.
/// **Threads:** any.
/// **Returns:** 0; -EINVAL (NULL, bad size); -ENOENT (no such request).
///
/// # Safety
/// `stats` is NULL, or writable for as many bytes as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_request_stats(
    ring: Option<&Ring>,
    user_data: u64,
    stats: *mut Stats,
) -> c_int {
    with_ring(ring, Caller::Anybody, |ring| {
        // SAFETY: the caller's promise is passed on.
        unsafe {
            versioned::check_output(stats)?;
            versioned::write(stats, &ring.request_stats(user_data)?)?;
        }
        Ok(0)
    })
}

/// ringmsg_ring_free: ends a ring: wakes a sleeping reap, which returns -ECANCELED, waits for calls
/// inside, cancels every request, and returns when the kernel no longer uses its memory: pools are
/// unmapped, unclaimed descriptors closed, all records void, and every caller's msghdr is the
/// caller's again. From another thread than the owner of a bound ring this takes 30 to 60 ms.
///
/// **Ownership:** the ring and its pools are gone, whatever the result. Calls that begin afterwards
/// have undefined behaviour. In a forked child this frees the child's copy, and nothing of the
/// parent's.
/// **Threads:** any; also after the owner has exited.
/// **Returns:** 0, also for NULL; -EINVAL (no such ring: it was freed before); -ETIMEDOUT (a call
/// inside did not return within 5 s, or the kernel did not release the ring within 15 s: the memory
/// is leaked, and msghdrs must stay valid).
///
/// # Safety
/// `ring` is NULL, or came from ringmsg_ring_new() and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_ring_free(ring: *mut Ring) -> c_int {
    without_ring(|| {
        if ring.is_null() {
            return Ok(0);
        }
        if !fork::handle_freed(ring as usize) {
            return Err(Error::new(libc::EINVAL, "ring_free: there is no such ring; was it freed before?"));
        }
        // SAFETY: it was listed as living, so it came from Box::into_raw.
        teardown::free(unsafe { Box::from_raw(ring) }).map(|()| 0)
    })
}
