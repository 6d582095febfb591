//! A trial: blocks of reaps, one arm a block, in the order `0 a b c | c b a 0`.
//!
//! The thread's CPU clock costs about as much as a reap, so it is read at the two ends of a block
//! only. A candidate is compared with the block without linger in the same half of a round, which
//! is a few milliseconds away: what drifts more slowly than that cancels out, and what drifts
//! steadily does in the other half.

use super::estimate::{ARMS, Pair};
use super::rules::Rules;
use super::traffic::Span;
use super::unit::Unit;

/// How many rounds a survey has.
const ROUNDS: u32 = 2;
/// The least number of reaps in a block, and of units of active time: of a short one and of a long
/// one.
const REAPS: f32 = 6.0;
const BRIEF: f32 = 6.0;
const LONG: f32 = 20.0;
/// How often a long block is doubled at most.
const DOUBLINGS: u32 = 3;
/// How many units at the start of a short and of a long block do not count.
const LEAD_IN: (f32, f32) = (1.0, 5.0);
/// The longest that a block waits, in units, for a pause to begin or to end with.
const PATIENCE: f32 = 120.0;
/// And no pause counts for more than this in a rate.
const PAUSE: f32 = 300.0;
/// A block is given up when less than this share of the datagrams has come that came without linger
/// in the same time, and when the difference is this many standard deviations.
const COLLAPSED: f32 = 0.5;
const DEVIATIONS: f32 = 3.0;

/// What a trial is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first trial at a rate: every arm, in short blocks.
    Survey,
    /// A later one: the arms in question, in long blocks.
    Recheck,
}

/// What the thread's clock said, and the sockets.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// CPU time of the thread that reaps.
    pub cpu_ns: u64,
    /// Datagrams that the kernel has dropped so far because the ring's sockets were full.
    pub drops: u64,
}

/// The block under way.
#[derive(Debug, Clone)]
pub struct Block {
    began_ns: u64,
    /// What came after a short lead-in, whatever the block's own is.
    filled: Span,
    /// What was counted, after its lead-in.
    pub counted: Span,
    /// Where counting began; None in the lead-in.
    from: Option<Reading>,
}

impl Block {
    const fn begin(now_ns: u64) -> Self {
        Self { began_ns: now_ns, filled: Span::NONE, counted: Span::NONE, from: None }
    }
}

/// What a finished block has shown.
#[derive(Debug, Clone, Copy)]
struct Measured {
    /// CPU time per datagram.
    price: f32,
    /// Datagrams and reaps per ns.
    rate: f32,
    reaps: f32,
    /// The share of the datagrams that was dropped.
    drops: f32,
    datagrams: f32,
}

/// How a trial goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// With another block.
    Block,
    /// Half a round is over: its pairs can be compared.
    Half,
}

/// What a reap means for the block under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The block goes on.
    GoOn,
    /// It is to be counted from here on, or it is over: the clock has to be read.
    Read,
    /// Its rate has collapsed.
    GiveUp,
}

/// A trial that is under way.
#[derive(Debug, Clone)]
pub struct Trial {
    /// What it is for.
    pub kind: Kind,
    /// When it began.
    pub began_ns: u64,
    unit: Unit,
    /// How long a long block is, in units.
    length: f32,
    rounds: u32,
    /// Of the eight in a round.
    step: usize,
    live: [bool; ARMS],
    measured: [Measured; ARMS],
    /// The block under way.
    pub block: Block,
    /// The last block ended with a pause, so the next can begin there.
    at_pause: bool,
}

impl Trial {
    /// Compares every arm, in short blocks.
    pub const fn survey(unit: Unit, now_ns: u64) -> Self {
        const NOTHING: Measured = Measured { price: 0.0, rate: 0.0, reaps: 0.0, drops: 0.0, datagrams: 0.0 };
        Self {
            kind: Kind::Survey,
            began_ns: now_ns,
            unit,
            length: LONG,
            rounds: ROUNDS,
            step: 0,
            live: [true; ARMS],
            measured: [NOTHING; ARMS],
            block: Block::begin(now_ns),
            at_pause: false,
        }
    }

    /// `doubts`: how often a recheck has left a doubt.
    pub fn recheck(live: [bool; ARMS], doubts: u32, unit: Unit, now_ns: u64) -> Self {
        let length = LONG * (1 << (doubts / 3).min(DOUBLINGS)) as f32;
        Self { kind: Kind::Recheck, length, rounds: 1, live, ..Self::survey(unit, now_ns) }
    }

    /// The arm of the block under way.
    pub fn arm(&self) -> usize {
        if self.step < ARMS { self.step } else { 2 * ARMS - 1 - self.step }
    }

    /// The candidates that are still in it.
    pub fn candidates(&self) -> impl Iterator<Item = usize> + use<> {
        let live = self.live;
        (1..ARMS).filter(move |&arm| live[arm])
    }

    /// Goes on without a candidate.
    pub fn drop_arm(&mut self, arm: usize) {
        self.live[arm] = false;
    }

    /// Takes in a reap.
    pub fn add<R: Rules>(&mut self, span: &Span, bursty: bool, now_ns: u64) -> Step {
        let bursty = bursty && R::ALIGNS_BLOCKS;
        let counting = self.block.from.is_some();
        let reap = Span { wall_ns: span.wall_ns.min(PAUSE * self.unit.ns()), ..*span };
        if counting {
            self.block.counted.extend(&reap);
        }
        if !R::LEADS_IN || self.age(now_ns) >= LEAD_IN.0 {
            self.block.filled.extend(&reap);
        }
        if R::COMPARES_RATES && !bursty && !span.pause && self.has_collapsed() {
            return Step::GiveUp;
        }
        let read =
            if counting { self.is_over(span, bursty) } else { !self.leads_in::<R>(span, bursty, now_ns) };
        if read { Step::Read } else { Step::GoOn }
    }

