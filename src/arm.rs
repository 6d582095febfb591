//! Arming and cancelling requests: the control plane's half of a request's life.

use crate::error::{Error, Result};
use crate::ids::{BufferId, Slot, SocketId};
use crate::pool::{Buffers, Pool};
use crate::request::*;
use crate::ring::{Core, Ring};
use crate::scm_rights::ReceivedFds;
use crate::socket::{self, Socket, Sockets};
use crate::socket_options;
use crate::sys::memory::try_reserve_total;

/// Arguments common to the calls that arm a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RecvArgs {
    pub fd: i32,
    pub msg_flags: i32,
    pub flags: u32,
    pub user_data: u64,
}

const POOL_FORM_FLAGS: u32 = RINGMSG_RECV_SPLIT | RINGMSG_RECV_POLL_FIRST | RINGMSG_RECV_NO_REARM;

impl Ring {
    /// Single-shot into the caller's msghdr.
    ///
    /// # Safety
    /// `message` and all it points to stay valid until the request's FINAL record is reaped, or
    /// the ring is freed.
    pub(crate) unsafe fn recvmsg(&self, message: *mut libc::msghdr, args: RecvArgs) -> Result<()> {
        check_flags("recvmsg", args.flags, RINGMSG_RECV_POLL_FIRST | RINGMSG_RECV_NO_REARM)?;
        // SAFETY: the caller promises a valid msghdr.
        let target = unsafe { callers_target(message) }?;
        self.arming(|sockets, core| {
            let slot = self.admit(sockets, core, target, None, args)?;
            self.enqueue(core, slot)
        })
    }

    /// Single-shot into a buffer of `pool`.
    pub(crate) fn recvmsg_once(&self, pool: &Pool, args: RecvArgs) -> Result<()> {
        check_flags("recvmsg_once", args.flags, POOL_FORM_FLAGS)?;
        self.arming(|sockets, core| {
            let mut buffers = pool.lock_existing()?;
            check_split(&buffers, args)?;
            let buffer = buffers.take_free().ok_or(NO_FREE_BUFFER)?;
            let target = Target::Once { pool: pool.id(), buffer };
            let admitted = self.admit(sockets, core, target, Some(&mut buffers), args);
            let slot = admitted.inspect_err(|_| buffers.return_buffer(buffer))?;
            prepare_once(core.requests.get(slot), &buffers, buffer);
            drop(buffers);
            self.enqueue(core, slot)
        })
    }

    /// Multishot into the buffers of `pool`, until cancelled.
    pub(crate) fn recvmsg_multishot(&self, pool: &Pool, args: RecvArgs) -> Result<()> {
        check_flags("recvmsg_multishot", args.flags, POOL_FORM_FLAGS)?;
        self.arming(|sockets, core| {
            let mut buffers = pool.lock_existing()?;
            check_split(&buffers, args)?;
            let target = Target::Multishot { pool: pool.id() };
            let slot = self.admit(sockets, core, target, Some(&mut buffers), args)?;
            prepare_multishot(core.requests.get(slot), &buffers);
            if !buffers.has_buffers() {
                // Every buffer is held, so the request would end at once. It waits for a release
                // instead.
                core.requests.get_mut(slot).stats.starvations += 1;
                core.stats.starvations += 1;
                core.requests.starve(&mut buffers.starved, slot);
                return Ok(());
            }
            buffers.arm();
            if buffers.armed == 1 {
                // The reaper must know how few buffers are published before it waits for more.
                self.pools_to_look_after.insert(pool.id());
            }
            drop(buffers);
            self.push(core, slot)?;
            self.flush_or_leave();
            Ok(())
        })
    }

    /// Until the socket takes data.
    pub(crate) fn writable(&self, fd: i32, user_data: u64) -> Result<()> {
        if socket::is_unconnected_local(fd)? {
            return Err(Error::new(
                libc::EOPNOTSUPP,
                "writable: the kernel reports an AF_UNIX socket without a peer as always writable; connect it",
            ));
        }
        let args = RecvArgs { fd, msg_flags: 0, flags: 0, user_data };
        self.arming(|sockets, core| {
            let slot = self.admit(sockets, core, Target::Writable { by_edge: false }, None, args)?;
            self.push(core, slot)?;
            self.flush_or_leave();
            Ok(())
        })
    }

