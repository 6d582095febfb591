//! The end of a ring: from any thread, with requests armed, records held and a reap asleep.
//!
//! Memory is unmapped only when the kernel is done with it. Where the caller may still enter
//! the ring, everything is cancelled and reaped. A bound ring whose owner is somebody else
//! cannot be entered: it is closed, and the kernel takes it apart by itself, which takes 30 to
//! 60 ms; the ring's end of a socket pair hangs up when it is done.

use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use crate::descriptors;
use crate::engine::{Completion, Engine, Token};
use crate::error::{Error, Result};
use crate::layout::Header;
use crate::pool::{Buffers, Pool, Pools};
use crate::request::{Form, NOT_FILLED, Request, State};
use crate::ring::{Core, Ring};

/// How long callers inside are waited for.
const CALLERS: Duration = Duration::from_secs(5);
/// How long the kernel is: its workers have been seen to take more than five seconds on two processors with a
/// load of twelve, and what it has not let go of is leaked.
const KERNEL: Duration = Duration::from_secs(15);

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
    if !ring.gate.wait_until_empty(CALLERS) {
        std::mem::forget(ring);
        return Err(Error::new(
            libc::ETIMEDOUT,
            "ring_free: a call on the ring did not return; its memory is leaked, and msghdrs must stay",
        ));
    }
    let free_for_all = ring.engine.setup().is_recvmmsg();
    let may_enter = free_for_all || (ring.gate.check_owner().is_ok() && ring.check_enabled().is_ok());
    let (engine, pools, core, watching) = ring.into_parts();
    // Dropped only below, where the kernel is known to be done with them: not by an error inside
    // the library, whose unwinding would unmap what an armed request still points to.
    let pools = ManuallyDrop::new(pools);
    let mut left = Left { engine: &engine, pools: &pools, core: ManuallyDrop::new(core), watching };
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
    let gone = engine.close(if idle { Duration::ZERO } else { KERNEL });
    if !idle && gone {
        close_descriptors_unreported(&pools, &core);
    }
    if !idle && !gone {
        return Err(Error::new(
            libc::ETIMEDOUT,
            "ring_free: the kernel did not let go of the ring; its memory is leaked, and msghdrs must stay",
        ));
    }
    drop((ManuallyDrop::into_inner(core), ManuallyDrop::into_inner(pools)));
    Ok(())
}

/// What is left of a ring while it is taken apart.
struct Left<'a> {
    engine: &'a Engine,
    pools: &'a Pools,
    core: ManuallyDrop<Core>,
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
        let deadline = Instant::now() + CALLERS;
        loop {
            self.take_completions();
            // Dropped completions would be waited for in vain: the kernel ends all with the ring.
            if self.is_idle() || self.engine.dropped() || Instant::now() > deadline {
                return self.is_idle();
            }
            self.engine.wait(1, 0, Some(Duration::from_millis(100)));
        }
    }

    /// Takes the completions that lie in the queue, and closes descriptors that came with them.
    fn take_completions(&mut self) {
        let engine = self.engine;
        for completion in engine.completions() {
            match completion.token() {
                Token::Wake => self.watching = completion.more(),
                Token::Pause(slot) => self.core.requests.get_mut(slot).state = State::Over,
                Token::Receive(slot) => self.received(slot, completion),
                Token::Cancel => {}
            }
        }
    }

    fn received(&mut self, slot: u32, completion: Completion) {
        let request = self.core.requests.get_mut(slot);
        if !completion.more() {
            request.state = State::Over;
        }
        let buffer = match request.form {
            Form::Multishot => completion.buffer(),
            Form::Once { buffer } => (completion.result >= 0).then_some(buffer),
            Form::Caller { .. } => None,
        };
        if let Some(buffer) = buffer.filter(|_| request.passes_descriptors) {
            close_descriptors_in(self.pools, request, buffer);
        }
    }
}

/// Closes the descriptors that a buffer of `request` was filled with.
fn close_descriptors_in(pools: &Pools, request: &Request, buffer: u16) {
    let Some(mut buffers) = pools.get(request.pool).and_then(Pool::lock) else { return };
    let length = match request.form {
        // SAFETY: the kernel has written the lengths back, and is done with the request.
        Form::Once { .. } => unsafe { (*request.kernel_side()).message.msg_controllen as u32 },
        _ => header_of(&buffers, buffer).control,
    };
    close_descriptors(&mut buffers, buffer, length);
}

/// Closes descriptors that came with messages whose completions were never seen: they were on
/// the overflow list, or posted while the ring was being closed. The kernel is done with the
/// ring, and every buffer it was given tells whether it was filled.
fn close_descriptors_unreported(pools: &Pools, core: &Core) {
    for (_, request) in core.requests.live().filter(|(_, request)| request.passes_descriptors) {
        // SAFETY: as said.
        let filled = unsafe { (*request.kernel_side()).message.msg_flags } != NOT_FILLED;
        match request.form {
            Form::Once { buffer } if request.state == State::Armed && filled => {
                close_descriptors_in(pools, request, buffer);
            }
            _ => {}
        }
    }
    for mut buffers in pools.iter().filter_map(Pool::lock).filter(|buffers| buffers.descriptors.is_some()) {
        let given: Vec<u16> = buffers.in_kernel().collect();
        for buffer in given {
            let length = header_of(&buffers, buffer).control;
            close_descriptors(&mut buffers, buffer, length);
        }
    }
}

fn header_of(buffers: &Buffers, buffer: u16) -> Header {
    let start = buffers.layout.start(buffer) as usize;
    // SAFETY: nobody else uses the buffer any more; its header is 16 plain bytes.
    Header::from_bytes(unsafe { buffers.base().add(start).cast().read() })
}

fn close_descriptors(buffers: &mut Buffers, buffer: u16, length: u32) {
    let layout = buffers.layout;
    let at = layout.start(buffer) + layout.parts().1;
    // SAFETY: nobody else uses the buffer any more, and the slice lies in it.
    let control = unsafe {
        let at = buffers.base().add(at as usize);
        std::slice::from_raw_parts_mut(at.as_ptr(), length.min(layout.control_capacity) as usize)
    };
    descriptors::close_all(control);
}
