//! Completions in, records out. Everything here runs in the one reaper, under the core lock.

use std::mem::MaybeUninit;

use crate::engine::{Completion, Token};
use crate::pool::{Buffers, Locked, Pool};
use crate::record::*;
use crate::ring::{Core, Ring};

mod completion;
mod emit;
mod rearm;

pub(crate) use emit::Train;

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

/// One pass over the completions.
struct Pass<'a, 'o> {
    ring: &'a Ring,
    core: &'a mut Core,
    out: &'a mut Output<'o>,
    now_ns: u64,
    /// The pool of the last completion, kept locked: the next is likely of the same.
    at_hand: Option<(u16, Locked<'a>)>,
    completions: u32,
}

impl Ring {
    /// Makes records of what is there, as far as they fit, and re-arms what has ended.
    pub(crate) fn collect(&self, core: &mut Core, out: &mut Output<'_>, now_ns: u64) -> u32 {
        let attention = self.signals.take_attention();
        let mut pass = Pass { ring: self, core, out, now_ns, at_hand: None, completions: 0 };
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

    /// Arms what waits for buffers, and submits it. For a release by the thread that reaps.
    pub(crate) fn rearm_now(&self) {
        let mut core = self.core();
        let mut nowhere = Output::new(&mut [], None);
        self.signals.leave_attention();
        self.collect(&mut core, &mut nowhere, crate::wait::now_ns());
        if self.signals.wants_attention() {
            // What is left is for the reaper, who may have fallen asleep since.
            self.signals.rouse();
        }
    }
}

impl<'a> Pass<'a, '_> {
    #[inline]
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
        if self.at_hand.as_ref().is_none_or(|(at_hand, _)| *at_hand != id) {
            self.fetch_pool(id);
        }
        &mut self.at_hand.as_mut().expect("just fetched").1
    }

    fn fetch_pool(&mut self, id: u16) {
        // One lock at a time.
        self.at_hand = None;
        let ring: &'a Ring = self.ring;
        let mut pool = ring.pools.get(id).and_then(Pool::lock).expect("a pool with requests is not freed");
        if !pool.touched {
            pool.touched = true;
            self.core.touched.push(id);
        }
        self.at_hand = Some((id, pool));
    }

    /// Tops up the windows of the pools that were drawn from.
    #[inline]
    fn look_after_pools(&mut self) {
        while let Some(id) = self.core.touched.pop() {
            let now_ns = self.now_ns;
            self.pool(id).look(now_ns);
            // After the top-up: a completion that is there by now may have missed it.
            if !self.ring.engine.ready() {
                self.pool(id).is_caught_up();
            }
        }
        self.at_hand = None;
    }
}