    /// Runs `arm` under the locks that arming takes.
    fn arming(&self, arm: impl FnOnce(&mut Sockets, &mut Core) -> Result<()>) -> Result<()> {
        let armed = arm(&mut self.sockets.lock(), &mut self.core());
        self.close_released_sockets();
        armed
    }

    /// Checks the arguments and puts the request into a slot.
    fn admit(
        &self,
        sockets: &mut Sockets,
        core: &mut Core,
        target: Target,
        buffers: Option<&mut Buffers>,
        args: RecvArgs,
    ) -> Result<Slot> {
        self.check_enabled()?;
        let slot = reserve_slot(core)?;
        let socket = sockets.hold(args.fd)?;
        let admitted = fill_slot(slot, core, target, buffers, args, (socket, sockets.get(socket)));
        match admitted {
            Ok(_) => _ = self.note_service_thread(),
            Err(_) => core.released_sockets.push(socket),
        }
        admitted.map(|()| slot)
    }

    /// Queues the request in `slot`. On failure the slot is free again.
    fn push(&self, core: &mut Core, slot: Slot) -> Result<()> {
        let request = core.requests.get(slot);
        let (target, socket) = (request.target, request.socket);
        request.arm(slot, self.engine()).inspect_err(|_| {
            if let Some(mut buffers) = self.pool_of(target) {
                buffers.requests -= 1;
                match target {
                    Target::Once { buffer, .. } => buffers.return_buffer(buffer),
                    _ => buffers.disarm(),
                }
            }
            core.requests.free_slot(slot);
            core.released_sockets.push(socket);
        })
    }

    fn pool_of(&self, target: Target) -> Option<crate::pool::Locked<'_>> {
        target.pool().and_then(|id| self.pools.get(id)).and_then(Pool::lock)
    }

    /// Queues a single-shot for the next submit or reap. Submits it at once where no reap will
    /// follow: a thread sleeps in one, or the program waits for ring_fd.
    fn enqueue(&self, core: &mut Core, slot: Slot) -> Result<()> {
        self.push(core, slot)?;
        if self.is_reaping() || self.wakeup.ready_fd().is_some() {
            self.flush_or_leave();
        } else {
            // A reap may be about to sleep.
            self.wakeup.post_work();
        }
        Ok(())
    }

    /// Submits the queue. Entries that the kernel cannot take now (no memory, a full completion
    /// queue) stay queued, and the next reap tries again.
    fn flush_or_leave(&self) {
        if self.engine().flush().is_err() || self.engine().needs_reaper() {
            self.wakeup.post_work();
        }
    }

    /// Pushes queued requests to the kernel.
    pub(crate) fn submit(&self) -> Result<()> {
        let _core = self.core();
        self.engine().flush()
    }

    /// Ends every request with `user_data`; each produces a FINAL record.
    pub(crate) fn cancel(&self, user_data: u64) -> Result<()> {
        self.check_enabled()?;
        let mut core = self.core();
        let first = core.requests.first_with_user_data(user_data);
        let mut next = first;
        while let Some(slot) = next {
            next = core.requests.next_with_same_user_data(slot);
            self.cancel_request(&mut core, slot);
        }
        if first.is_none() {
            return Err(Error::with(
                libc::ENOENT,
                format_args!("cancel: no request with user_data {user_data}"),
            ));
        }
        self.flush_or_leave();
        Ok(())
    }

    fn cancel_request(&self, core: &mut Core, slot: Slot) {
        let request = core.requests.get_mut(slot);
        if request.is_cancelled() {
            return;
        }
        let told_already = request.cancellation == Cancellation::Sent(Then::Rearm);
        request.cancellation = Cancellation::Sent(Then::End);
        match request.state() {
            State::Armed if told_already => {}
            State::Armed => self.send_cancellation(core, slot, Then::End),
            State::Waiting(_) => self.end_waiting(core, slot),
            // The completion that ends the pause, or the FINAL record, finds it cancelled.
            State::Paused | State::Over | State::Vacant => {}
        }
    }

    /// Has the kernel cancel an armed request. If the kernel cannot take that now, the next pass
    /// tries again.
    pub(crate) fn send_cancellation(&self, core: &mut Core, slot: Slot, then: Then) {
        let sent = self.engine().cancel(slot).is_ok();
        core.requests.get_mut(slot).cancellation = match sent {
            true => Cancellation::Sent(then),
            false => Cancellation::Wanted(then),
        };
        if !sent {
            core.requests.retry_later(slot);
            self.wakeup.post_work();
        }
    }

    /// Ends a request that is not in the kernel: its FINAL record comes from the library.
    fn end_waiting(&self, core: &mut Core, slot: Slot) {
        let request = core.requests.get(slot);
        let (target, state) = (request.target, request.state());
        if let Some(mut buffers) = self.pool_of(target) {
            match target {
                Target::Once { buffer, .. } => buffers.return_buffer(buffer),
                _ if state == State::Waiting(For::Buffers) => {
                    core.requests.remove_starved(&mut buffers.starved, slot);
                }
                _ => {}
            }
        }
        core.requests.cancel_retry(slot);
        core.requests.finish_later(slot);
        self.wakeup.post_work();
    }
}

