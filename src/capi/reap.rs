//! Records: reaping and releasing them.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crate::config::{Wait, reserved_is_zero};
use crate::error::{Error, Result};
use crate::linger::check_linger;
use crate::reaper::Output;
use crate::record::{Metadata, Record};
use crate::ring::Ring;

use super::{Caller, check_count, known, null, slice, versioned, with_ring};

/// Checks the arguments of a reap before anything is done.
///
/// # Safety
/// As for `ringmsg_reap`.
#[inline]
unsafe fn reap_arguments<'a>(
    records: *mut Record,
    metadata: *mut Metadata,
    capacity: u32,
    wait: *const Wait,
) -> Result<(Output<'a>, Wait)> {
    if records.is_null() {
        return Err(null("records"));
    }
    if capacity == 0 {
        return Err(Error::new(libc::EINVAL, "reap: capacity is 0"));
    }
    let capacity = check_count("capacity", capacity)?;
    let mut waiting = Wait::default();
    if !wait.is_null() {
        // SAFETY: the caller's promise is passed on.
        waiting = unsafe { versioned::read(wait) }?;
        reserved_is_zero("ringmsg_wait", &[waiting.reserved])?;
        check_linger(waiting.linger_us)?;
    }
    // SAFETY: the caller promises room for `capacity` elements in each; nothing is assumed
    // about what is in there.
    let output = unsafe {
        let records = std::slice::from_raw_parts_mut(records.cast::<MaybeUninit<Record>>(), capacity);
        let metadata = (!metadata.is_null())
            .then(|| std::slice::from_raw_parts_mut(metadata.cast::<MaybeUninit<Metadata>>(), capacity));
        Output::new(records, metadata)
    };
    Ok((output, waiting))
}

/// ringmsg_reap: submits what is queued, and returns records as soon as there are any: at most
/// `capacity`, written to the front of `records`, and of `metadata` unless that is NULL (then
/// nothing is decoded). A train that does not fit continues in the next reap.
///
/// `wait` NULL: no time limit, linger AUTO, no spin. See struct ringmsg_wait.
///
/// **Ownership:** the arrays are the caller's. Records with RINGMSG_RECORD_BUFFER hold a pool
/// buffer until they are released, across any number of reaps.
/// **Threads:** [owner], one at a time.
/// **Returns:** how many records; 0 after the timeout or a wake; -EINTR on a signal; -ECANCELED
/// when the ring is being freed; -EBADR (the kernel had no memory for completions and dropped some:
/// datagrams are lost, requests may have ended unseen, and it stays so: free the ring); -EBUSY
/// (another thread is in reap); -EINVAL (NULL `records`, capacity 0 or from 2^31 on, bad `wait`, a
/// linger above 10 ms); -EBADFD (not
/// enabled); -EPERM, -EOWNERDEAD. Records win over every other outcome.
///
/// # Safety
/// `records` is NULL, or has room for `capacity` elements; so `metadata`; `wait` is NULL, or
/// readable for as many bytes as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_reap(
    ring: Option<NonNull<Ring>>,
    records: *mut Record,
    metadata: *mut Metadata,
    capacity: u32,
    wait: *const Wait,
) -> c_int {
    with_ring(known(ring), Caller::Owner, |ring| {
        // SAFETY: the caller's promise is passed on.
        let (mut output, wait) = unsafe { reap_arguments(records, metadata, capacity, wait) }?;
        ring.check_enabled()?;
        ring.become_reaper()?.reap(&mut output, &wait)
    })
}

