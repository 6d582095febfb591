//! What the traffic is like: its rate, whether datagrams come close together, and whether there are
//! pauses between them.

use super::unit::Unit;

/// Over how many units the rate is averaged, and the quicker average that follows a change.
const RATE: f32 = 500.0;
const QUICK_RATE: f32 = 40.0;
/// Over how many units pauses are counted, and how many make the traffic bursty.
const PAUSES: f32 = 250.0;
const BURSTY: f32 = 1.2;
/// Over how many reaps the share of clustered ones is averaged.
const REAPS: f32 = 64.0;
/// The least share of clustered reaps with which lingering can save anything.
const CLUSTERED: f32 = 0.04;
/// With fewer datagrams within the bound than this lingering saves nothing, and with fewer per
/// second than the one, or than the other where the bound is long, it saves too little to matter.
const WITHIN_BOUND: f32 = 0.1;
const PER_SECOND: (f32, f32) = (100.0, 1000.0);
/// It takes this much more of both to begin to linger than to go on.
const TO_BEGIN: (f32, f32) = (3.0, 2.0);

/// Reaps that follow one another.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// How many.
    pub reaps: f32,
    /// Reaps of several datagrams, or soon after the reap before.
    pub clustered: f32,
    /// What they brought.
    pub datagrams: f32,
    /// From the end of the reap before them to the end of the last.
    pub wall_ns: f32,
    /// `wall_ns` without what pauses have beyond the time that makes a pause.
    pub active_ns: f32,
    /// The last reap ended a pause.
    pub pause: bool,
}

impl Span {
    /// No reaps.
    pub const NONE: Self =
        Self { reaps: 0.0, clustered: 0.0, datagrams: 0.0, wall_ns: 0.0, active_ns: 0.0, pause: false };

    /// Appends a span that follows.
    pub fn extend(&mut self, next: &Span) {
        self.reaps += next.reaps;
        self.clustered += next.clustered;
        self.datagrams += next.datagrams;
        self.wall_ns += next.wall_ns;
        self.active_ns += next.active_ns;
        self.pause = next.pause;
    }
}

/// Events per time, the older the less.
#[derive(Debug, Clone, Copy)]
struct Rate {
    events: f32,
    ns: f32,
}

impl Rate {
    const NONE: Self = Self { events: 0.0, ns: 0.0 };

    /// `age`: how much older the rest becomes, in lengths of the average.
    fn add(&mut self, events: f32, ns: f32, age: f32) {
        self.events = self.events / (1.0 + age) + events;
        self.ns = self.ns / (1.0 + age) + ns;
    }

    fn per_ns(&self) -> f32 {
        self.events / self.ns.max(1.0)
    }
}

/// Running averages of the traffic.
#[derive(Debug, Clone)]
pub struct Traffic {
    unit: Unit,
    /// Datagrams per ns below which nothing can be saved.
    least: f32,
    clustered: f32,
    rate: Rate,
    quick_rate: Rate,
    pauses: f32,
}

impl Traffic {
    /// Traffic that is yet to be seen.
    pub const fn unknown(bound_us: u32, unit: Unit) -> Self {
        let per_second = if bound_us == 0 { PER_SECOND.1 } else { WITHIN_BOUND * 1e6 / bound_us as f32 };
        let least = per_second.clamp(PER_SECOND.0, PER_SECOND.1) / 1e9;
        Self { unit, least, clustered: 0.0, rate: Rate::NONE, quick_rate: Rate::NONE, pauses: 0.0 }
    }

    /// Takes in what was seen.
    pub fn add(&mut self, span: &Span) {
        let (wall, active) = (span.wall_ns / self.unit.ns(), span.active_ns / self.unit.ns());
        self.pauses = self.pauses / (1.0 + wall / PAUSES) + if span.pause { 1.0 } else { 0.0 };
        let share = span.clustered / span.reaps.max(1.0);
        self.clustered += (share - self.clustered) * span.reaps / (span.reaps + REAPS);
        self.rate.add(span.datagrams, span.wall_ns, wall / RATE);
        self.quick_rate.add(span.datagrams, span.wall_ns, active / QUICK_RATE);
    }

    /// Datagrams come in bursts, with pauses between them.
    pub fn is_bursty(&self) -> bool {
        self.pauses > BURSTY
    }

    /// Lingering can save nothing, or it would be too little to matter: datagrams come alone, or
    /// rarely. The thresholds are higher to begin to linger than to go on.
    pub fn is_sparse(&self, beginning: bool) -> bool {
        let (clustered, rate) = if beginning { TO_BEGIN } else { (1.0, 1.0) };
        self.clustered < clustered * CLUSTERED || self.rate.per_ns() < rate * self.least
    }

    /// Enough has been seen to tell the rate.
    pub fn is_known(&self) -> bool {
        let units = self.rate.ns / self.unit.ns();
        units > 30.0 && (self.rate.events > 32.0 || units > 400.0)
    }

    /// Datagrams per ns, as they come now.
    pub fn rate(&self) -> f32 {
        self.quick_rate.per_ns()
    }

    /// The rate has changed to this.
    pub fn set_rate(&mut self, per_ns: f32) {
        self.rate.events = per_ns * self.rate.ns;
    }
}
