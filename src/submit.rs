//! Submitting and cancelling requests: the control plane's half of a request's life.

use std::sync::atomic::Ordering;

use crate::descriptors::Descriptors;
use crate::engine::Token;
use crate::error::{Error, Result};
use crate::pool::{Buffers, Pool};
use crate::request::*;
use crate::ring::{Core, Ring};
use crate::socket;

/// What a caller asks for, in any form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub fd: i32,
    pub msg_flags: i32,
    pub flags: u32,
    pub user_data: u64,
}

impl Ring {
    /// Single-shot into the caller's msghdr.
    ///
    /// # Safety
    /// `message` and all it points to stay valid until the request's FINAL record is reaped, or
    /// the ring is freed.
    pub(crate) unsafe fn recvmsg(&self, message: *mut libc::msghdr, wish: Wish) -> Result<()> {
        check_flags("recvmsg", wish.flags, RINGMSG_RECV_POLL_FIRST | RINGMSG_RECV_NO_REARM)?;
        // SAFETY: the caller promises a valid msghdr.
        let room = unsafe { &*message };
        if room.msg_iov.is_null() && room.msg_iovlen > 0 {
            return Err(Error::new(libc::EINVAL, "recvmsg: msg_iov is NULL, but msg_iovlen is not 0"));
        }
        // More parts than UIO_MAXIOV the kernel refuses without reading them, and so do we.
        let mut payload = 0u64;
        let parts = room.msg_iovlen; // size_t, or int with another C library
        #[allow(clippy::unnecessary_cast)]
        let parts = if parts as usize > libc::UIO_MAXIOV as usize { 0 } else { parts as usize };
        for part in 0..parts {
            // SAFETY: the caller promises msg_iovlen parts.
            payload = payload.saturating_add(unsafe { (*room.msg_iov.add(part)).iov_len } as u64);
        }
        let form = Form::Caller {
            message,
            name: Area::new(room.msg_name, room.msg_namelen),
            control: Area::new(room.msg_control, room.msg_controllen as u32),
            payload: payload.min(u64::from(u32::MAX)) as u32,
        };
        let mut core = self.core();
        let slot = self.admit(&mut core, form, None, wish)?;
        self.enqueue(&mut core, slot)
    }

    /// Single-shot into a buffer of `pool`.
    pub(crate) fn recvmsg_once(&self, pool: &Pool, wish: Wish) -> Result<()> {
        check_flags(
            "recvmsg_once",
            wish.flags,
            RINGMSG_RECV_SPLIT | RINGMSG_RECV_POLL_FIRST | RINGMSG_RECV_NO_REARM,
        )?;
        let mut core = self.core();
        let mut buffers = pool.lock().ok_or(Error::new(libc::EINVAL, "pool: it is freed"))?;
        check_split(&buffers, wish)?;
        let buffer = buffers.take_free().ok_or(Error::new(
            libc::ENOBUFS,
            "recvmsg_once: no unpublished buffer; release some, or give single-shots a pool of their own",
        ))?;
        let admitted = self.admit(&mut core, Form::Once { buffer }, Some((pool, &mut buffers)), wish);
        let slot = admitted.inspect_err(|_| buffers.give_back(buffer))?;
        prepare_once(core.requests.get(slot), &buffers, buffer);
        drop(buffers);
        self.enqueue(&mut core, slot)
    }

    /// Multishot into the buffers of `pool`, until cancelled.
    pub(crate) fn recvmsg_multishot(&self, pool: &Pool, wish: Wish) -> Result<()> {
        check_flags(
            "recvmsg_multishot",
            wish.flags,
            RINGMSG_RECV_SPLIT | RINGMSG_RECV_POLL_FIRST | RINGMSG_RECV_NO_REARM,
        )?;
        let mut core = self.core();
        let mut buffers = pool.lock().ok_or(Error::new(libc::EINVAL, "pool: it is freed"))?;
        check_split(&buffers, wish)?;
        let slot = self.admit(&mut core, Form::Multishot, Some((pool, &mut buffers)), wish)?;
        let layout = buffers.layout;
        let request = core.requests.get_mut(slot);
        // SAFETY: the request is not in the kernel yet.
        unsafe {
            let message = &raw mut (*request.kernel_side()).message;
            *message = std::mem::zeroed();
            (*message).msg_namelen = layout.name_capacity;
            (*message).msg_controllen = layout.control_capacity as _;
        }
        let nothing_to_give = !buffers.has_buffers();
        if nothing_to_give {
            // Every buffer is held: it would end at once. It waits for a release instead.
            request.state = State::Starved;
            request.stats.starvations += 1;
            buffers.starved += 1;
            return Ok(());
        }
        buffers.arm();
        drop(buffers);
        self.push(&mut core, slot)?;
        self.flush_or_leave();
        Ok(())
    }

    /// A slot for a request that is fit to be armed.
    fn admit(
        &self,
        core: &mut Core,
        form: Form,
        pool: Option<(&Pool, &mut Buffers)>,
        wish: Wish,
    ) -> Result<u32> {
        self.check_enabled()?;
        let socket = core.sockets.hold(wish.fd)?;
        let kind = core.sockets.get(socket).kind;
        let msg_flags =
            msg_flags(form, wish.msg_flags, kind).inspect_err(|_| core.sockets.let_go(socket, |_| ()))?;
        let drops_before = core.sockets.drops(socket);
        let slot = core.requests.reserve();
        let request = core.requests.get_mut(slot);
        request.state = State::Armed;
        request.form = form;
        request.user_data = wish.user_data;
        request.socket = socket;
        request.kind = kind;
        request.msg_flags = msg_flags;
        request.flags = wish.flags;
        request.cancelled = false;
        request.cancel_told = false;
        request.restart = Restart::No;
        request.drops_before = drops_before;
        request.stats = Default::default();
        request.succeeded();
        request.passes_descriptors = pool.is_some() && kind.passes_descriptors();
        if let Some((pool, buffers)) = pool {
            request.pool = pool.id();
            buffers.requests += 1;
            if kind.passes_descriptors() && buffers.descriptors.is_none() {
                let layout = buffers.layout;
                buffers.descriptors = Some(Descriptors::new(layout.buffers, layout.control_capacity));
            }
        }
        self.make_home();
        Ok(slot)
    }

