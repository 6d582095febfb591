//! What a completion means: data, an error, or a single-shot's end.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::pass::{CompletionPass, current_pool};
use crate::control;
use crate::engine::Completion;
use crate::ids::{BufferId, Generation, PoolId, Slot};
use crate::layout::{Header, Split, Train};
use crate::pool::Buffers;
use crate::record::*;
use crate::request::*;
use crate::scm_rights;

impl CompletionPass<'_, '_> {
    /// A completion that filled no published buffer.
    pub(super) fn received(&mut self, slot: Slot, completion: &Completion) {
        // A worker thread of the kernel that is cancelled in a system call reports -EINTR.
        let result = match completion.result {
            error if error == -libc::EINTR => -libc::ECANCELED,
            result => result,
        };
        self.state.since_entry = self.state.since_entry.saturating_add(1);
        match self.core.requests.get(slot).target {
            Target::Multishot { pool } => self.multishot_failed(slot, pool, result),
            Target::Once { pool, buffer } => self.once_done(slot, pool, buffer, result),
            Target::Caller { .. } => self.caller_done(slot, result),
            Target::Writable { .. } => self.polled(slot, result, completion.more()),
        }
    }

    /// `record` is a train's, or the last before the kernel ended the request.
    #[inline(never)]
    pub(super) fn train_or_last(
        &mut self,
        slot: Slot,
        mut record: Record,
        metadata: Metadata,
        split: Option<Split>,
        more: bool,
    ) {
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
    fn multishot_failed(&mut self, slot: Slot, pool_id: PoolId, result: i32) {
        let errno = -result.min(0);
        let now_ns = self.now_ns;
        let request = self.core.requests.get(slot);
        let (is_cancelled, reports_ends) = (request.is_cancelled(), request.has(RINGMSG_RECV_NO_REARM));
        // Where the kernel runs completions in another thread (SQPOLL, or another thread armed it)
        // the pool cannot always tell: buffers may have been published while -ENOBUFS was on its
        // way.
        let must_be_pools = request.kind.never_reports_enobufs();
        if errno == libc::ENOBUFS && (must_be_pools || self.pool(pool_id).is_exhausted()) {
            let defers_refill = self.engine.traits().defers_refill;
            let pool = self.pool(pool_id);
            // A release may have come before this completion was looked at.
            let refilled = pool.has_buffers();
            let waits_for_release = refilled && defers_refill && pool.prefers_release();
            let missed = waits_for_release || pool.widen_window(now_ns);
            for stats in [&mut self.core.requests.get_mut(slot).stats, &mut self.core.stats] {
                stats.window_misses += u64::from(missed);
                stats.starvations += u64::from(!missed);
            }
            if is_cancelled || reports_ends {
                return self.fail(slot, if is_cancelled { libc::ECANCELED } else { errno }, true);
            }
            if waits_for_release {
                // The next reap arms it if no release has.
                self.ring.pools_to_look_after.insert(pool_id);
                self.ring.wakeup.leave_work();
            } else {
                // Armed at the end of the pass: others may have run out too, and be first in turn.
                self.refilled |= refilled;
            }
            return self.starve(slot);
        }
        let verdict = self.core.requests.get_mut(slot).failed(errno, now_ns);
        // A cancellation that the caller did not ask for is not reported if the request is armed
        // again: the arming thread exited.
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
    fn once_done(&mut self, slot: Slot, pool_id: PoolId, buffer: BufferId, result: i32) {
        if result < 0 {
            if self.rearms_after_thread_exit(slot, -result) {
                return;
            }
            self.pool(pool_id).return_buffer(buffer);
            self.rearm_starved(pool_id);
            return self.fail(slot, -result, true);
        }
        let request = self.core.requests.get_mut(slot);
        // SAFETY: the kernel is done with the request, and has written the lengths back.
        let message = unsafe { &(*request.kernel_side()).message };
        let header: [u32; 4] =
            [message.msg_namelen, message.msg_controllen as u32, result as u32, message.msg_flags as u32];
        let pool = current_pool(&mut self.current_pool, self.ring, &mut self.state.touched, pool_id);
        let layout = pool.layout;
        // So that the buffer reads like one of a multishot.
        // SAFETY: the buffer is ours since the completion; the header is its first 16 bytes.
        unsafe { pool.base().add(layout.start(buffer.0) as usize).cast().write(header) };
        let generation = self.state.generation.next();
        self.state.generation = generation;
        let whole = (layout.parts().2 + (result as u32).min(layout.payload_capacity)) as i32;
        let deposit = Deposit { request, pool_id, buffer, result: whole, generation };
        let (mut place, mut metadata) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        let wanted = self.out.wants_metadata().then_some(&mut metadata);
        let (&mut record, metadata) = deposit.write(pool, &mut place, wanted);
        let metadata = metadata.map_or(Metadata::NONE, |metadata| *metadata);
        let split = split_of(request, &record);
        pool.hold(buffer, generation, split.map_or(1, |split| split.records));
        pool.held += 1;
        request.succeeded();
        self.train_or_last(slot, record, metadata, split, false);
    }

    /// A single-shot into the caller's msghdr is done.
    fn caller_done(&mut self, slot: Slot, result: i32) {
        if result < 0 {
            if !self.rearms_after_thread_exit(slot, -result) {
                self.fail(slot, -result, true);
            }
            return;
        }
        let request = self.core.requests.get_mut(slot);
        let Target::Caller { message, name, control, payload } = request.target else {
            unreachable!("only called for this target")
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
        self.core.requests.set_state(slot, State::Over);
        self.emit(slot, &record, &metadata);
    }

    /// A poll for room has completed. A one-shot poll completes at once while the socket has
    /// POLLERR: an entry of the error queue that nobody reads (transmit timestamps, ICMP errors)
    /// would have it armed again without end. So after that the request polls for edges: each
    /// such entry completes that poll once, and it goes on.
    fn polled(&mut self, slot: Slot, result: i32, more: bool) {
        const ROOM: i32 = (libc::POLLOUT | libc::POLLHUP) as i32;
        let request = self.core.requests.get_mut(slot);
        let has_room = result >= 0 && result & ROOM != 0;
        if more {
            // Its own result comes before a cancellation that is on its way.
            match &mut request.cancellation {
                Cancellation::Wanted(then) | Cancellation::Sent(then) if has_room => {
                    *then = Then::ReportWritable
                }
                Cancellation::None if has_room => {
                    self.ring.send_cancellation(self.core, slot, Then::ReportWritable);
                }
                _ => {}
            }
            return;
        }
        let reports = matches!(
            request.cancellation,
            Cancellation::Wanted(Then::ReportWritable) | Cancellation::Sent(Then::ReportWritable)
        );
        match result {
            _ if has_room || reports => self.writable_record(slot),
            _ if request.is_cancelled() => self.fail(slot, libc::ECANCELED, true),
            0.. => {
                request.target = Target::Writable { by_edge: true };
                self.rearm(slot);
            }
            _ if self.rearms_after_thread_exit(slot, -result) => {}
            _ => self.fail(slot, -result, true),
        }
    }

    /// Arms a single-shot again if the kernel cancelled it because the arming thread exited.
    fn rearms_after_thread_exit(&mut self, slot: Slot, errno: i32) -> bool {
        let now_ns = self.now_ns;
        let rearms = errno == libc::ECANCELED
            && self.core.requests.get_mut(slot).failed(errno, now_ns) != Verdict::End;
        if rearms {
            self.rearm(slot);
        }
        rearms
    }
}

/// Whether a request that the kernel ended with data in hand is over.
fn request_is_over(request: &Request, record: &Record) -> bool {
    let end_of_stream = request.kind.is_connection()
        && record.payload_length == 0
        && record.wire_length == 0
        && record.msg_flags & libc::MSG_ERRQUEUE as u32 == 0;
    !request.is_multishot() || request.is_cancelled() || request.has(RINGMSG_RECV_NO_REARM) || end_of_stream
}

/// How to split the record of a request, if that is asked for and it is a train.
#[inline]
pub(super) fn split_of(request: &Request, record: &Record) -> Option<Split> {
    if request.has(RINGMSG_RECV_SPLIT) { Split::of(record) } else { None }
}

/// `result` bytes that the kernel wrote into `buffer` for `request`.
#[derive(Clone, Copy)]
pub(super) struct Deposit<'r> {
    pub request: &'r Request,
    pub pool_id: PoolId,
    pub buffer: BufferId,
    pub result: i32,
    pub generation: Generation,
}

impl Deposit<'_> {
    /// Writes the record, and its metadata if there is a place for them.
    #[inline(always)]
    pub(super) fn write<'o>(
        self,
        pool: &mut Buffers,
        place: &'o mut MaybeUninit<Record>,
        mut metadata: Option<&'o mut MaybeUninit<Metadata>>,
    ) -> (&'o mut Record, Option<&'o mut Metadata>) {
        if self.write_plain::<true>(pool, place, metadata.as_deref_mut()).is_none() {
            let metadata = metadata.as_mut().map(|place| place.write(Metadata::NONE));
            place.write(self.any(pool, metadata));
        }
        // SAFETY: one of the two has written them.
        unsafe { (place.assume_init_mut(), metadata.map(|place| place.assume_init_mut())) }
    }

