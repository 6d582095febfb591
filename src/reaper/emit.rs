//! Handing out records: trains, errors, ends. And counting them.

use super::completion::read_control;
use super::pass::CompletionPass;
use crate::ids::{PoolId, Slot};
use crate::layout::Train;
use crate::record::*;
use crate::request::*;
use crate::stats::Stats;

impl CompletionPass<'_, '_> {
    /// The FINAL records that no completion brings.
    pub(super) fn make_finals(&mut self) {
        while self.out.room() > 0 {
            let Some(slot) = self.core.requests.next_final() else { break };
            self.final_record(slot, libc::ECANCELED);
        }
    }

    /// A record for an error.
    pub(super) fn fail(&mut self, slot: Slot, errno: i32, over: bool) {
        if over {
            let request = self.core.requests.get(slot);
            if request.is_multishot() && request.state() == State::Armed {
                self.disarm(slot, State::Over);
            }
            return self.final_record(slot, errno);
        }
        let record = self.error_record(slot, errno);
        self.emit(slot, &record, &Metadata::NONE);
    }

    fn final_record(&mut self, slot: Slot, errno: i32) {
        self.core.requests.set_state(slot, State::Over);
        let mut record = self.error_record(slot, errno);
        record.flags = RINGMSG_RECORD_FINAL;
        self.emit(slot, &record, &Metadata::NONE);
    }

    /// The record of a request that waited for room.
    pub(super) fn writable_record(&mut self, slot: Slot) {
        self.core.requests.set_state(slot, State::Over);
        let flags = RINGMSG_RECORD_WRITABLE | RINGMSG_RECORD_FINAL;
        let record = Record { flags, ..self.error_record(slot, 0) };
        self.emit(slot, &record, &Metadata::NONE);
    }

    fn error_record(&self, slot: Slot, errno: i32) -> Record {
        let request = self.core.requests.get(slot);
        Record {
            user_data: request.user_data,
            result: -errno,
            pool: request.target.pool().map_or(RINGMSG_POOL_NONE, |pool| pool.0),
            segments: 1,
            ..Record::default()
        }
    }

    /// Hands out the rest of a train, as far as there is room.
    #[inline]
    pub(super) fn continue_train(&mut self) {
        // Checked before it is taken: moving a train is expensive, and usually there is none.
        if self.state.train.is_some() {
            self.continue_the_train();
        }
    }

    #[inline(never)]
    fn continue_the_train(&mut self) {
        let Some(mut train) = self.state.train.take() else { return };
        // Its first part may have been reaped without metadata; a train whose control messages
        // were decoded has its segment size.
        if self.out.wants_metadata() && train.metadata.valid == 0 {
            let pool = self.pool(PoolId(train.whole.pool));
            read_control(pool, &mut train.whole, Some(&mut train.metadata));
        }
        self.hand_out(train);
    }

    /// Hands out a train's datagrams; what does not fit stays for the next reap.
    pub(super) fn hand_out(&mut self, mut train: Train) {
        let records = train.split.records;
        let fits = records.min(train.next.saturating_add(self.out.room().min(u32::MAX as usize) as u32));
        let whole = train.whole;
        let count = u64::from(fits - train.next);
        let mut counted = Stats { records: count, datagrams: count, ..Stats::default() };
        if whole.flags & RINGMSG_RECORD_CONTROL_TRUNCATED != 0 {
            counted.control_truncated = count;
        }
        // Only the last can be short, or cut, or FINAL.
        let alike = fits.min(records - 1).saturating_sub(train.next);
        if alike > 0 {
            let mut first = train.split.segment(&whole, train.next);
            first.flags &= !RINGMSG_RECORD_FINAL;
            counted.payload_bytes += u64::from(first.payload_length) * u64::from(alike);
            self.out.push_segments(&first, &train.metadata, alike as usize);
        }
        if fits == records {
            let last = train.split.segment(&whole, records - 1);
            counted.payload_bytes += u64::from(last.payload_length);
            counted.truncated = u64::from(last.flags & RINGMSG_RECORD_TRUNCATED != 0);
            self.out.push(&last, &train.metadata);
        }
        self.core.requests.get_mut(train.slot).stats.add_request(&counted);
        self.core.stats.add_request(&counted);
        train.next = fits;
        if train.next < records {
            self.state.train = Some(train);
        } else if train.whole.flags & RINGMSG_RECORD_FINAL != 0 {
            self.retire_request(train.slot);
        }
    }

