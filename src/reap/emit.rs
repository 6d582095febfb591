//! Handing out records: trains one by one, errors, ends; and counting them.

use super::Pass;
use super::completion::read_control;
use crate::layout::Train;
use crate::record::*;
use crate::request::*;

impl Pass<'_, '_> {
    /// The FINAL records that no completion brings.
    pub(super) fn make_finals(&mut self) {
        while self.out.room() > 0 {
            let Some(slot) = self.core.requests.next_final() else { break };
            self.final_record(slot, libc::ECANCELED);
        }
    }

    /// A record for an error.
    pub(super) fn fail(&mut self, slot: u32, errno: i32, over: bool) {
        if over {
            let request = self.core.requests.get(slot);
            if request.is_multishot() && request.state == State::Armed {
                self.disarm(slot, State::Over);
            }
            return self.final_record(slot, errno);
        }
        let record = self.error_record(slot, errno);
        self.emit(slot, &record, &Metadata::NONE);
    }

    pub(super) fn final_record(&mut self, slot: u32, errno: i32) {
        self.core.requests.get_mut(slot).state = State::Over;
        let mut record = self.error_record(slot, errno);
        record.flags = RINGMSG_RECORD_FINAL;
        self.emit(slot, &record, &Metadata::NONE);
    }

    pub(super) fn error_record(&self, slot: u32, errno: i32) -> Record {
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
    #[inline]
    pub(super) fn continue_train(&mut self) {
        // Looked at before it is taken: a train is long, and mostly there is none.
        if self.core.train.is_some() {
            self.continue_the_train();
        }
    }

    #[inline(never)]
    fn continue_the_train(&mut self) {
        let Some(mut train) = self.core.train.take() else { return };
        // Its first part may have been reaped without metadata; a train that was decoded has
        // its size.
        if self.out.wants_metadata() && train.metadata.valid == 0 {
            let pool = self.pool(train.whole.pool);
            read_control(pool, &mut train.whole, Some(&mut train.metadata));
        }
        self.hand_out(train);
    }

    /// Hands out a train's datagrams; what does not fit stays for the next reap.
    pub(super) fn hand_out(&mut self, mut train: Train) {
        let records = train.split.records;
        let fits = records.min(train.next.saturating_add(self.out.room().min(u32::MAX as usize) as u32));
        let stats = &mut self.core.requests.get_mut(train.slot).stats;
        let whole = train.whole;
        stats.records += u64::from(fits - train.next);
        stats.datagrams += u64::from(fits - train.next);
        if whole.flags & RINGMSG_RECORD_CONTROL_TRUNCATED != 0 {
            stats.control_truncated += u64::from(fits - train.next);
        }
        // Only the last can be short, or cut, or FINAL.
        let alike = fits.min(records - 1).saturating_sub(train.next);
        if alike > 0 {
            let mut first = train.split.segment(&whole, train.next);
            first.flags &= !RINGMSG_RECORD_FINAL;
            stats.payload_bytes += u64::from(first.payload_length) * u64::from(alike);
            self.out.push_segments(&first, &train.metadata, alike as usize);
        }
        if fits == records {
            let last = train.split.segment(&whole, records - 1);
            stats.payload_bytes += u64::from(last.payload_length);
            stats.truncated += u64::from(last.flags & RINGMSG_RECORD_TRUNCATED != 0);
            self.out.push(&last, &train.metadata);
        }
        train.next = fits;
        if train.next < records {
            self.core.train = Some(train);
        } else if train.whole.flags & RINGMSG_RECORD_FINAL != 0 {
            self.part_with(train.slot);
        }
    }

    /// Hands a record to the caller, counts it, and parts with the request if that was its last.
    #[inline]
    pub(super) fn emit(&mut self, slot: u32, record: &Record, metadata: &Metadata) {
        count(self.core.requests.get_mut(slot), record);
        let over = record.flags & RINGMSG_RECORD_FINAL != 0;
        self.out.push(record, metadata);
        if over {
            self.part_with(slot);
        }
    }

    pub(super) fn part_with(&mut self, slot: u32) {
        let request = self.core.requests.get(slot);
        let (stats, socket, pool) = (request.stats, request.socket, request.pool());
        self.core.stats.add_request(&stats);
        self.core.sockets.let_go(socket, |fd| self.ring.engine.forget(fd));
        if let Some(id) = pool {
            self.pool(id).requests -= 1;
        }
        self.core.requests.vacate(slot);
    }
}

#[inline]
pub(super) fn count(request: &mut Request, record: &Record) {
    let datagrams = if is_one_datagram(record) { 1 } else { count_unusual(request, record) };
    request.stats.records += 1;
    request.stats.datagrams += datagrams;
    request.stats.payload_bytes += u64::from(record.payload_length);
}

/// Nearly every record is one datagram, all of it. (Not one out of a train: those are counted with
/// their train.)
#[inline]
pub(super) fn is_one_datagram(record: &Record) -> bool {
    let cut = RINGMSG_RECORD_TRUNCATED | RINGMSG_RECORD_CONTROL_TRUNCATED;
    record.result > 0 && record.segment_size == 0 && record.flags & cut == 0
}

/// How many datagrams another record is, which the caller adds. What else there is to count is
/// added here.
#[inline(never)]
pub(super) fn count_unusual(request: &mut Request, record: &Record) -> u64 {
    let is_end_of_stream = request.kind.is_connection() && record.wire_length == 0;
    let stats = &mut request.stats;
    if record.result < 0 {
        let asked_for = record.result == -libc::ECANCELED && record.flags & RINGMSG_RECORD_FINAL != 0;
        stats.errors += u64::from(!asked_for);
        return 0;
    }
    if is_end_of_stream {
        return 0;
    }
    stats.zero_length += u64::from(record.wire_length == 0);
    stats.truncated += u64::from(record.flags & RINGMSG_RECORD_TRUNCATED != 0);
    stats.control_truncated += u64::from(record.flags & RINGMSG_RECORD_CONTROL_TRUNCATED != 0);
    match record.segment_size {
        0 => 1,
        // As many as `Split` would make: of a train that was cut, the one that was cut, too.
        size if record.wire_length > record.payload_length => u64::from(record.payload_length / size) + 1,
        size => u64::from(record.payload_length.div_ceil(size).max(1)),
    }
}