    /// The same for a message as most are: whole, not empty, with the row of control messages that
    /// the pool remembers, which with `TRAINS` may have a segment size. Returns how long the
    /// payload is. None, and nothing is written: this is another one.
    #[inline(always)]
    pub(super) fn write_plain<const TRAINS: bool>(
        self,
        pool: &Buffers,
        place: &mut MaybeUninit<Record>,
        metadata: Option<&mut MaybeUninit<Metadata>>,
    ) -> Option<u32> {
        let (layout, row) = (&pool.layout, &pool.row);
        let start = layout.start(self.buffer.0);
        let header = self.header(pool, start);
        if !row.has_lengths(header.name, header.control) {
            return None;
        }
        let record = layout.whole_record(start, header, self.result as u32)?;
        // SAFETY: the lengths are those of a message that was in this pool before.
        let (_, control) = unsafe { slices_of_row(pool, &record) };
        if !row.is_of(control) {
            return None;
        }
        let segment_size = if TRAINS { row.segment_size(control) } else { 0 };
        let record = place.write(self.of_request(Record { segment_size, ..record }));
        if let Some(metadata) = metadata {
            read_metadata(pool, record, metadata);
        }
        Some(record.payload_length)
    }

    /// Makes the record.
    #[inline(never)]
    fn any(self, pool: &mut Buffers, metadata: Option<&mut Metadata>) -> Record {
        let start = pool.layout.start(self.buffer.0);
        let header = self.header(pool, start);
        let mut record = self.of_request(pool.layout.record(start, header, self.result as u32));
        if self.request.passes_descriptors && record.control_length > 0 {
            move_descriptors(pool, self.buffer, &record);
        }
        read_control(pool, &mut record, metadata);
        // SAFETY: as in `read_control`.
        let (name, control) = unsafe { slices(pool.base(), &record) };
        pool.row.learn(name, control, pool.layout.room_for_control());
        record
    }