/// Where `message` says that data is to go.
///
/// # Safety
/// `message` is a valid msghdr.
unsafe fn callers_target(message: *mut libc::msghdr) -> Result<Target> {
    // SAFETY: the caller promises a valid msghdr.
    let room = unsafe { &*message };
    if room.msg_iov.is_null() && room.msg_iovlen > 0 {
        return Err(Error::new(libc::EINVAL, "recvmsg: msg_iov is NULL, but msg_iovlen is not 0"));
    }
    // The kernel refuses more parts than UIO_MAXIOV without reading them; they are not read here.
    let parts = room.msg_iovlen; // size_t, or int with another C library
    #[allow(clippy::unnecessary_cast)]
    let parts = if parts as usize > libc::UIO_MAXIOV as usize { 0 } else { parts as usize };
    let mut payload = 0u64;
    for part in 0..parts {
        // SAFETY: the caller promises msg_iovlen parts.
        payload = payload.saturating_add(unsafe { (*room.msg_iov.add(part)).iov_len } as u64);
    }
    Ok(Target::Caller {
        message,
        name: Area::new(room.msg_name, room.msg_namelen),
        control: Area::new(room.msg_control, room.msg_controllen as u32),
        payload: payload.min(u64::from(u32::MAX)) as u32,
    })
}

/// A slot, and the memory that the end of its request will need, so that reaping allocates nothing.
fn reserve_slot(core: &mut Core) -> Result<Slot> {
    let slots = core.requests.slots() as usize + 1;
    try_reserve_total(&mut core.released_sockets, slots)?;
    try_reserve_total(&mut core.closing_sockets, slots)?;
    core.requests.reserve()
}

const NO_FREE_BUFFER: Error = Error::new(
    libc::ENOBUFS,
    "recvmsg_once: every buffer is published or held; release some, or give single-shots their own pool",
);

fn check_split(buffers: &Buffers, args: RecvArgs) -> Result<()> {
    if args.flags & RINGMSG_RECV_SPLIT == 0 {
        return Ok(());
    }
    let needed = socket_options::space_for_segment_size(args.fd);
    if (buffers.layout.control_capacity as usize) < needed {
        return Err(Error::with(
            libc::EINVAL,
            format_args!(
                "split: the pool's control capacity is {} bytes, and {needed} are needed so that the \
                 segment size of a train fits; ringmsg_pool_config_for_socket() computes it",
                buffers.layout.control_capacity
            ),
        ));
    }
    Ok(())
}