    /// How old the block is, in units.
    fn age(&self, now_ns: u64) -> f32 {
        now_ns.saturating_sub(self.block.began_ns) as f32 / self.unit.ns()
    }

    fn leads_in<R: Rules>(&self, span: &Span, bursty: bool, now_ns: u64) -> bool {
        let units = self.age(now_ns);
        let lead_in = if self.kind == Kind::Survey { LEAD_IN.0 } else { LEAD_IN.1 };
        R::LEADS_IN && units < lead_in || bursty && !span.pause && units < PATIENCE
    }

    fn is_over(&mut self, span: &Span, bursty: bool) -> bool {
        let counted = &self.block.counted;
        let (wall, active) = (counted.wall_ns / self.unit.ns(), counted.active_ns / self.unit.ns());
        // Whole cycles tell enough, unless there is doubt.
        let long = self.kind == Kind::Recheck && (!bursty || self.length > LONG);
        let enough = counted.reaps >= REAPS && active >= if long { self.length } else { BRIEF };
        let aligned = !bursty || span.pause || wall > self.length.max(PATIENCE);
        self.at_pause = bursty && span.pause;
        enough && aligned || active > 3.0 * self.length
    }

    /// Whether the rate has collapsed, as it does in a closed loop when the linger is long: the
    /// rest of the block would cost the peers much, and tell nothing more.
    fn has_collapsed(&self) -> bool {
        let (filled, none) = (&self.block.filled, &self.measured[0]);
        let likely = 1.0 - DEVIATIONS / (none.reaps * filled.wall_ns).sqrt();
        self.arm() != 0
            && filled.reaps >= 2.0
            && filled.datagrams < none.rate * filled.wall_ns * likely.min(COLLAPSED)
    }

    /// Leaves out the arm of the block under way, whose rate has collapsed, and those that linger
    /// longer, whose rate is no higher. Returns what that says of each.
    pub fn give_up(&mut self) -> impl Iterator<Item = Pair> + use<> {
        let (arm, long, none) = (self.arm(), self.kind == Kind::Recheck, self.measured[0]);
        let filled = &self.block.filled;
        let rate = filled.datagrams / filled.wall_ns / none.rate;
        let rate_variance = 1.0 / filled.datagrams + 1.0 / none.datagrams;
        self.live[arm..].fill(false);
        self.at_pause = false;
        (arm..ARMS).map(move |arm| Pair { arm, price: None, rate, rate_variance, drops: 0.0, long })
    }

    /// Whether the block under way is past its lead-in.
    pub fn is_counting(&self) -> bool {
        self.block.from.is_some()
    }

    /// Counts from this reading on.
    pub fn count_from(&mut self, reading: Reading) {
        self.block.from = Some(reading);
    }

    /// Ends the block under way. Returns its CPU time, of which the readings' is `own_ns`.
    pub fn end_block(&mut self, reading: Reading, own_ns: f32) -> f32 {
        let Some(from) = self.block.from else { return 0.0 };
        let Span { reaps, datagrams, wall_ns, .. } = self.block.counted;
        let cpu_ns = (reading.cpu_ns.saturating_sub(from.cpu_ns) as f32 - own_ns).max(1.0);
        let drops = reading.drops.saturating_sub(from.drops) as f32;
        self.measured[self.arm()] = Measured {
            price: cpu_ns / datagrams,
            rate: datagrams / wall_ns,
            reaps: reaps / wall_ns,
            drops: drops / (drops + datagrams),
            datagrams,
        };
        cpu_ns
    }

    /// The price of not lingering, as far as it was measured.
    pub fn price(&self) -> f32 {
        self.measured[0].price
    }

    /// The pairs of the half that is over.
    pub fn pairs(&self) -> impl Iterator<Item = Pair> + use<> {
        let (measured, long) = (self.measured, self.kind == Kind::Recheck);
        let none = measured[0];
        self.candidates().map(move |arm| {
            let Measured { price, rate, drops, datagrams, .. } = measured[arm];
            Pair {
                arm,
                price: Some(price / none.price),
                rate: rate / none.rate,
                rate_variance: 1.0 / datagrams + 1.0 / none.datagrams,
                drops: drops - none.drops,
                long,
            }
        })
    }

    /// Goes on to the next step with an arm that is live.
    pub fn advance(&mut self) -> Next {
        let first_half = self.step < ARMS;
        self.step += 1;
        self.skip();
        if self.step >= 2 * ARMS || (first_half && self.step >= ARMS) { Next::Half } else { Next::Block }
    }

    fn skip(&mut self) {
        while self.step < 2 * ARMS && !self.live[self.arm()] {
            self.step += 1;
        }
    }

    /// Begins the next block, which needs no lead-in if the last one ended with a pause. False: the
    /// trial is over.
    pub fn next_block(&mut self, now_ns: u64, reading: Option<Reading>) -> bool {
        self.skip();
        if self.step >= 2 * ARMS {
            self.rounds -= 1;
            self.step = 0;
        }
        self.block = Block::begin(now_ns);
        if self.at_pause {
            self.block.from = reading;
        }
        self.rounds > 0
    }

    /// Begins the block under way again.
    pub fn restart_block(&mut self, now_ns: u64) {
        self.block = Block::begin(now_ns);
    }
}
