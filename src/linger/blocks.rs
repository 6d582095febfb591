//! Trials: rounds of blocks of reaps, one arm a block, in the order `0 a b c | c b a 0`.
//!
//! The thread's CPU clock costs as much as a reap, so it is read at the two ends of a block. A
//! candidate is compared with the block without linger of the same half of a round, a millisecond
//! away: what drifts more slowly than that cancels out.

use super::rules::Rules;
use super::estimate::{ARMS, Pair};
use super::traffic::Span;

const MS: f32 = 1e6;
/// What is left uncounted at the start of a block, in which queues fill or drain.
const LEAD_IN_NS: [f32; 2] = [0.1 * MS, 0.5 * MS];
/// A lead-in that waits for the end of a pause, and a block that waits for one, give up after this.
const PATIENCE_NS: f32 = 12.0 * MS;
/// A block has so many reaps and so much active time, at least.
const REAPS: f32 = 6.0;
const BRIEF_NS: f32 = 0.6 * MS;
const LONG_NS: f32 = 2.0 * MS;
/// In doubt, blocks are up to so many times doubled.
const DOUBLINGS: u32 = 3;
/// When a candidate's rate is so much higher, the traffic changed.
const CHANGED: f32 = 1.6;
/// No wall time counts for more than this in one reap.
const GAP_NS: f32 = 30.0 * MS;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first trial at a rate: every arm, in short blocks.
    Survey,
    /// A later one: the arms in question, in long blocks.
    Recheck,
}

/// One block under way.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// Past its lead-in.
    pub counting: bool,
    pub began_ns: u64,
    /// What was counted.
    pub sum: Span,
    cpu_ns: u64,
}

impl Block {
    const fn begin(now_ns: u64) -> Self {
        const NOTHING: Span =
            Span { reaps: 0.0, clustered: 0.0, datagrams: 0.0, wall_ns: 0.0, active_ns: 0.0, pause: false };
        Self { counting: false, began_ns: now_ns, sum: NOTHING, cpu_ns: 0 }
    }

    /// What was counted from here on costs.
    pub fn count_from(&mut self, cpu_ns: u64) {
        self.counting = true;
        self.cpu_ns = cpu_ns;
    }
}

/// What a finished block shows.
#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    price: f32,
    rate: f32,
}

#[derive(Debug, Clone)]
pub struct Trial {
    pub kind: Kind,
    pub began_ns: u64,
    rounds: u32,
    step: usize,
    live: [bool; ARMS],
    measured: [Measured; ARMS],
    length_ns: f32,
    pub block: Block,
    /// The last block ended with a pause.
    at_pause: bool,
}

/// How a trial goes on after a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Block,
    /// Half a round is over: its pairs can be compared.
    Half,
}

impl Trial {
    pub const NONE: Self = Self {
        kind: Kind::Recheck,
        began_ns: 0,
        rounds: 0,
        step: 0,
        live: [true; ARMS],
        measured: [Measured { price: 0.0, rate: 0.0 }; ARMS],
        length_ns: 0.0,
        block: Block::begin(0),
        at_pause: false,
    };

    pub fn survey(rounds: u32, now_ns: u64) -> Self {
        let block = Block::begin(now_ns);
        Self { kind: Kind::Survey, began_ns: now_ns, rounds, length_ns: LONG_NS, block, ..Self::NONE }
    }

    pub fn recheck(live: [bool; ARMS], doubts: u32, now_ns: u64) -> Self {
        let length_ns = LONG_NS * (1 << ((doubts as f32 / super::knob::k(9, 3.0)) as u32).min(super::knob::k(10, DOUBLINGS as f32) as u32)) as f32;
        Self { began_ns: now_ns, rounds: 1, live, length_ns, block: Block::begin(now_ns), ..Self::NONE }
    }

    /// The arm of the block under way.
    pub fn arm(&self) -> usize {
        if self.step < ARMS { self.step } else { 2 * ARMS - 1 - self.step }
    }

