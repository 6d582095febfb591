//! Trials: rounds of blocks of reaps, one arm a block, in the order `0 a b c | c b a 0`.
//!
//! The thread's CPU clock costs as much as a reap, so it is read at the two ends of a block. A
//! candidate is compared with the block without linger of the same half of a round, a millisecond
//! away: what drifts more slowly than that cancels out.

use super::rules::Rules;
use super::estimate::{ARMS, Pair};
use super::traffic::Span;

/// Lengths of blocks are given in units of the longest linger, but of 0.1 ms at least and 1 ms at most.
pub const UNIT_NS: (f32, f32) = (1e5, 1e6);
/// What is left uncounted at the start of a block, in which queues fill or drain: short and long.
const LEAD_IN: [f32; 2] = [1.0, 5.0];
/// A lead-in that waits for the end of a pause, and a block that waits for one, give up after this.
const PATIENCE: f32 = 120.0;
/// A block has so many reaps and so much active time, at least.
const REAPS: f32 = 6.0;
const BRIEF: f32 = 6.0;
const LONG: f32 = 20.0;
/// In doubt, blocks are up to so many times doubled.
const DOUBLINGS: u32 = 3;
/// When a candidate's rate is so much higher, the traffic changed.
const CHANGED: f32 = 1.6;
/// No wall time counts for more than this in one reap.
const GAP: f32 = 300.0;
/// A block is given up early when so few of the datagrams have come that came without linger in the
/// same time.
const COLLAPSED: f32 = 0.5;

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
    /// What came since, and what was counted of it.
    all: Span,
    pub sum: Span,
    cpu_ns: u64,
}

impl Block {
    const fn begin(now_ns: u64) -> Self {
        const NOTHING: Span =
            Span { reaps: 0.0, clustered: 0.0, datagrams: 0.0, wall_ns: 0.0, active_ns: 0.0, pause: false };
        Self { counting: false, began_ns: now_ns, all: NOTHING, sum: NOTHING, cpu_ns: 0 }
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
    /// Reaps per ns.
    reaps: f32,
}

#[derive(Debug, Clone)]
pub struct Trial {
    pub kind: Kind,
    pub began_ns: u64,
    rounds: u32,
    step: usize,
    live: [bool; ARMS],
    measured: [Measured; ARMS],
    unit_ns: f32,
    /// Length of a long block.
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
        measured: [Measured { price: 0.0, rate: 0.0, reaps: 0.0 }; ARMS],
        unit_ns: 0.0,
        length_ns: 0.0,
        block: Block::begin(0),
        at_pause: false,
    };

    pub fn survey(rounds: u32, unit_ns: f32, now_ns: u64) -> Self {
        let block = Block::begin(now_ns);
        Self { kind: Kind::Survey, began_ns: now_ns, rounds, unit_ns, length_ns: LONG * unit_ns, block, ..Self::NONE }
    }

    pub fn recheck(live: [bool; ARMS], doubts: u32, unit_ns: f32, now_ns: u64) -> Self {
        let length_ns = unit_ns * LONG * (1 << (doubts / 3).min(DOUBLINGS)) as f32;
        Self { began_ns: now_ns, rounds: 1, live, unit_ns, length_ns, block: Block::begin(now_ns), ..Self::NONE }
    }

    /// The arm of the block under way.
    pub fn arm(&self) -> usize {
        if self.step < ARMS { self.step } else { 2 * ARMS - 1 - self.step }
    }

    /// Whether the lead-in is over with a reap that ended like this.
    pub fn leads_in<R: Rules>(&mut self, span: &Span, bursty: bool, now_ns: u64) -> bool {
        self.block.all.extend(span);
        let since = now_ns.saturating_sub(self.block.began_ns) as f32 / self.unit_ns;
        let short = R::LEAD_IN && since < LEAD_IN[usize::from(self.kind == Kind::Recheck)];
        let awaits_pause = R::ALIGNS && bursty && !span.pause && since < PATIENCE;
        short || awaits_pause
    }

    /// Counts a reap. Whether the block is over with it.
    pub fn count<R: Rules>(&mut self, span: &Span, bursty: bool) -> bool {
        let bursty = bursty && R::ALIGNS;
        let unit = self.unit_ns;
        let long = self.kind == Kind::Recheck && (!bursty || self.length_ns > LONG * unit);
        let length = if long { self.length_ns } else { BRIEF * unit };
        let sum = &mut self.block.sum;
        sum.extend(&Span { wall_ns: span.wall_ns.min(GAP * unit), ..*span });
        self.block.all.extend(span);
        let enough = sum.reaps >= REAPS && sum.active_ns >= length;
        let aligned = !bursty || span.pause || sum.wall_ns > (PATIENCE * unit).max(self.length_ns);
        if !(enough && aligned || sum.active_ns > 3.0 * self.length_ns) {
            return false;
        }
        self.at_pause = bursty && span.pause;
        true
    }

    /// Whether the rate has collapsed in this block, as it does in a closed loop when the linger is
    /// long: then the rest of it would cost much and tell nothing.
    pub fn has_collapsed<R: Rules>(&self, bursty: bool) -> bool {
        let all = &self.block.all;
        let none = &self.measured[0];
        let expected = none.rate * all.wall_ns;
        let events = none.reaps * all.wall_ns;
        R::COMPARES_RATES
            && self.arm() != 0
            && !bursty
            && !all.pause
            && all.reaps >= 2.0
            && all.datagrams < expected * (1.0 - super::knob::k(26, 3.0) / events.sqrt()).min(COLLAPSED)
    }

    /// Leaves a candidate whose rate collapsed out of the rest of the trial, and those that linger
    /// longer: their rate is no higher. What that says of each of them.
    pub fn give_up(&mut self) -> impl Iterator<Item = Pair> + use<> {
        let (arm, long, all) = (self.arm(), self.kind == Kind::Recheck, self.block.all);
        let rate = all.datagrams / all.wall_ns / self.measured[0].rate;
        self.live[arm..].fill(false);
        (arm..ARMS).map(move |arm| Pair { arm, price: None, rate, long })
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
        self.measured[arm] = Measured { price, rate, reaps: sum.reaps / sum.wall_ns.max(1.0) };
        let first_half = self.step < ARMS;
        self.step += 1;
        self.skip();
        if self.step >= 2 * ARMS || (first_half && self.step >= ARMS) { Next::Half } else { Next::Block }
    }

    /// Goes on after a block that was given up.
    pub fn after_given_up(&mut self) -> Next {
        let first_half = self.step < ARMS;
        self.at_pause = false;
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
            let Measured { price, rate, .. } = measured[arm];
            let changed = rate > CHANGED * none.rate;
            (!changed).then(|| Pair { arm, price: Some(price / none.price), rate: rate / none.rate, long })
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