    #[inline(always)]
    fn header(&self, pool: &Buffers, start: u32) -> Header {
        // SAFETY: the buffer is ours since its completion; a header is 16 plain bytes.
        Header::from_bytes(unsafe { pool.base().add(start as usize).cast().read() })
    }

    #[inline(always)]
    fn of_request(&self, record: Record) -> Record {
        Record {
            user_data: self.request.user_data,
            pool: self.pool_id.0,
            buffer: self.buffer.0,
            generation: self.generation.0,
            ..record
        }
    }
}

/// The name and the control messages of a record.
///
/// # Safety
/// Both lie in the pool that starts at `base`, which is not unmapped meanwhile, and were written by
/// the kernel for this record, which is not handed out yet.
#[inline(always)]
unsafe fn slices<'p>(base: NonNull<u8>, record: &Record) -> (&'p [u8], &'p [u8]) {
    // SAFETY: the caller's promise.
    unsafe {
        let at = |offset: u32| base.add(offset as usize).as_ptr();
        (
            std::slice::from_raw_parts(at(record.name_offset), record.name_length as usize),
            std::slice::from_raw_parts(at(record.control_offset), record.control_length as usize),
        )
    }
}

/// The same of a record whose message has the lengths of the pool's row, with as much behind the
/// control messages as the row looks at, which is in the buffer.
///
/// # Safety
/// As above.
#[inline(always)]
unsafe fn slices_of_row<'p>(pool: &Buffers, record: &Record) -> (&'p [u8], &'p [u8]) {
    let control_length = pool.row.looks_at() as u32;
    // SAFETY: the caller's promise.
    unsafe { slices(pool.base(), &Record { control_length, ..*record }) }
}

/// Decodes the metadata of a record whose message has the pool's row.
#[inline(always)]
pub(super) fn read_metadata(pool: &Buffers, record: &Record, place: &mut MaybeUninit<Metadata>) {
    // SAFETY: the kernel wrote the message for this record, which is not handed out yet.
    let (name, control) = unsafe { slices_of_row(pool, record) };
    pool.row.decode(name, control, place.write(Metadata::NONE));
}

/// Reads the segment size, and the metadata if they are wanted; clears the padding in between,
/// whose bytes are older than the message.
#[inline]
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
fn move_descriptors(pool: &mut Buffers, buffer: BufferId, record: &Record) {
    // SAFETY: as in `read_control`; the slice is not handed out yet, so it may be written.
    let control = unsafe {
        let at = pool.base().add(record.control_offset as usize);
        std::slice::from_raw_parts_mut(at.as_ptr(), record.control_length as usize)
    };
    match &mut pool.received_fds {
        Some(received) => received.collect(buffer, control),
        None => scm_rights::close_in(control),
    }
}
