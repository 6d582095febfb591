//! Completions in, records out. Everything here runs in the one reaper, under the core lock.

use std::mem::MaybeUninit;

use crate::control;
use crate::descriptors;
use crate::engine::{Completion, Token};
use crate::layout::{Header, Split};
use crate::pool::{Buffers, Locked, Pool};
use crate::record::*;
use crate::request::*;
use crate::ring::{Core, Ring};

/// The caller's arrays, and how far they are filled.
pub(crate) struct Output<'a> {
    records: &'a mut [MaybeUninit<Record>],
    metadata: Option<&'a mut [MaybeUninit<Metadata>]>,
    filled: usize,
}

impl<'a> Output<'a> {
    /// Arrays of the same length.
    pub(crate) fn new(
        records: &'a mut [MaybeUninit<Record>],
        metadata: Option<&'a mut [MaybeUninit<Metadata>]>,
    ) -> Self {
        Self { records, metadata, filled: 0 }
    }

    #[inline]
    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.records.len() - self.filled
    }

    #[inline]
    fn wants_metadata(&self) -> bool {
        self.metadata.is_some()
    }

    #[inline]
    fn push(&mut self, record: Record, metadata: &Metadata) {
        self.records[self.filled].write(record);
        if let Some(array) = &mut self.metadata {
            array[self.filled].write(*metadata);
        }
        self.filled += 1;
    }
}

/// A train of which some datagrams are still to be handed out.
pub(crate) struct Train {
    slot: u32,
    whole: Record,
    metadata: Metadata,
    split: Split,
    next: u32,
}

const NO_METADATA: Metadata = Metadata {
    valid: 0,
    family: 0,
    source_port: 0,
    source: [0; 16],
    source_scope: 0,
    interface_index: 0,
    destination: [0; 16],
    destination_port: 0,
    traffic_class: 0,
    hop_limit: 0,
    segment_size: 0,
    dropped: 0,
    socket_error: 0,
    software_timestamp_ns: 0,
    hardware_timestamp_ns: 0,
    mark: 0,
    flow_label: 0,
    local_v4: [0; 4],
    reserved: 0,
};

/// How many pools one pass remembers to look after; beyond that it looks right away.
const POOLS_AT_HAND: usize = 8;

/// One pass over the completions.
struct Pass<'a, 'o> {
    ring: &'a Ring,
    core: &'a mut Core,
    out: &'a mut Output<'o>,
    now_ns: u64,
    /// The pool of the last completion, kept locked: the next is likely of the same.
    pool: Option<(u16, Locked<'a>)>,
    touched: [u16; POOLS_AT_HAND],
    touched_count: usize,
    completions: u32,
}

impl Ring {
    /// Makes records of what is there, as far as they fit, and re-arms what has ended.
    pub(crate) fn collect(&self, core: &mut Core, out: &mut Output<'_>, now_ns: u64) -> u32 {
        let attention = self.signals.take_attention();
        let mut pass = Pass {
            ring: self,
            core,
            out,
            now_ns,
            pool: None,
            touched: [0; POOLS_AT_HAND],
            touched_count: 0,
            completions: 0,
        };
        pass.continue_train();
        if attention {
            pass.make_finals();
            pass.rearm_starved();
        }
        while pass.out.room() > 0 {
            let Some(completion) = self.engine.pop() else { break };
            pass.take(completion);
        }
        let completions = pass.completions;
        pass.look_after_pools();
        drop(pass);
        if self.engine.queued() > 0 && self.engine.flush().is_err() {
            // The kernel is short of memory, or its queue is full: the next reap tries again.
            self.signals.leave_attention();
        }
        if core.train.is_some() || core.requests.has_finals() {
            self.signals.leave_attention();
        }
        completions
    }
}

impl<'a> Pass<'a, '_> {
    fn take(&mut self, completion: Completion) {
        match completion.token {
            Token::Receive(slot) => self.received(slot, completion),
            Token::Pause(slot) => self.paused(slot),
            Token::Wake => self.core.watching = completion.more,
            Token::Cancel => {}
        }
    }

    /// Locks the pool `id`, or finds it locked.
    #[inline]
    fn pool(&mut self, id: u16) -> &mut Buffers {
        if self.pool.as_ref().is_none_or(|(at_hand, _)| *at_hand != id) {
            self.pool = None;
            let ring: &'a Ring = self.ring;
            let locked = ring.pools.get(id).and_then(Pool::lock);
            self.pool = Some((id, locked.expect("a pool with requests is not freed")));
            self.remember(id);
        }
        &mut self.pool.as_mut().expect("just set").1
    }

