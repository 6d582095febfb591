//! Pools: making, knowing, and freeing them.

use std::ffi::{c_int, c_void};
use std::ptr::NonNull;

use crate::config::PoolConfig;
use crate::ids::PoolId;
use crate::pool::Pool;
use crate::record::RINGMSG_POOL_NONE;
use crate::ring::Ring;
use crate::socket_options;

use super::{Caller, known, null, versioned, with_ring, without_ring};

/// ringmsg_pool_config_init: fills in the size and the defaults: 256 buffers for the longest
/// datagrams and GRO trains, 256 bytes of control messages, any source address. Untouched pages use
/// no memory.
///
/// **Threads:** any.
///
/// # Safety
/// `config` is NULL, or writable for sizeof(struct ringmsg_pool_config) bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_pool_config_init(config: *mut PoolConfig) {
    if !config.is_null() {
        // SAFETY: the caller promises the room.
        unsafe { config.write_unaligned(PoolConfig::default()) };
    }
}

/// ringmsg_pool_config_for_socket: sets the capacities from the options that are on for `fd`:
/// never too little space for control messages, and 64 KiB of payload. Call it after the
/// options are set. `buffers` is left as it is.
///
/// **Ownership:** `config` is the caller's; ringmsg_pool_config_init() first.
/// **Threads:** any.
/// **Returns:** 0; -EINVAL (NULL, bad size); -EBADF, -ENOTSOCK.
///
/// # Safety
/// `config` is NULL, or readable and writable for as many bytes as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_pool_config_for_socket(config: *mut PoolConfig, fd: c_int) -> c_int {
    without_ring(|| {
        // SAFETY: the caller's promise is passed on.
        let mut sized = unsafe { versioned::read(config) }?;
        socket_options::size_pool(&mut sized, fd)?;
        // SAFETY: as above.
        unsafe { versioned::write(config, &sized) }.map(|()| 0)
    })
}

/// ringmsg_pool_new: makes a pool: one mapping, zeroed, smaller than 4 GiB, at an address that does
/// not change, not inherited by forked children. Each buffer is [16-byte header][name][control
/// messages][payload]; capacities are rounded up to 8 bytes.
///
/// **Ownership:** the pool belongs to its ring, which frees it; ringmsg_pool_free() does so
/// earlier.
/// **Threads:** [owner]; before ringmsg_ring_enable() any.
/// **Returns:** 0; -EINVAL (NULL, bad size, buffers not a power of two up to 32768, 4 GiB or
/// more); -ENOMEM (as ringmsg_ring_new(), it waits for memory of freed rings); -ENOSPC (1024
/// pools); -EPERM, -EOWNERDEAD. On failure `*pool` is left as it was.
///
/// # Safety
/// `config` is NULL, or readable for as many bytes as its `size` says; `pool` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_pool_new(
    ring: Option<NonNull<Ring>>,
    config: *const PoolConfig,
    pool: *mut *mut Pool,
) -> c_int {
    with_ring(known(ring), Caller::Owner, |ring| {
        if pool.is_null() {
            return Err(null("pool"));
        }
        // SAFETY: the caller's promise is passed on.
        let config = unsafe { versioned::read(config) }?;
        let made = ring.new_pool(&config, None)?;
        // SAFETY: not NULL, and the caller promises it is writable.
        unsafe { pool.write(std::ptr::from_ref(made).cast_mut()) };
        Ok(0)
    })
}

/// ringmsg_pool_new_in: makes a pool as ringmsg_pool_new() does, in the caller's memory: for huge
/// pages, for memory that is shared, and for languages in which a slice of a payload may outlive
/// its pool. It takes buffers x (16 bytes and the three capacities, each rounded up to 8; the sum
/// rounded up to 64).
///
/// **Ownership:** `memory` stays the caller's. It must stay mapped, and nothing else may write to
/// it, until ringmsg_pool_free() or ringmsg_ring_free() has returned 0; neither of them unmaps it.
/// What a forked child inherits is the caller's choice, too (MADV_DONTFORK).
/// **Threads:** [owner]; before ringmsg_ring_enable() any.
/// **Returns:** as ringmsg_pool_new(); also -EINVAL for memory that is not aligned to 64 bytes, or
/// is too short.
///
/// # Safety
/// As for `ringmsg_pool_new`; `memory` is NULL, or as above for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_pool_new_in(
    ring: Option<NonNull<Ring>>,
    config: *const PoolConfig,
    memory: *mut c_void,
    length: usize,
    pool: *mut *mut Pool,
) -> c_int {
    with_ring(known(ring), Caller::Owner, |ring| {
        let Some(memory) = NonNull::new(memory.cast::<u8>()) else { return Err(null("memory")) };
        if pool.is_null() {
            return Err(null("pool"));
        }
        // SAFETY: the caller's promise is passed on.
        let config = unsafe { versioned::read(config) }?;
        let made = ring.new_pool(&config, Some(NonNull::slice_from_raw_parts(memory, length)))?;
        // SAFETY: not NULL, and the caller promises it is writable.
        unsafe { pool.write(std::ptr::from_ref(made).cast_mut()) };
        Ok(0)
    })
}

/// ringmsg_pool_free: unmaps a pool that no request and no record refers to. Its handle stays
/// readable until the ring is freed, so that stale use gets an error.
///
/// **Threads:** [owner].
/// **Returns:** 0; -EINVAL (NULL, freed before); -EBUSY (a request is armed on it, or a record
/// holds a buffer of it); -EPERM, -EOWNERDEAD.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_pool_free(pool: Option<NonNull<Pool>>) -> c_int {
    let Some(pool) = known(pool) else { return null("pool").into_c() };
    // SAFETY: a pool's place lives as long as its ring, and the caller promises that this does.
    let ring = unsafe { pool.owner().cast::<Ring>().as_ref() };
    with_ring(ring, Caller::Owner, |ring| ring.free_pool(pool).map(|()| 0))
}

/// ringmsg_ring_pool: returns the pool with this id, such as a record's `pool`.
///
/// **Ownership:** the ring's.
/// **Threads:** any.
/// **Returns:** the pool; NULL if there is none.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_ring_pool(ring: Option<&Ring>, id: u16) -> *mut Pool {
    let mut found = std::ptr::null_mut();
    with_ring(ring, Caller::Anybody, |ring| {
        if let Some(pool) = ring.pools.get(PoolId(id)).filter(|pool| !pool.base().is_null()) {
            found = std::ptr::from_ref(pool).cast_mut();
        }
        Ok(0)
    });
    found
}

/// ringmsg_pool_id: returns the pool's id, as it is in records. The ids of freed pools are reused.
///
/// **Threads:** any. **Returns:** the id; RINGMSG_POOL_NONE for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_pool_id(pool: Option<&Pool>) -> u16 {
    pool.map_or(RINGMSG_POOL_NONE, |pool| pool.id().0)
}

/// ringmsg_pool_base: returns the address from which the offsets in records count. It does not
/// change.
///
/// **Ownership:** the library's: read only the slices of records that you hold; other bytes may
/// change.
/// **Threads:** any. **Returns:** the address; NULL for NULL, when the pool is freed, and after
/// fork.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_pool_base(pool: Option<&Pool>) -> *const u8 {
    pool.map_or(std::ptr::null(), Pool::base)
}

/// ringmsg_pool_size: returns the size of the mapping, in bytes.
///
/// **Threads:** any. **Returns:** the size; 0 for NULL, when the pool is freed, and after fork.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_pool_size(pool: Option<&Pool>) -> usize {
    pool.map_or(0, Pool::size)
}
