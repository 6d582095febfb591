//! What a completion means: data, an error, or a single-shot's end.

use std::mem::MaybeUninit;

use super::{Pass, at_hand};
use crate::control;
use crate::descriptors;
use crate::layout::{Header, Split, Train};
use crate::pool::Buffers;
use crate::record::*;
use crate::request::*;

impl Pass<'_, '_> {
    /// A completion that filled no published buffer.
    pub(super) fn received(&mut self, slot: u32, result: i32) {
        self.completions += 1;
        match self.core.requests.get(slot).form {
            Form::Multishot => self.multishot_failed(slot, result),
            Form::Once { buffer } => self.once_done(slot, buffer, result),
            Form::Caller { .. } => self.caller_done(slot, result),
        }
    }

    /// The record that was just begun is a train's, or the last before the kernel ended the request.
    #[inline(never)]
    pub(super) fn train_or_last(&mut self, slot: u32, split: Option<Split>, more: bool) {
        // SAFETY: the callers wrote it.
        let (mut record, metadata) = unsafe { self.out.begun() };
        let over = !more && request_is_over(self.core.requests.get(slot), &record);
        if over {
            record.flags |= RINGMSG_RECORD_FINAL;
        }
        if !more {
            self.ended(slot, over);
        }
        match split {
            Some(split) => self.hand_out(Train { slot, whole: record, metadata, split, next: 0 }),
            None => self.emit(slot, &record, &metadata),
        }
    }

    /// A multishot ended without filling a buffer.
    fn multishot_failed(&mut self, slot: u32, result: i32) {
        let errno = -result.min(0);
        let now_ns = self.now_ns;
        let request = self.core.requests.get(slot);
        let (pool_id, cancelled, reports) =
            (request.pool, request.cancelled, request.has(RINGMSG_RECV_NO_REARM));
        // Where the kernel runs completions in another thread (SQPOLL, or another armed it) the
        // pool cannot always tell: buffers may have been published while -ENOBUFS was on its way.
        let pools_own = request.kind.never_lacks_buffers();
        if errno == libc::ENOBUFS && (pools_own || self.pool(pool_id).ran_dry()) {
            let missed = self.pool(pool_id).widen(now_ns);
            // A release may have come before this completion was looked at.
            let refilled = self.pool(pool_id).has_buffers();
            let stats = &mut self.core.requests.get_mut(slot).stats;
            if missed {
                stats.window_misses += 1
            } else {
                stats.starvations += 1
            }
            if cancelled || reports {
                return self.fail(slot, if cancelled { libc::ECANCELED } else { errno }, true);
            }
            // Not armed at once: others may have run out too, and one of them may be first in turn.
            self.refilled |= refilled;
            return self.starve(slot);
        }
        let verdict = self.core.requests.get_mut(slot).failed(errno, now_ns);
        // A cancellation nobody asked for is nobody's business, as long as it is undone.
        if verdict == Verdict::End || errno != libc::ECANCELED {
            self.fail(slot, errno, verdict == Verdict::End);
        }
        match verdict {
            Verdict::Rearm => self.rearm(slot),
            Verdict::Pause => self.pause(slot),
            Verdict::End => {}
        }
    }

    /// A single-shot into a pool buffer is done.
    fn once_done(&mut self, slot: u32, buffer: u16, result: i32) {
        if result < 0 {
            if self.rearms_unasked(slot, -result) {
                return;
            }
            let pool_id = self.core.requests.get(slot).pool;
            let buffers = self.pool(pool_id);
            buffers.give_back(buffer);
            if buffers.starved > 0 {
                self.rearm_starved();
            }
            return self.fail(slot, -result, true);
        }
        let request = self.core.requests.get(slot);
        let pool_id = request.pool;
        // SAFETY: the kernel is done with the request, and has written the lengths back.
        let message = unsafe { &(*request.kernel_side()).message };
        let header: [u32; 4] =
            [message.msg_namelen, message.msg_controllen as u32, result as u32, message.msg_flags as u32];
        let buffers = self.pool(pool_id);
        let layout = buffers.layout;
        // So that the buffer reads like one of a multishot.
        // SAFETY: the buffer is ours since the completion; the header is its first 16 bytes.
        unsafe { buffers.base().add(layout.start(buffer) as usize).cast().write(header) };
        let copied = (result as u32).min(layout.payload_capacity);
        let core = &mut *self.core;
        let request = core.requests.get_mut(slot);
        let pool = at_hand(&mut self.at_hand, self.ring, &mut core.touched, pool_id);
        core.generation = next(core.generation);
        let Some(place) = self.out.places().next() else { unreachable!("there is room for the record") };
        let whole = (layout.parts().2 + copied) as i32;
        let record = deposit(place, pool, request, buffer, whole, core.generation);
        let split = split_of(request, record);
        pool.hold(buffer, core.generation, split.map_or(1, |split| split.records));
        request.succeeded();
        self.train_or_last(slot, split, false);
    }

