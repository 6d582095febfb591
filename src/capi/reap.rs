//! Records: reaping and releasing them.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crate::config::{PoolConfig, Wait, reserved_is_zero};
use crate::control;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::linger::check_linger;
use crate::reaper::Output;
use crate::receive::Receive;
use crate::record::{Metadata, Record};
use crate::request::RINGMSG_RECV_SPLIT;
use crate::ring::Ring;

use super::{Caller, check_count, known, null, slice, versioned, with_ring, without_ring};

/// Checks the arguments of a reap before anything is done.
///
/// # Safety
/// As for `ringmsg_reap`.
#[inline(always)]
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
        return Err(Error::new(libc::EINVAL, "capacity is 0"));
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
/// datagrams are lost, requests may have ended without a record, and later reaps return it again:
/// free the ring); -EBUSY (another thread is in reap); -EINVAL (NULL `records`, capacity 0 or from
/// 2^31 on, bad `wait`, a linger above 10 ms); -EBADFD (not enabled); -EPERM, -EOWNERDEAD; the
/// errno with which the kernel refuses to wait or to submit (-EPERM of a seccomp filter that was
/// installed later; -EIO instead of those above). If there are records, they are returned before
/// any other result.
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
/// RINGMSG_RECORD_BUFFER are skipped, so a whole batch can be released as it is. A request that
/// waits for a buffer is armed again.
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

/// Checks the arguments of ringmsg_receive() before anything is done.
///
/// # Safety
/// As for `ringmsg_receive`.
unsafe fn receive_arguments<'a>(
    fd: c_int,
    (slab, slab_size): (*mut c_void, usize),
    layout: *const PoolConfig,
    flags: u32,
) -> Result<Receive<'a>> {
    if slab.is_null() {
        return Err(null("slab"));
    }
    // SAFETY: the caller's promise is passed on.
    let layout = Layout::packed(&unsafe { versioned::read(layout) }?)?;
    if flags & !RINGMSG_RECV_SPLIT != 0 {
        return Err(Error::new(libc::EINVAL, "receive: the only flag is RINGMSG_RECV_SPLIT"));
    }
    let split = flags & RINGMSG_RECV_SPLIT != 0;
    if split && (layout.control_capacity as usize) < control::space(size_of::<i32>()) {
        return Err(Error::new(
            libc::EINVAL,
            "receive: the control space cannot hold the segment size that RINGMSG_RECV_SPLIT needs; \
             ringmsg_pool_config_for_socket() sizes it",
        ));
    }
    let needed = layout.buffers as usize * layout.stride as usize;
    if slab_size < needed {
        return Err(Error::new(
            libc::EINVAL,
            "receive: the slab is smaller than layout.buffers x (16 + name + control + payload), each \
             capacity rounded up to 8",
        ));
    }
    // SAFETY: not NULL; the caller promises `slab_size` writable bytes, of which `needed` are the
    // first.
    let slab = unsafe { std::slice::from_raw_parts_mut(slab.cast::<u8>(), needed) };
    Ok(Receive { fd, slab, layout, split })
}

/// ringmsg_receive: takes the messages that a socket holds now, by recvmmsg(2), into memory of the
/// caller: no ring, no pool, no state. The records are those of a reap, with user_data 0, pool
/// RINGMSG_POOL_NONE and without RINGMSG_RECORD_BUFFER: there is nothing to release. Their offsets
/// count from `slab`.
///
/// `layout` says how the slab is divided: `buffers`, any number of them, of [16-byte header][name]
/// [control messages][payload], back to back, each capacity rounded up to 8 bytes. The slab has at
/// least `buffers` x (16 + name + control + payload) bytes, in all below 4 GiB.
/// ringmsg_pool_config_for_socket() sizes a layout.
///
/// At most as many messages are taken as the layout has buffers, and as `records` has room. With
/// RINGMSG_RECV_SPLIT a GRO train becomes one record for each datagram; one that does not fit into
/// what the other messages leave of `records` stays whole, as one record with its segment_size.
///
/// It never blocks, whatever the socket's O_NONBLOCK says. A pending error of the socket (such as
/// -ECONNREFUSED) is returned once, by the first call that meets it. If it comes after data, the
/// kernel keeps it for the next call; where the kernel does not, a record with this result follows
/// the data. The end of a seqpacket socket is one empty record, together with empty messages right
/// before it.
///
/// **Ownership:** slab and arrays are the caller's; the next call with the same slab overwrites
/// what records point to. Descriptors in control messages (SCM_RIGHTS, SCM_PIDFD) are the
/// caller's, as in the system call, and are close-on-exec.
/// **Threads:** any, also in a forked child. Allocates nothing.
/// **Returns:** how many records, at least 1; -EAGAIN (the socket holds nothing); -EINVAL (NULL
/// `slab`, `layout` or `records`; bad `layout`; a slab that is too small; unknown flags; SPLIT
/// without control space for a segment size; `capacity` or `buffers` 0 or from 2^31 on);
/// -EOPNOTSUPP (a stream); -EBADF, -ENOTSOCK; the socket's own error.
///
/// # Safety
/// `slab` is NULL, or writable for `slab_size` bytes; `layout` is NULL, or readable for as many
/// bytes as its `size` says; `records` is NULL, or has room for `capacity` elements; so `metadata`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_receive(
    fd: c_int,
    slab: *mut c_void,
    slab_size: usize,
    layout: *const PoolConfig,
    records: *mut Record,
    metadata: *mut Metadata,
    capacity: u32,
    flags: u32,
) -> c_int {
    without_ring(|| {
        // SAFETY: the caller's promise is passed on.
        let (receive, mut output) = unsafe {
            let receive = receive_arguments(fd, (slab, slab_size), layout, flags)?;
            (receive, reap_arguments(records, metadata, capacity, std::ptr::null())?.0)
        };
        receive.run(&mut output)
    })
}

/// ringmsg_take_fds: hands over descriptors that arrived with `record` (SCM_RIGHTS, SCM_PIDFD),
/// in the order in which they came, close-on-exec. The control slice shows -1 in their place.
/// What is not taken is closed on release. (With ringmsg_recvmsg() they are in the caller's
/// msg_control, and the caller's.)
///
/// **Ownership:** the descriptors are the caller's.
/// **Threads:** any.
/// **Returns:** how many were written to `fds`, at most `capacity`; 0 when none remain; -EINVAL
/// (NULL; the record is not held); -EPERM (after fork); -ECANCELED.
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