    fn remember(&mut self, id: u16) {
        if self.touched[..self.touched_count].contains(&id) {
            return;
        }
        if self.touched_count == POOLS_AT_HAND {
            self.look_after_pools();
            // That dropped the pool at hand; its lock is wanted.
            self.pool =
                Some((id, self.ring.pools.get(id).and_then(Pool::lock).expect("it was there just now")));
        }
        self.touched[self.touched_count] = id;
        self.touched_count += 1;
    }

    /// Tops up the windows of the pools that were drawn from.
    #[inline]
    fn look_after_pools(&mut self) {
        let last = self.pool.take();
        if let Some((id, mut pool)) = last {
            pool.look(self.now_ns);
            if self.touched_count == 1 {
                self.touched_count = 0;
                return;
            }
            drop(pool);
            self.touched[..self.touched_count]
                .iter_mut()
                .filter(|at| **at == id)
                .for_each(|at| *at = RINGMSG_POOL_NONE);
        }
        for &id in self.touched[..self.touched_count].iter().filter(|&&id| id != RINGMSG_POOL_NONE) {
            if let Some(mut pool) = self.ring.pools.get(id).and_then(Pool::lock) {
                pool.look(self.now_ns);
            }
        }
        self.touched_count = 0;
    }

    // --- what a completion means -------------------------------------------------------------

    #[inline]
    fn received(&mut self, slot: u32, completion: Completion) {
        self.completions += 1;
        let request = self.core.requests.get(slot);
        match (request.form, completion.buffer) {
            (Form::Multishot, Some(buffer)) => {
                let pool = request.pool;
                self.pool(pool).filled();
                self.data(slot, buffer, completion.result, completion.more);
            }
            (Form::Multishot, None) => self.multishot_failed(slot, completion),
            (Form::Once { buffer }, _) => self.once_done(slot, buffer, completion.result),
            (Form::Caller { .. }, _) => self.caller_done(slot, completion.result),
        }
    }

    /// A pool buffer was filled.
    #[inline]
    fn data(&mut self, slot: u32, buffer: u16, result: i32, more: bool) {
        let pool_id = self.core.requests.get(slot).pool;
        let buffers = self.pool(pool_id);
        let layout = buffers.layout;
        let start = layout.start(buffer);
        // SAFETY: the buffer is ours since its completion; a header is 16 plain bytes.
        let header = unsafe { buffers.base().add(start as usize).cast().read() };
        let header = Header::from_bytes(header);
        let mut record = layout.record(start, header, result.max(0) as u32);
        record.pool = pool_id;
        record.buffer = buffer;

        let request = self.core.requests.get_mut(slot);
        request.succeeded();
        record.user_data = request.user_data;
        let over = if more { false } else { request_is_over(request, &record) };
        let splits = request.has(RINGMSG_RECV_SPLIT);
        if request.passes_descriptors && record.control_length > 0 {
            self.move_descriptors(buffer, &record);
        }
        let metadata = self.read_control(&mut record);
        if !more {
            self.ended(slot, over);
        }
        if over {
            record.flags |= RINGMSG_RECORD_FINAL;
        }
        self.core.generation = self.core.generation.wrapping_add(1).max(1);
        record.generation = self.core.generation;
        let split = if splits { Split::of(&record) } else { None };
        let generation = record.generation;
        self.pool(pool_id).hold(buffer, generation, split.map_or(1, |split| split.records));
        match split {
            None => self.emit(slot, record, &metadata),
            Some(split) => {
                self.core.train = Some(Train { slot, whole: record, metadata, split, next: 0 });
                self.continue_train();
            }
        }
    }

    /// Segment size, and metadata if they are wanted.
    #[inline]
    fn read_control(&mut self, record: &mut Record) -> Metadata {
        let mut metadata = NO_METADATA;
        if record.control_length == 0 && !self.out.wants_metadata() {
            return metadata;
        }
        let base = self.pool(record.pool).base();
        // SAFETY: the record's slices lie in the pool, were written by the kernel for this
        // record, and nobody else writes there until it is released.
        let (name, control) = unsafe {
            let slice = |offset: u32, length: u32| {
                std::slice::from_raw_parts(base.add(offset as usize).as_ptr(), length as usize)
            };
            (
                slice(record.name_offset, record.name_length),
                slice(record.control_offset, record.control_length),
            )
        };
        if self.out.wants_metadata() {
            control::decode_name(name, &mut metadata);
            // Only the kernel wrote there; a message it cut short ends the walk.
            let _ = control::decode(control, &mut metadata);
            record.segment_size = metadata.segment_size;
        } else {
            record.segment_size = control::segment_size(control).unwrap_or(0);
        }
        metadata
    }

