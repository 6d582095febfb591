//! The end of a ring: from any thread, with requests armed, records held and a reap asleep.
//!
//! Memory is unmapped only when the kernel is done with it. Where the caller may still enter
//! the ring, everything is cancelled and reaped. A bound ring whose owner is somebody else
//! cannot be entered: it is closed, and the kernel takes it apart by itself, which takes 30 to
//! 60 ms; the ring's end of a socket pair hangs up when it is done.

use std::time::{Duration, Instant};

use crate::descriptors;
use crate::engine::{Completion, Token, uring::Uring};
use crate::error::{Error, Result};
use crate::layout::Header;
use crate::pool::{Pool, Pools};
use crate::request::{Form, KernelSide, State};
use crate::ring::{Core, Ring};

/// How long callers inside, and the kernel, are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Frees the ring. On -ETIMEDOUT what the kernel may still write to is leaked, on purpose.
pub(crate) fn free(ring: Box<Ring>) -> Result<()> {
    if ring.gate.is_foreign() {
        // A forked child: descriptors are closed, mappings were never there. What a thread of
        // the parent was changing at that moment is in no state to be taken apart.
        if ring.is_being_changed() {
            std::mem::forget(ring);
        }
        return Ok(());
    }
    ring.gate.close();
    ring.signals.wake();
    if !ring.gate.wait_until_empty(PATIENCE) {
        std::mem::forget(ring);
        return Err(Error::new(
            libc::ETIMEDOUT,
            "ring_free: a call on the ring did not return; its memory is leaked, and msghdrs must stay",
        ));
    }
    let may_enter = ring.gate.check_owner().is_ok() && ring.check_enabled().is_ok();
    let (engine, pools, core, watching) = ring.into_parts();
    let mut left = Left { engine: &engine, pools: &pools, core, watching };
    let quiet = may_enter && left.drain();
    left.take_completions();
    if quiet {
        for pool in pools.iter() {
            // Fails only if it is not registered: then there is nothing to undo.
            let _ = engine.unregister_pool(pool.id());
        }
    }
    let idle = left.is_idle();
    let core = left.core;
    let gone = engine.close(if idle { Duration::ZERO } else { PATIENCE });
    if !idle && !gone {
        pools.leak();
        std::mem::forget((pools, core));
        return Err(Error::new(
            libc::ETIMEDOUT,
            "ring_free: the kernel did not let go of the ring; its memory is leaked, and msghdrs must stay",
        ));
    }
    Ok(())
}

/// What is left of a ring while it is taken apart.
struct Left<'a> {
    engine: &'a Uring,
    pools: &'a Pools,
    core: Core,
    watching: bool,
}

impl Left<'_> {
    /// The kernel has nothing of ours in hand.
    fn is_idle(&self) -> bool {
        self.core.requests.in_kernel() == 0 && !self.watching
    }

    /// Cancels everything and reaps until the kernel has nothing left. False: it did not get
    /// there.
    fn drain(&mut self) -> bool {
        if self.is_idle() {
            return true;
        }
        if self.engine.cancel_all().and_then(|()| self.engine.flush()).is_err() {
            return false;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.take_completions();
            if self.is_idle() || Instant::now() > deadline {
                return self.is_idle();
            }
            self.engine.wait(1, 0, Some(Duration::from_millis(100)));
        }
    }

    /// Takes the completions that lie in the queue, and closes descriptors that came with them.
    fn take_completions(&mut self) {
        let engine = self.engine;
        for completion in engine.completions() {
            match completion.token {
                Token::Wake => self.watching = completion.more,
                Token::Pause(slot) => self.core.requests.get_mut(slot).state = State::Over,
                Token::Receive(slot) => self.received(slot, completion),
                Token::Cancel => {}
            }
        }
    }

    fn received(&mut self, slot: u32, completion: Completion) {
        let request = self.core.requests.get_mut(slot);
        if !completion.more {
            request.state = State::Over;
        }
        let buffer = match request.form {
            Form::Multishot => completion.buffer,
            Form::Once { buffer } => (completion.result >= 0).then_some(buffer),
            Form::Caller { .. } => None,
        };
        if let Some(buffer) = buffer.filter(|_| request.passes_descriptors) {
            let (pool, side) = (request.pool, request.kernel_side());
            self.close_descriptors_in(pool, buffer, side);
        }
    }

    fn close_descriptors_in(&self, pool: u16, buffer: u16, once: *mut KernelSide) {
        let Some(buffers) = self.pools.get(pool).and_then(Pool::lock) else { return };
        let layout = buffers.layout;
        let start = layout.start(buffer);
        // SAFETY: the buffer was filled, so it is ours; its header is 16 plain bytes. For a
        // single-shot the lengths are in its own msghdr, which the kernel is done with.
        let control = unsafe {
            let written = (*once).message.msg_controllen as u32;
            let is_once = !(*once).message.msg_iov.is_null();
            let header = Header::from_bytes(buffers.base().add(start as usize).cast().read());
            let length = if is_once { written } else { header.control }.min(layout.control_capacity);
            let at = buffers.base().add((start + layout.parts().1) as usize);
            std::slice::from_raw_parts_mut(at.as_ptr(), length as usize)
        };
        descriptors::close_all(control);
    }
}
