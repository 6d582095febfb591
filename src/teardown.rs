//! The end of a ring: from any thread, with requests armed, records held and a reap asleep.
//!
//! Memory is unmapped only when the kernel no longer uses it. Where the caller may still enter the
//! ring, everything is cancelled and reaped. A bound ring with another owner cannot be entered: it
//! is closed, and the kernel takes it apart in the background within 30 to 60 ms; the ring's end of
//! a socket pair hangs up when that is done.

use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use crate::engine::{Completion, Engine, Sleep, Token, Waited};
use crate::error::{Error, Result};
use crate::ids::{BufferId, Slot};
use crate::layout::Header;
use crate::mode::EngineKind;
use crate::pool::{Buffers, Pool, Pools};
use crate::request::{NOT_FILLED, Request, State, Target};
use crate::ring::{Core, Parts, Ring};
use crate::scm_rights;
use crate::sys::memory::try_vec;

/// How long to wait for calls that are inside.
const CALLS: Duration = Duration::from_secs(5);
/// How long to wait for the kernel: 5 s was exceeded with a load of 12 on 2 processors. What the
/// kernel still uses then is leaked.
const KERNEL: Duration = Duration::from_secs(15);

/// Frees the ring. On -ETIMEDOUT what the kernel may still write to is leaked, on purpose.
pub(crate) fn free(ring: Box<Ring>) -> Result<()> {
    if ring.gate.is_foreign() {
        // A forked child: descriptors are closed, mappings were never there. What a thread of the
        // parent was changing when it forked is inconsistent, and is left alone.
        if ring.is_being_changed() {
            std::mem::forget(ring);
        }
        return Ok(());
    }
    ring.gate.close();
    ring.wakeup.wake();
    if !ring.gate.wait_until_empty(CALLS) {
        std::mem::forget(ring);
        return Err(Error::new(
            libc::ETIMEDOUT,
            "ring_free: a call on the ring did not return; its memory is leaked, and msghdrs must live on",
        ));
    }
    let is_anybodys = ring.engine().setup().engine == EngineKind::Recvmmsg;
    let may_enter = is_anybodys || (ring.gate.check_owner().is_ok() && ring.check_enabled().is_ok());
    take_apart(ring.into_parts(), may_enter)
}

fn take_apart(parts: Parts, may_enter: bool) -> Result<()> {
    let Parts { engine, former, pools, core, sockets, wakeup_polled } = parts;
    // It has no request, and no pool.
    drop(former);
    // Dropped only below, where the kernel no longer uses them: not by an error inside the library,
    // whose unwinding would unmap what an armed request still points to.
    let pools = ManuallyDrop::new(pools);
    let mut teardown =
        Teardown { engine: &engine, pools: &pools, core: ManuallyDrop::new(core), wakeup_polled };
    let drained = may_enter && teardown.drain();
    teardown.take_completions();
    if drained {
        for pool in pools.iter() {
            // Fails only if the pool is not registered: then there is nothing to undo.
            let _ = engine.unregister_pool(pool.id());
        }
    }
    let is_idle = teardown.is_idle();
    let core = teardown.core;
    let is_gone = engine.close(if is_idle { Duration::ZERO } else { KERNEL });
    if !is_idle && is_gone {
        close_unreported_descriptors(&pools, &core);
    }
    if !is_idle && !is_gone {
        std::mem::forget(sockets);
        return Err(Error::new(
            libc::ETIMEDOUT,
            "ring_free: the kernel did not release the ring; its memory is leaked, and msghdrs must live on",
        ));
    }
    drop((ManuallyDrop::into_inner(core), ManuallyDrop::into_inner(pools), sockets));
    Ok(())
}

/// A ring that is taken apart.
struct Teardown<'a> {
    engine: &'a Engine,
    pools: &'a Pools,
    core: ManuallyDrop<Core>,
    wakeup_polled: bool,
}

