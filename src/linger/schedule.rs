//! When the next trial is due, and what trials may cost.

use super::estimate::Estimates;
use super::rules::Rules;
use super::trial::Kind;
use super::unit::Unit;

// In units of time.
/// Until a choice is rechecked that is suspected of lowering the rate, and any other.
const SOON: u32 = 120;
const LATER: u32 = 1_000;
/// The same when the traffic has changed at the same rate.
const CHANGED: u32 = 500;
/// The longest wait while there is a doubt, and when there is none.
const DOUBTFUL: u32 = 2_000;
const LONGEST: u32 = 40_000;
/// The time after which every arm is rechecked, and not only those in question.
const EVERY_ARM: u32 = 20_000;
/// How long what was learnt at a rate is kept.
const FORGOTTEN: u32 = 300_000;

/// A trial lasts for no more than a quarter of the time.
const PAUSE_PER_TRIAL: u64 = 3;
/// The share of the CPU time that trials may cost, and how much more for each unit of a saving that
/// is at stake.
const BUDGET: f32 = 0.004;
const STAKES: f32 = 0.02;
/// The most that can be saved up, in ns.
const SAVINGS_NS: f32 = 5e6;

/// When trials at one octave of the rate are due.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// When the last one ended.
    last_ns: u64,
    next_ns: u64,
    wait_ns: u64,
    /// When one last took every arm.
    every_arm_ns: u64,
    /// How often one was due because of a doubt.
    doubts: u32,
}

impl Schedule {
    /// There was no trial yet.
    pub const NONE: Self = Self { last_ns: 0, next_ns: 0, wait_ns: 0, every_arm_ns: 0, doubts: 0 };

    /// A survey begins.
    pub fn begin(now_ns: u64) -> Self {
        Self { every_arm_ns: now_ns, ..Self::NONE }
    }

    /// Whether a trial is due.
    pub fn is_due(&self, now_ns: u64) -> bool {
        now_ns > self.next_ns
    }

    /// Whether what was learnt is too old.
    pub fn is_forgotten(&self, unit: Unit, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.last_ns) > unit.times(FORGOTTEN)
    }

    /// Whether a recheck that begins now takes every arm.
    pub fn takes_every_arm(&mut self, unit: Unit, now_ns: u64) -> bool {
        let every = now_ns.saturating_sub(self.every_arm_ns) >= unit.times(EVERY_ARM);
        if every {
            self.every_arm_ns = now_ns;
        }
        every
    }

    /// A recheck begins because of a doubt. Returns how many did before.
    pub fn doubt(&mut self) -> u32 {
        self.doubts += 1;
        self.doubts - 1
    }

    /// The traffic is at this rate again: no trial at once.
    pub fn come_back(&mut self, unit: Unit, now_ns: u64) {
        self.next_ns = self.next_ns.max(now_ns + unit.times(SOON));
    }

    /// The rate has changed a little.
    pub fn bring_forward(&mut self, unit: Unit, now_ns: u64) {
        self.next_ns = self.next_ns.min(now_ns + unit.times(LATER));
    }

    /// The traffic has changed at the same rate.
    pub fn change(&mut self, unit: Unit, now_ns: u64) {
        self.wait_ns = unit.times(CHANGED);
        self.next_ns = now_ns;
    }

    /// A trial is over that began at `began_ns`, and has changed the choice or not.
    pub fn end<R: Rules>(
        &mut self,
        (kind, began_ns): (Kind, u64),
        estimates: &Estimates,
        changed: bool,
        unit: Unit,
        now_ns: u64,
    ) {
        let doubt = estimates.candidate::<R>().is_some();
        let longest = unit.times(if doubt { DOUBTFUL } else { LONGEST });
        self.wait_ns = match kind {
            _ if estimates.is_suspect() => unit.times(SOON),
            Kind::Survey => unit.times(LATER),
            Kind::Recheck if changed => self.wait_ns.min(longest),
            Kind::Recheck if doubt => (self.wait_ns * 7 / 5).min(longest),
            Kind::Recheck => (self.wait_ns * 2).min(longest),
        };
        self.last_ns = now_ns;
        self.next_ns = now_ns + self.wait_ns.max(PAUSE_PER_TRIAL * now_ns.saturating_sub(began_ns));
    }
}

/// What trials have cost and what was put by for them, in CPU time.
#[derive(Debug, Clone)]
pub struct Budget {
    debt_ns: f32,
    /// The price per datagram with the choice in use.
    price: f32,
}

impl Budget {
    /// Nothing was put by, and nothing is owed.
    pub const NEW: Self = Self { debt_ns: 0.0, price: 0.0 };

    /// A datagram costs this much with the choice in use.
    pub fn set_price(&mut self, price: f32) {
        self.price = price;
    }

    /// Puts by a share of what `datagrams` have cost.
    pub fn save(&mut self, datagrams: f32, stakes: f32) {
        self.debt_ns -= (BUDGET + STAKES * stakes) * self.price * datagrams;
        self.debt_ns = self.debt_ns.max(-SAVINGS_NS);
    }

    /// A block has cost this much, and its readings.
    pub fn charge(&mut self, datagrams: f32, cpu_ns: f32, readings_ns: f32) {
        if self.price > 0.0 {
            self.debt_ns += (cpu_ns - self.price * datagrams).max(0.0);
        }
        self.debt_ns += readings_ns;
    }

    /// What is owed is forgiven: the trials had to be.
    pub fn forgive(&mut self) {
        self.debt_ns = self.debt_ns.min(0.0);
    }

    /// Whether another trial may begin.
    pub fn is_paid(&self) -> bool {
        self.debt_ns <= 0.0
    }
}