    /// Queues the request in `slot`. On failure it never was.
    fn push(&self, core: &mut Core, slot: u32) -> Result<()> {
        let request = core.requests.get(slot);
        let receive = request.receive(slot, core.sockets.fd(request.socket));
        let (form, socket, pool) = (request.form, request.socket, request.pool());
        self.engine.receive(&receive).inspect_err(|_| {
            if let Some(mut buffers) = pool.and_then(|id| self.pools.get(id)).and_then(Pool::lock) {
                buffers.requests -= 1;
                match form {
                    Form::Once { buffer } => buffers.give_back(buffer),
                    _ => buffers.disarm(),
                }
            }
            core.sockets.let_go(socket, |fd| self.engine.forget(fd));
            core.requests.vacate(slot);
        })
    }

    /// Queues a single-shot for the next submit or reap. At once where no reap is to come by
    /// itself: somebody sleeps in one, or waits for ring_fd.
    fn enqueue(&self, core: &mut Core, slot: u32) -> Result<()> {
        self.push(core, slot)?;
        if self.reaping.load(Ordering::Acquire) || self.signals.ready_fd().is_some() {
            self.flush_or_leave();
        } else {
            // A reap may be on its way to sleep by now.
            self.signals.call_for_attention();
        }
        Ok(())
    }

    /// Submits. What the kernel cannot take now (memory, a full completion queue) stays queued,
    /// and the next reap tries again.
    fn flush_or_leave(&self) {
        if self.engine.flush().is_err() || self.engine.needs_reaper() {
            self.signals.call_for_attention();
        }
    }

    /// Pushes queued requests to the kernel.
    pub(crate) fn submit(&self) -> Result<()> {
        let _core = self.core();
        self.engine.flush()
    }

    /// Ends every request with `user_data`; each answers with a FINAL record.
    pub(crate) fn cancel(&self, user_data: u64) -> Result<()> {
        self.check_enabled()?;
        let mut core = self.core();
        let mut found = false;
        for slot in 0..core.requests.slots() {
            let request = core.requests.get_mut(slot);
            if request.state == State::Vacant || request.user_data != user_data {
                continue;
            }
            found = true;
            if request.cancelled {
                continue;
            }
            request.cancelled = true;
            match request.state {
                State::Armed => self.cancel_in_kernel(request, slot),
                State::Starved => self.end_starved(&mut core, slot),
                // Its own completion finds the mark.
                State::Paused | State::Over | State::Vacant => {}
            }
        }
        if !found {
            return Err(Error::with(libc::ENOENT, format!("cancel: no request with user_data {user_data}")));
        }
        self.flush_or_leave();
        Ok(())
    }

    /// Has the kernel end a request. What it cannot take now the next reap tells it again.
    pub(crate) fn cancel_in_kernel(&self, request: &mut Request, slot: u32) {
        request.cancel_told = self.engine.cancel(Token::Receive(slot)).is_ok();
        if !request.cancel_told {
            self.signals.call_for_attention();
        }
    }

    /// A starved request is not in the kernel: its FINAL record comes from us.
    fn end_starved(&self, core: &mut Core, slot: u32) {
        let request = core.requests.get(slot);
        let (pool, multishot, form) = (request.pool(), request.is_multishot(), request.form);
        if let Some(mut buffers) = pool.and_then(|id| self.pools.get(id)).and_then(Pool::lock) {
            match form {
                Form::Once { buffer } => buffers.give_back(buffer),
                _ if multishot => buffers.starved -= 1,
                _ => {}
            }
        }
        core.requests.finish_later(slot);
        self.signals.call_for_attention();
    }
}

fn check_split(buffers: &Buffers, wish: Wish) -> Result<()> {
    if wish.flags & RINGMSG_RECV_SPLIT == 0 {
        return Ok(());
    }
    let needed = socket::space_for_segment_size(wish.fd);
    if (buffers.layout.control_capacity as usize) < needed {
        return Err(Error::with(
            libc::EINVAL,
            format!(
                "split: the pool's control capacity is {} bytes, and {needed} are needed so that the \
             segment size of a train fits; ringmsg_pool_config_for_socket() computes it",
                buffers.layout.control_capacity
            ),
        ));
    }
    Ok(())
}

/// The flags to receive with. To those of the pool forms the library adds the length before
/// truncation, where messages have one, and close-on-exec, where descriptors can arrive (packet
/// sockets refuse that flag).
fn msg_flags(form: Form, given: i32, kind: socket::Kind) -> Result<u32> {
    if let Form::Caller { .. } = form {
        return Ok(given as u32);
    }
    let given = check_msg_flags(given, form == Form::Multishot, kind)?;
    let length = if kind.has_messages() { libc::MSG_TRUNC as u32 } else { 0 };
    let close_on_exec = if kind.passes_descriptors() { libc::MSG_CMSG_CLOEXEC as u32 } else { 0 };
    Ok(given | length | close_on_exec)
}

/// Points a single-shot's msghdr into its buffer.
fn prepare_once(request: &Request, buffers: &Buffers, buffer: u16) {
    let layout = buffers.layout;
    let (name_at, control_at, payload_at) = layout.parts();
    let start = layout.start(buffer);
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