impl Teardown<'_> {
    /// Whether the kernel has no operation of the ring.
    fn is_idle(&self) -> bool {
        self.core.requests.in_kernel() == 0 && !self.wakeup_polled
    }

    /// Cancels everything and reaps until the kernel has nothing left. False: it has something.
    fn drain(&mut self) -> bool {
        if self.is_idle() {
            return true;
        }
        let deadline = Instant::now() + CALLS;
        let mut waited = Waited::TimedOut;
        loop {
            // Again after a while: the kernel does not find a request whose task work is queued.
            if waited == Waited::TimedOut
                && self.engine.cancel_all().and_then(|()| self.engine.flush()).is_err()
            {
                return false;
            }
            self.take_completions();
            // Dropped completions never come: the kernel ends those requests with the ring.
            if self.is_idle() || self.engine.dropped() || Instant::now() > deadline {
                return self.is_idle();
            }
            waited = self.engine.wait(Sleep::for_one(Some(Duration::from_millis(10))));
        }
    }

    /// Takes the completions that lie in the queue, and closes descriptors that came with them.
    fn take_completions(&mut self) {
        let engine = self.engine;
        for completion in engine.completions() {
            match completion.token() {
                Token::Wakeup => self.wakeup_polled = completion.more(),
                Token::Pause(slot) => self.core.requests.set_state(slot, State::Over),
                Token::Receive(slot) => self.received(slot, completion),
                Token::Cancel(_) | Token::CancelAll => {}
            }
        }
    }

    fn received(&mut self, slot: Slot, completion: Completion) {
        if !completion.more() {
            self.core.requests.set_state(slot, State::Over);
        }
        let request = self.core.requests.get(slot);
        let buffer = match request.target {
            Target::Multishot { .. } => completion.buffer(),
            Target::Once { buffer, .. } => (completion.result >= 0).then_some(buffer),
            Target::Caller { .. } | Target::Writable { .. } => None,
        };
        if let Some(buffer) = buffer.filter(|_| request.passes_descriptors) {
            close_descriptors_in(self.pools, request, buffer);
        }
    }
}

/// Closes the descriptors that arrived in a buffer of `request`.
fn close_descriptors_in(pools: &Pools, request: &Request, buffer: BufferId) {
    let pool = request.target.pool().and_then(|id| pools.get(id));
    let Some(mut buffers) = pool.and_then(Pool::lock) else { return };
    let length = match request.target {
        // SAFETY: the kernel has written the lengths back, and is done with the request.
        Target::Once { .. } => unsafe { (*request.kernel_side()).message.msg_controllen as u32 },
        _ => header_of(&buffers, buffer).control,
    };
    close_descriptors(&mut buffers, buffer, length);
}

/// Closes descriptors that came with messages whose completions nobody saw: they were on the
/// overflow list, or were posted while the ring was being closed. The kernel no longer uses the
/// ring, and every buffer it was given shows whether it was filled.
fn close_unreported_descriptors(pools: &Pools, core: &Core) {
    for (_, request) in core.requests.live().filter(|(_, request)| request.passes_descriptors) {
        // SAFETY: the kernel no longer uses the request.
        let filled = unsafe { (*request.kernel_side()).message.msg_flags } != NOT_FILLED;
        match request.target {
            Target::Once { buffer, .. } if request.state() == State::Armed && filled => {
                close_descriptors_in(pools, request, buffer);
            }
            _ => {}
        }
    }
    for mut buffers in pools.iter().filter_map(Pool::lock).filter(|buffers| buffers.received_fds.is_some()) {
        let Ok(mut given) = try_vec(buffers.published as usize) else { continue };
        given.extend(buffers.in_kernel());
        for buffer in given {
            let length = header_of(&buffers, buffer).control;
            close_descriptors(&mut buffers, buffer, length);
        }
    }
}

fn header_of(buffers: &Buffers, buffer: BufferId) -> Header {
    let start = buffers.layout.start(buffer.0) as usize;
    // SAFETY: no other code uses the buffer; its header is 16 plain bytes.
    Header::from_bytes(unsafe { buffers.base().add(start).cast().read() })
}

fn close_descriptors(buffers: &mut Buffers, buffer: BufferId, length: u32) {
    let layout = buffers.layout;
    let at = layout.start(buffer.0) + layout.parts().1;
    // SAFETY: no other code uses the buffer, and the slice lies in it.
    let control = unsafe {
        let at = buffers.base().add(at as usize);
        std::slice::from_raw_parts_mut(at.as_ptr(), length.min(layout.control_capacity) as usize)
    };
    scm_rights::close_in(control);
}