    /// Hands a record to the caller, counts it, and retires the request if that was its last.
    #[inline]
    pub(super) fn emit(&mut self, slot: Slot, record: &Record, metadata: &Metadata) {
        let request = self.core.requests.get_mut(slot);
        let counted = counted(request.kind.is_connection(), record);
        request.stats.add_request(&counted);
        self.core.stats.add_request(&counted);
        self.out.push(record, metadata);
        if record.flags & RINGMSG_RECORD_FINAL != 0 {
            self.retire_request(slot);
        }
    }

    /// Frees the slot of a request whose FINAL record is handed out.
    fn retire_request(&mut self, slot: Slot) {
        let request = self.core.requests.get(slot);
        let (socket, pool) = (request.socket, request.target.pool());
        if let Some(id) = pool {
            self.pool(id).requests -= 1;
        }
        self.core.requests.free_slot(slot);
        // Room for it was made when the request was armed.
        self.core.released_sockets.push(socket);
        self.state.releases_sockets = true;
    }
}

/// What to count for a record.
fn counted(is_connection: bool, record: &Record) -> Stats {
    let mut counted = Stats { records: 1, ..Stats::default() };
    if !is_of_error_queue(record) {
        counted.payload_bytes = record.payload_length.into();
    }
    counted.datagrams =
        if is_one_datagram(record) { 1 } else { count_unusual(&mut counted, is_connection, record) };
    counted
}

/// Fast path: one complete datagram. (Those of a train are counted with their train.)
#[inline]
fn is_one_datagram(record: &Record) -> bool {
    let cut = RINGMSG_RECORD_TRUNCATED | RINGMSG_RECORD_CONTROL_TRUNCATED;
    record.result > 0 && record.segment_size == 0 && record.flags & cut == 0 && !is_of_error_queue(record)
}

/// It shows a datagram that was sent, if it has a payload at all.
#[inline]
fn is_of_error_queue(record: &Record) -> bool {
    record.msg_flags & libc::MSG_ERRQUEUE as u32 != 0
}

/// How many datagrams any other record is, which the caller adds. What else there is to count is
/// added here.
#[inline(never)]
pub(super) fn count_unusual(stats: &mut Stats, is_connection: bool, record: &Record) -> u64 {
    if record.result < 0 {
        let requested = record.result == -libc::ECANCELED && record.flags & RINGMSG_RECORD_FINAL != 0;
        stats.errors += u64::from(!requested);
        return 0;
    }
    let is_end_of_stream = is_connection && record.wire_length == 0;
    if is_end_of_stream || record.flags & RINGMSG_RECORD_WRITABLE != 0 {
        return 0;
    }
    stats.truncated += u64::from(record.flags & RINGMSG_RECORD_TRUNCATED != 0);
    stats.control_truncated += u64::from(record.flags & RINGMSG_RECORD_CONTROL_TRUNCATED != 0);
    if is_of_error_queue(record) {
        return 0;
    }
    stats.zero_length += u64::from(record.wire_length == 0);
    match record.segment_size {
        0 => 1,
        // As many as `Split` would make; of a train that was cut, the datagram that was cut counts.
        size if record.wire_length > record.payload_length => u64::from(record.payload_length / size) + 1,
        size => u64::from(record.payload_length.div_ceil(size).max(1)),
    }
}
