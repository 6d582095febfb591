//! The end of a ring: from any thread, with requests armed, records held and a reap asleep.
//!
//! Memory is unmapped only when the kernel is done with it. Where the caller may still enter
//! the ring, everything is cancelled and reaped. A bound ring whose owner is somebody else
//! cannot be entered: it is closed, and the kernel takes it apart by itself, which takes 30 to
//! 60 ms; the ring's end of a socket pair hangs up when it is done.

use std::time::{Duration, Instant};

use crate::descriptors;
use crate::engine::{Token, uring::Uring};
use crate::error::{Error, Result};
use crate::layout::Header;
use crate::pool::{Pool, Pools};
use crate::request::{Form, State};
use crate::ring::{Core, Ring};

/// How long callers inside, and the kernel, are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Frees the ring. On -ETIMEDOUT what the kernel may still write to is leaked, on purpose.
pub(crate) fn free(ring: Box<Ring>) -> Result<()> {
    if ring.gate.is_foreign() {
        // A forked child: descriptors are closed, mappings were never there.
        let (engine, pools, core) = ring.into_parts();
        drop((core, pools));
        drop(engine);
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
    let (engine, pools, mut core) = ring.into_parts();
    let quiet = if may_enter { drain(&engine, &pools, &mut core) } else { false };
    pools.close_descriptors_left(&engine, &mut core);
    if quiet {
        for pool in pools.iter() {
            // Fails only if it is not registered: then there is nothing to undo.
            let _ = engine.unregister_pool(pool.id());
        }
    }
    let idle = quiet || core.requests.in_kernel() == 0 && !core.watching;
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

/// Cancels everything and reaps until the kernel has nothing left. False: it did not get there.
fn drain(engine: &Uring, pools: &Pools, core: &mut Core) -> bool {
    if core.requests.in_kernel() == 0 && !core.watching {
        return true;
    }
    if engine.cancel_all().and_then(|()| engine.flush()).is_err() {
        return false;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        pools.close_descriptors_left(engine, core);
        if core.requests.in_kernel() == 0 && !core.watching {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        engine.wait(1, 0, Some(Duration::from_millis(100)));
    }
}

impl Pools {
    /// Takes the completions that lie in the queue, and closes descriptors that came with them.
    fn close_descriptors_left(&self, engine: &Uring, core: &mut Core) {
        while let Some(completion) = engine.pop() {
            match completion.token {
                Token::Wake => core.watching = completion.more,
                Token::Pause(slot) => core.requests.get_mut(slot).state = State::Over,
                Token::Cancel => {}
                Token::Receive(slot) => {
                    let request = core.requests.get_mut(slot);
                    if !completion.more {
                        request.state = State::Over;
                    }
                    let buffer = match (request.form, completion.buffer) {
                        (Form::Multishot, buffer) => buffer,
                        (Form::Once { buffer }, _) if completion.result >= 0 => Some(buffer),
                        _ => None,
                    };
                    if let Some(buffer) = buffer.filter(|_| request.passes_descriptors) {
                        self.close_descriptors_in(request.pool, buffer, request.kernel_side());
                    }
                }
            }
        }
    }

    fn close_descriptors_in(&self, pool: u16, buffer: u16, once: *mut crate::request::KernelSide) {
        let Some(buffers) = self.get(pool).and_then(Pool::lock) else { return };
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