    /// Whether the lead-in is over with a reap that ended like this.
    pub fn leads_in<R: Rules>(&self, span: &Span, bursty: bool, now_ns: u64) -> bool {
        let since = now_ns.saturating_sub(self.block.began_ns) as f32;
        let short = R::LEAD_IN && since < LEAD_IN_NS[usize::from(self.kind == Kind::Recheck)];
        let awaits_pause = R::ALIGNS && bursty && !span.pause && since < PATIENCE_NS;
        short || awaits_pause
    }

    /// Counts a reap. Whether the block is over with it.
    pub fn count<R: Rules>(&mut self, span: &Span, bursty: bool) -> bool {
        let bursty = bursty && R::ALIGNS;
        let block = &mut self.block;
        block.sum.extend(&Span { wall_ns: span.wall_ns.min(GAP_NS), ..*span });
        let long = self.kind == Kind::Recheck && (!bursty || self.length_ns > LONG_NS);
        let length = if long { self.length_ns } else { BRIEF_NS };
        let enough = block.sum.reaps >= REAPS && block.sum.active_ns >= length && block.sum.datagrams >= if long { super::knob::k(23, 0.0) } else { super::knob::k(24, 0.0) };
        let aligned = !bursty || span.pause || block.sum.wall_ns > PATIENCE_NS.max(self.length_ns);
        if !(enough && aligned || block.sum.active_ns > 3.0 * self.length_ns) {
            return false;
        }
        self.at_pause = bursty && span.pause;
        true
    }

    /// CPU time of the block that ends with this reading.
    pub fn cpu_of_block(&self, cpu_ns: u64) -> f32 {
        cpu_ns.saturating_sub(self.block.cpu_ns) as f32
    }

    /// Ends the block.
    pub fn end_block(&mut self, price: f32) -> Next {
        let arm = self.arm();
        let sum = &self.block.sum;
        let rate = sum.datagrams / sum.wall_ns.max(1.0);
        self.measured[arm] = Measured { price, rate };
        let first_half = self.step < ARMS;
        self.step += 1;
        self.skip();
        if self.step >= 2 * ARMS || (first_half && self.step >= ARMS) { Next::Half } else { Next::Block }
    }

    pub fn rate(&self, arm: usize) -> f32 {
        self.measured[arm].rate
    }

    pub fn price(&self, arm: usize) -> f32 {
        self.measured[arm].price
    }

    /// The pairs of the half that is over.
    pub fn pairs(&self) -> impl Iterator<Item = Pair> {
        let none = self.measured[0];
        let (live, long) = (self.live, self.kind == Kind::Recheck);
        let measured = self.measured;
        (1..ARMS).filter(move |&arm| live[arm]).filter_map(move |arm| {
            let Measured { price, rate } = measured[arm];
            let changed = rate > CHANGED * none.rate;
            (!changed).then(|| Pair { arm, price: price / none.price, rate: rate / none.rate, long })
        })
    }

    /// Goes on without an arm.
    pub fn drop_arm(&mut self, arm: usize) {
        self.live[arm] = false;
    }

    pub fn is_live(&self, arm: usize) -> bool {
        self.live[arm]
    }

    pub fn has_candidates(&self) -> bool {
        self.live[1..].contains(&true)
    }

    fn skip(&mut self) {
        while self.step < 2 * ARMS && !self.live[self.arm()] {
            self.step += 1;
        }
    }

    /// Begins the next block, if there is to be one. It needs no lead-in when the last block
    /// ended with a pause; then `cpu_ns` is its start.
    pub fn next_block(&mut self, now_ns: u64, cpu_ns: u64) -> bool {
        self.skip();
        if self.step >= 2 * ARMS {
            self.rounds -= 1;
            self.step = 0;
            if self.rounds == 0 {
                return false;
            }
        }
        self.restart_block(now_ns);
        if self.at_pause {
            self.block.count_from(cpu_ns);
        }
        true
    }

    /// Begins the block under way again.
    pub fn restart_block(&mut self, now_ns: u64) {
        self.block = Block::begin(now_ns);
    }
}