/// Makes the request in the reserved `slot`, on a socket that the ring holds.
fn fill_slot(
    slot: Slot,
    core: &mut Core,
    target: Target,
    buffers: Option<&mut Buffers>,
    args: RecvArgs,
    (id, socket): (SocketId, &Socket),
) -> Result<()> {
    let kind = socket.kind;
    let msg_flags = msg_flags(target, args.msg_flags, kind)?;
    let passes_descriptors = buffers.is_some() && kind.passes_descriptors();
    if let Some(buffers) = buffers {
        if passes_descriptors && buffers.received_fds.is_none() {
            let layout = buffers.layout;
            buffers.received_fds = Some(ReceivedFds::new(layout.buffers, layout.control_capacity)?);
        }
        buffers.requests += 1;
    }
    let request = core.requests.get_mut(slot);
    request.target = target;
    request.user_data = args.user_data;
    request.socket = id;
    request.fd = socket.fd();
    request.kind = kind;
    request.msg_flags = msg_flags;
    request.flags = args.flags;
    request.cancellation = Cancellation::None;
    request.drops_before = socket.drops();
    request.stats = Default::default();
    request.succeeded();
    request.passes_descriptors = passes_descriptors;
    core.requests.occupy(slot, State::Armed);
    Ok(())
}

/// The flags to receive with. The library adds two to those of the pool forms: MSG_TRUNC, for the
/// length before truncation, where messages have one; and MSG_CMSG_CLOEXEC where descriptors can
/// arrive (packet sockets refuse that flag).
fn msg_flags(target: Target, given: i32, kind: socket::Kind) -> Result<u32> {
    if matches!(target, Target::Writable { .. }) {
        return Ok(0);
    }
    let caller_owns_message = matches!(target, Target::Caller { .. });
    if !caller_owns_message {
        check_msg_flags(given, matches!(target, Target::Multishot { .. }), kind)?;
    }
    let given = check_waits_for_all(given, kind)?;
    if caller_owns_message {
        return Ok(given);
    }
    let length = if kind.has_messages() { libc::MSG_TRUNC as u32 } else { 0 };
    let close_on_exec = if kind.passes_descriptors() { libc::MSG_CMSG_CLOEXEC as u32 } else { 0 };
    Ok(given | length | close_on_exec)
}

/// Gives a multishot's msghdr the capacities of its buffers.
fn prepare_multishot(request: &Request, buffers: &Buffers) {
    // SAFETY: the request is not in the kernel yet.
    unsafe {
        let message = &raw mut (*request.kernel_side()).message;
        *message = std::mem::zeroed();
        (*message).msg_namelen = buffers.layout.name_capacity;
        (*message).msg_controllen = buffers.layout.control_capacity as _;
    }
}

/// Points a single-shot's msghdr into its buffer.
fn prepare_once(request: &Request, buffers: &Buffers, buffer: BufferId) {
    let layout = buffers.layout;
    let (name_at, control_at, payload_at) = layout.parts();
    let start = layout.start(buffer.0);
    let part = |at: u32| {
        // SAFETY: the parts of a buffer lie inside the pool.
        unsafe { buffers.base().add((start + at) as usize) }.as_ptr().cast::<libc::c_void>()
    };
    let or_null = |capacity: u32, at: u32| if capacity > 0 { part(at) } else { std::ptr::null_mut() };
    // SAFETY: the request is not in the kernel yet.
    unsafe {
        let side = request.kernel_side();
        let io = &raw mut (*side).part;
        *io = libc::iovec { iov_base: part(payload_at), iov_len: layout.payload_capacity as usize };
        let message = &raw mut (*side).message;
        *message = std::mem::zeroed();
        (*message).msg_name = or_null(layout.name_capacity, name_at);
        (*message).msg_namelen = layout.name_capacity;
        (*message).msg_control = or_null(layout.control_capacity, control_at);
        (*message).msg_controllen = layout.control_capacity as _;
        (*message).msg_iov = io;
        (*message).msg_iovlen = 1;
        (*message).msg_flags = NOT_FILLED;
    }
}