/// ringmsg_release: gives the buffers of `records` back, so that the kernel can fill them again.
/// Records of one train share a buffer, which goes back with the last of them. Records without
/// RINGMSG_RECORD_BUFFER are stepped over, so a whole batch can be released as it is. A request
/// that waits for a buffer is armed again.
///
/// **Ownership:** what the records point to is no longer the caller's, and descriptors that were
/// not taken are closed.
/// **Threads:** any, on every ring. From another thread than the one that reaps it costs no
/// system call unless a request waits for a buffer.
/// **Returns:** 0; -EINVAL (NULL; a count from 2^31 on; a record that is not held: released before,
/// twice in this array, of a freed pool; then none is released); -EPERM (after fork); -ECANCELED.
///
/// # Safety
/// `records` is readable for `count` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_release(
    ring: Option<NonNull<Ring>>,
    records: *const Record,
    count: u32,
) -> c_int {
    with_ring(known(ring), Caller::Anybody, |ring| {
        // SAFETY: the caller's promise is passed on.
        ring.release(unsafe { slice("records", records, count) }?).map(|()| 0)
    })
}

/// ringmsg_next: releases `done`, then reaps, in one call: the loop of a receiver. `done` may be
/// the front of `records`, and `done_count` the result of the call before, also a negative one:
/// from 2^31 on it is taken as 0.
///
/// **Ownership, Threads:** as ringmsg_release() and ringmsg_reap().
/// **Returns:** as ringmsg_reap(); -EINVAL also when a record of `done` is not held. On success,
/// with -EINTR, -ECANCELED and -EBADR, and when the kernel refuses to wait, `done` is released;
/// with every other error nothing was done.
///
/// # Safety
/// `done` is readable for `done_count` elements; the rest as for ringmsg_reap().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_next(
    ring: Option<NonNull<Ring>>,
    done: *const Record,
    done_count: u32,
    records: *mut Record,
    metadata: *mut Metadata,
    capacity: u32,
    wait: *const Wait,
) -> c_int {
    with_ring(known(ring), Caller::Owner, |ring| {
        // The arrays may be one: first what is read, to its end, then what is written.
        // SAFETY: the caller's promise is passed on.
        let wait = unsafe { reap_arguments(records, metadata, capacity, wait) }?.1;
        ring.check_enabled()?;
        let reaper = ring.become_reaper()?;
        // The result of the call before, passed on as it is: a negative one is no record.
        let done_count = if done_count > i32::MAX as u32 { 0 } else { done_count };
        // SAFETY: as above.
        if ring.release_only(unsafe { slice("done", done, done_count) }?)? {
            ring.wakeup.leave_work();
        }
        // SAFETY: as above; checked before, so this cannot fail.
        let (mut output, _) = unsafe { reap_arguments(records, metadata, capacity, std::ptr::null()) }?;
        reaper.reap(&mut output, &wait)
    })
}

/// ringmsg_take_fds: hands over descriptors that arrived with `record` (SCM_RIGHTS, SCM_PIDFD),
/// in the order in which they came, close-on-exec. The control slice shows -1 in their place.
/// What is not taken is closed on release. (With ringmsg_recvmsg() they are in the caller's
/// msg_control, and the caller's.)
///
/// **Ownership:** the descriptors are the caller's.
/// **Threads:** any.
/// **Returns:** how many were written to `fds`, at most `capacity`; 0 when there are none (any
/// more); -EINVAL (NULL; the record is not held); -EPERM (after fork); -ECANCELED.
///
/// # Safety
/// `record` is NULL or readable; `fds` is writable for `capacity` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_take_fds(
    ring: Option<NonNull<Ring>>,
    record: Option<&Record>,
    fds: *mut c_int,
    capacity: u32,
) -> c_int {
    with_ring(known(ring), Caller::Anybody, |ring| {
        let record = record.ok_or_else(|| null("record"))?;
        if fds.is_null() && capacity > 0 {
            return Err(null("fds"));
        }
        let to = match check_count("capacity", capacity)? {
            0 => &mut [],
            // SAFETY: not NULL; the caller promises the room.
            capacity => unsafe { std::slice::from_raw_parts_mut(fds, capacity) },
        };
        ring.take_fds(record, to)
    })
}