    fn move_descriptors(&mut self, buffer: u16, record: &Record) {
        let buffers = self.pool(record.pool);
        // SAFETY: as in `read_control`; the slice is not handed out yet, so it may be written.
        let control = unsafe {
            let at = buffers.base().add(record.control_offset as usize);
            std::slice::from_raw_parts_mut(at.as_ptr(), record.control_length as usize)
        };
        match &mut buffers.descriptors {
            Some(descriptors) => descriptors.collect(buffer, control),
            None => descriptors::close_all(control),
        }
    }

    /// A multishot ended without filling a buffer.
    fn multishot_failed(&mut self, slot: u32, completion: Completion) {
        let errno = -completion.result.min(0);
        let now_ns = self.now_ns;
        let request = self.core.requests.get(slot);
        let (pool_id, cancelled, reports) =
            (request.pool, request.cancelled, request.has(RINGMSG_RECV_NO_REARM));
        if errno == libc::ENOBUFS && self.pool(pool_id).ran_dry() {
            let wider = self.pool(pool_id).widen(now_ns);
            let stats = &mut self.core.requests.get_mut(slot).stats;
            if wider {
                stats.window_misses += 1
            } else {
                stats.starvations += 1
            }
            return match (cancelled || reports, wider) {
                (true, _) => self.fail(slot, if cancelled { libc::ECANCELED } else { errno }, true),
                (false, true) => self.rearm(slot),
                (false, false) => self.starve(slot),
            };
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
            self.pool(pool_id).give_back(buffer);
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
        self.data(slot, buffer, (layout.parts().2 + copied) as i32, false);
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
            control_length: (message.msg_controllen as u32).min(control),
            name_length: message.msg_namelen.min(name),
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
        if message.msg_namelen > name && name > 0 {
            record.flags |= RINGMSG_RECORD_NAME_TRUNCATED;
        }
        let mut metadata = NO_METADATA;
        // SAFETY: the caller's own areas, as long as it said and as far as the kernel filled them.
        unsafe {
            if record.name_length > 0 && !message.msg_name.is_null() {
                let name = std::slice::from_raw_parts(message.msg_name.cast(), record.name_length as usize);
                control::decode_name(name, &mut metadata);
            }
            if record.control_length > 0 && !message.msg_control.is_null() {
                let control =
                    std::slice::from_raw_parts(message.msg_control.cast(), record.control_length as usize);
                let _ = control::decode(control, &mut metadata);
            }
        }
        record.segment_size = metadata.segment_size;
        self.core.requests.get_mut(slot).state = State::Over;
        self.emit(slot, record, &metadata);
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

    // --- what becomes of the request ---------------------------------------------------------

    /// The kernel ended a request with data in hand.
    fn ended(&mut self, slot: u32, over: bool) {
        match (over, self.core.requests.get(slot).is_multishot()) {
            (false, _) => self.rearm(slot),
            (true, true) => self.disarm(slot, State::Over),
            (true, false) => self.core.requests.get_mut(slot).state = State::Over,
        }
    }

    /// Arms the request again. It keeps its place in the pool.
    fn rearm(&mut self, slot: u32) {
        let request = self.core.requests.get_mut(slot);
        request.stats.rearms += 1;
        request.state = State::Armed;
        let receive = request.receive(slot, self.core.sockets.fd(request.socket));
        if self.ring.engine.receive(&receive).is_err() {
            // The queue is full and the kernel does not take it: it waits like a starved one,
            // and the next reap, which is due, tries again.
            self.starve_or_retry(slot);
        }
    }

    fn starve_or_retry(&mut self, slot: u32) {
        if self.core.requests.get(slot).is_multishot() {
            self.starve(slot);
        } else {
            self.core.requests.get_mut(slot).state = State::Starved;
        }
        self.ring.signals.leave_attention();
    }

    fn starve(&mut self, slot: u32) {
        self.disarm(slot, State::Starved);
        let id = self.core.requests.get(slot).pool;
        self.pool(id).starved += 1;
    }

    fn pause(&mut self, slot: u32) {
        self.disarm(slot, State::Paused);
        // SAFETY: only the address is taken; the request is not in the kernel.
        let pause = unsafe { &raw const (*self.core.requests.get(slot).kernel_side()).pause };
        if self.ring.engine.pause(Token::Pause(slot), pause).is_err() {
            self.core.requests.get_mut(slot).state = State::Starved;
            let id = self.core.requests.get(slot).pool;
            self.pool(id).starved += 1;
            self.ring.signals.leave_attention();
        }
    }

    fn paused(&mut self, slot: u32) {
        let request = self.core.requests.get(slot);
        let id = request.pool;
        if request.cancelled {
            return self.fail(slot, libc::ECANCELED, true);
        }
        self.pool(id).arm();
        self.rearm(slot);
    }

    /// The kernel no longer takes buffers for this multishot.
    fn disarm(&mut self, slot: u32, state: State) {
        let request = self.core.requests.get_mut(slot);
        request.state = state;
        let id = request.pool;
        self.pool(id).disarm();
    }

    /// Arms what waits for buffers, where there are some now.
    fn rearm_starved(&mut self) {
        for slot in 0..self.core.requests.slots() {
            let request = self.core.requests.get(slot);
            if request.state != State::Starved {
                continue;
            }
            if request.is_multishot() {
                let id = request.pool;
                let pool = self.pool(id);
                if !pool.has_buffers() {
                    continue;
                }
                pool.starved -= 1;
                pool.arm();
            }
            self.rearm(slot);
        }
    }

    /// The FINAL records that no completion brings.
    fn make_finals(&mut self) {
        while self.out.room() > 0 {
            let Some(slot) = self.core.requests.next_final() else { break };
            self.final_record(slot, libc::ECANCELED);
        }
    }

    // --- records -----------------------------------------------------------------------------

    /// A record for an error.
    fn fail(&mut self, slot: u32, errno: i32, over: bool) {
        if over {
            let request = self.core.requests.get(slot);
            if request.is_multishot() && request.state == State::Armed {
                self.disarm(slot, State::Over);
            }
            return self.final_record(slot, errno);
        }
        let record = self.error_record(slot, errno);
        self.emit(slot, record, &NO_METADATA);
    }

    fn final_record(&mut self, slot: u32, errno: i32) {
        self.core.requests.get_mut(slot).state = State::Over;
        let mut record = self.error_record(slot, errno);
        record.flags = RINGMSG_RECORD_FINAL;
        self.emit(slot, record, &NO_METADATA);
    }

    fn error_record(&self, slot: u32, errno: i32) -> Record {
        let request = self.core.requests.get(slot);
        Record {
            user_data: request.user_data,
            result: -errno,
            pool: request.pool().unwrap_or(RINGMSG_POOL_NONE),
            segments: 1,
            ..Record::default()
        }
    }

    /// Hands out the rest of a train, as far as there is room.
    fn continue_train(&mut self) {
        let Some(mut train) = self.core.train.take() else { return };
        while train.next < train.split.records {
            if self.out.room() == 0 {
                self.core.train = Some(train);
                return;
            }
            let mut record = train.split.segment(&train.whole, train.next);
            train.next += 1;
            if train.next < train.split.records {
                record.flags &= !RINGMSG_RECORD_FINAL;
            }
            self.emit(train.slot, record, &train.metadata);
        }
    }

    /// Hands a record to the caller, counts it, and parts with the request if that was its last.
    #[inline]
    fn emit(&mut self, slot: u32, record: Record, metadata: &Metadata) {
        count(&mut self.core.requests.get_mut(slot).stats, &record);
        let over = record.flags & RINGMSG_RECORD_FINAL != 0;
        self.out.push(record, metadata);
        if over {
            self.part_with(slot);
        }
    }

    fn part_with(&mut self, slot: u32) {
        let request = self.core.requests.get(slot);
        let (stats, socket, pool) = (request.stats, request.socket, request.pool());
        self.core.stats.add_request(&stats);
        self.core.sockets.let_go(socket);
        if let Some(id) = pool {
            self.pool(id).requests -= 1;
        }
        self.core.requests.vacate(slot);
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

#[inline]
fn count(stats: &mut crate::stats::Stats, record: &Record) {
    stats.records += 1;
    if record.result < 0 {
        let asked_for = record.result == -libc::ECANCELED && record.flags & RINGMSG_RECORD_FINAL != 0;
        stats.errors += u64::from(!asked_for);
        return;
    }
    let train = record.segment_size > 0 && record.flags & RINGMSG_RECORD_SEGMENT == 0;
    stats.datagrams += match train {
        true => u64::from(record.payload_length.div_ceil(record.segment_size).max(1)),
        false => 1,
    };
    stats.payload_bytes += u64::from(record.payload_length);
    stats.zero_length += u64::from(record.wire_length == 0);
    stats.truncated += u64::from(record.flags & RINGMSG_RECORD_TRUNCATED != 0);
    stats.control_truncated += u64::from(record.flags & RINGMSG_RECORD_CONTROL_TRUNCATED != 0);
}

impl Ring {
    /// Arms what waits for buffers, and submits it. For a release by the thread that reaps.
    pub(crate) fn rearm_now(&self) {
        let mut core = self.core();
        let mut nowhere = Output::new(&mut [], None);
        self.signals.leave_attention();
        self.collect(&mut core, &mut nowhere, crate::wait::now_ns());
    }
}
