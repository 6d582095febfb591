//! What the traffic looks like between two trials: its rate, whether datagrams come close
//! together, and whether there are pauses between them.

/// Over how many units of time the rate is averaged, and the quicker rate that names the octave.
const RATE: f32 = 500.0;
const QUICK_RATE: f32 = 40.0;
/// Over how many pauses are counted.
const PAUSES: f32 = 250.0;
/// Over how many reaps the share of clustered ones is averaged.
const CLUSTERED_REAPS: f32 = 64.0;

/// Reaps that follow one another.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    pub reaps: f32,
    /// Reaps with more than one datagram, or soon after the one before.
    pub clustered: f32,
    pub datagrams: f32,
    pub wall_ns: f32,
    /// `wall_ns` without the parts of pauses in which nothing can happen.
    pub active_ns: f32,
    /// Its last reap ended a pause.
    pub pause: bool,
}

impl Span {
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

/// Events over time, the older the less.
#[derive(Debug, Clone, Copy)]
struct Decaying {
    events: f32,
    time_ns: f32,
}

impl Decaying {
    fn add(&mut self, events: f32, time_ns: f32, decay: f32) {
        self.events = self.events / (1.0 + decay) + events;
        self.time_ns = self.time_ns / (1.0 + decay) + time_ns;
    }

    fn per_ns(&self) -> f32 {
        self.events / self.time_ns.max(1.0)
    }
}

/// Running means.
#[derive(Debug, Clone)]
pub struct Traffic {
    clustered: f32,
    rate: Decaying,
    quick_rate: Decaying,
    pauses: f32,
    unit_ns: f32,
    /// Below this rate, per ns, lingering saves too little to matter.
    least: f32,
}

impl Traffic {
    pub const UNKNOWN: Self = Self {
        unit_ns: 1e5,
        least: 1e-6,
        clustered: 0.0,
        rate: Decaying { events: 0.0, time_ns: 0.0 },
        quick_rate: Decaying { events: 0.0, time_ns: 0.0 },
        pauses: 0.0,
    };

    pub fn add(&mut self, span: &Span) {
        self.pauses = self.pauses / (1.0 + span.wall_ns / (PAUSES * self.unit_ns)) + if span.pause { 1.0 } else { 0.0 };
        let weight = span.reaps / (span.reaps + CLUSTERED_REAPS);
        self.clustered += weight * (span.clustered / span.reaps.max(1.0) - self.clustered);
        self.rate.add(span.datagrams, span.wall_ns, span.wall_ns / (RATE * self.unit_ns));
        self.quick_rate.add(span.datagrams, span.wall_ns, span.active_ns / (QUICK_RATE * self.unit_ns));
    }

    /// Datagrams come in bursts with pauses between them.
    pub fn is_bursty(&self) -> bool {
        self.pauses > 1.2
    }

    /// Lingering can save nothing: datagrams come alone, or so rarely that it does not matter.
    /// Both thresholds are higher for `beginning` to linger than for going on.
    pub fn is_lone(&self, beginning: bool) -> bool {
        let (clustered, least) = if beginning { (0.12, 2.0 * self.least) } else { (0.04, self.least) };
        self.clustered < clustered || self.rate.per_ns() < least
    }

    /// Enough has been seen to tell the octave of the rate.
    pub fn is_known(&self) -> bool {
        let units = self.rate.time_ns / self.unit_ns;
        units > 30.0 && (self.rate.events > 32.0 || units > 400.0)
    }

    /// Begins anew, for another bound.
    pub fn restart(&mut self, bound_us: u32, unit_ns: f32) {
        let least = (1e5 / bound_us.max(1) as f32).clamp(100.0, 1000.0) / 1e9;
        *self = Self { unit_ns, least, ..Self::UNKNOWN };
    }

    pub fn quick_rate(&self) -> f32 {
        self.quick_rate.per_ns()
    }

    /// The rate is this one from now on.
    pub fn set_rate(&mut self, per_ns: f32) {
        self.rate.events = per_ns * self.rate.time_ns;
    }
}