    /// A single-shot into the caller's msghdr is done.
    fn caller_done(&mut self, slot: u32, result: i32) {
        if result < 0 {
            if !self.rearms_unasked(slot, -result) {
                self.fail(slot, -result, true);
            }
            return;
        }
        let request = self.core.requests.get_mut(slot);
        let Form::Caller { message, name, control, payload } = request.form else {
            unreachable!("only called for this form")
        };
        request.succeeded();
        // SAFETY: the caller keeps its msghdr until this record is handed out.
        let message = unsafe { &*message };
        let mut record = Record {
            user_data: request.user_data,
            result,
            flags: RINGMSG_RECORD_FINAL,
            payload_length: (result as u32).min(payload),
            control_length: (message.msg_controllen as u32).min(control.length),
            name_length: message.msg_namelen.min(name.length),
            wire_length: result as u32,
            msg_flags: message.msg_flags as u32,
            pool: RINGMSG_POOL_NONE,
            segments: 1,
            ..Record::default()
        };
        for (flag, meaning) in [
            (libc::MSG_TRUNC, RINGMSG_RECORD_TRUNCATED),
            (libc::MSG_CTRUNC, RINGMSG_RECORD_CONTROL_TRUNCATED),
        ] {
            if message.msg_flags & flag != 0 {
                record.flags |= meaning;
            }
        }
        if message.msg_namelen > name.length && name.length > 0 {
            record.flags |= RINGMSG_RECORD_NAME_TRUNCATED;
        }
        let mut metadata = Metadata::NONE;
        // SAFETY: the caller keeps its areas until this record is handed out.
        unsafe {
            control::decode_name(name.filled(record.name_length), &mut metadata);
            let _ = control::decode(control.filled(record.control_length), &mut metadata);
        }
        record.segment_size = metadata.segment_size;
        self.core.requests.get_mut(slot).state = State::Over;
        self.emit(slot, &record, &metadata);
    }

    /// The thread that armed a single-shot exited, and the kernel cancelled it: again, then.
    fn rearms_unasked(&mut self, slot: u32, errno: i32) -> bool {
        let now_ns = self.now_ns;
        let unasked = errno == libc::ECANCELED
            && self.core.requests.get_mut(slot).failed(errno, now_ns) != Verdict::End;
        if unasked {
            self.rearm(slot);
        }
        unasked
    }
}

/// Whether a request that the kernel ended with data in hand is over.
fn request_is_over(request: &Request, record: &Record) -> bool {
    let end_of_stream = request.kind.is_connection()
        && record.payload_length == 0
        && record.wire_length == 0
        && record.msg_flags & libc::MSG_ERRQUEUE as u32 == 0;
    !request.is_multishot() || request.cancelled || request.has(RINGMSG_RECV_NO_REARM) || end_of_stream
}

/// How to split the record of a request, if that is asked for and it is a train.
#[inline]
pub(super) fn split_of(request: &Request, record: &Record) -> Option<Split> {
    if request.has(RINGMSG_RECV_SPLIT) { Split::of(record) } else { None }
}

/// The generation after this one. 0 is none.
#[inline]
pub(super) fn next(generation: u32) -> u32 {
    generation.wrapping_add(1).max(1)
}

/// Makes the record of the `result` bytes that the kernel wrote into `buffer`.
#[inline(always)]
pub(super) fn deposit<'o>(
    (place, metadata): (&'o mut MaybeUninit<Record>, Option<&mut Metadata>),
    pool: &mut Buffers,
    request: &Request,
    buffer: u16,
    result: i32,
    generation: u32,
) -> &'o mut Record {
    let start = pool.layout.start(buffer);
    // SAFETY: the buffer is ours since its completion; a header is 16 plain bytes.
    let header = unsafe { pool.base().add(start as usize).cast().read() };
    let record = place.write(Record {
        user_data: request.user_data,
        pool: request.pool,
        buffer,
        generation,
        ..pool.layout.record(start, Header::from_bytes(header), result as u32)
    });
    if request.passes_descriptors && record.control_length > 0 {
        move_descriptors(pool, buffer, record);
    }
    read_control(pool, record, metadata);
    record
}

/// Reads the segment size, and the metadata if they are wanted; clears what is stale in between.
#[inline(always)]
pub(super) fn read_control(pool: &Buffers, record: &mut Record, metadata: Option<&mut Metadata>) {
    // SAFETY: the record's slices lie in the pool, were written by the kernel for this record, do
    // not overlap, and are not handed out yet.
    let (name, control) = unsafe {
        let at = |offset: u32| pool.base().add(offset as usize).as_ptr();
        (
            std::slice::from_raw_parts(at(record.name_offset), record.name_length as usize),
            std::slice::from_raw_parts_mut(at(record.control_offset), record.control_length as usize),
        )
    };
    record.segment_size = control::read_message(name, control, metadata);
}

#[inline(never)]
fn move_descriptors(pool: &mut Buffers, buffer: u16, record: &Record) {
    // SAFETY: as in `read_control`; the slice is not handed out yet, so it may be written.
    let control = unsafe {
        let at = pool.base().add(record.control_offset as usize);
        std::slice::from_raw_parts_mut(at.as_ptr(), record.control_length as usize)
    };
    match &mut pool.descriptors {
        Some(descriptors) => descriptors.collect(buffer, control),
        None => descriptors::close_all(control),
    }
}
