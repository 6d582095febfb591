//! What the traffic looks like between two trials: its rate, whether datagrams come close
//! together, and whether there are pauses between them.

/// Over what time the rate is averaged, and the quicker rate that names the octave.
const RATE_NS: f32 = 50e6;
const QUICK_RATE_NS: f32 = 4e6;
/// Over what time pauses are counted.
const PAUSES_NS: f32 = 25e6;
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
}

impl Traffic {
    pub const UNKNOWN: Self = Self {
        clustered: 0.0,
        rate: Decaying { events: 0.0, time_ns: 0.0 },
        quick_rate: Decaying { events: 0.0, time_ns: 0.0 },
        pauses: 0.0,
    };

    pub fn add(&mut self, span: &Span) {
        self.pauses = self.pauses / (1.0 + span.wall_ns / PAUSES_NS) + if span.pause { 1.0 } else { 0.0 };
        let weight = span.reaps / (span.reaps + CLUSTERED_REAPS);
        self.clustered += weight * (span.clustered / span.reaps.max(1.0) - self.clustered);
        self.rate.add(span.datagrams, span.wall_ns, span.wall_ns / RATE_NS);
        self.quick_rate.add(span.datagrams, span.wall_ns, span.active_ns / QUICK_RATE_NS);
    }

    /// Datagrams come in bursts with pauses between them.
    pub fn is_bursty(&self) -> bool {
        self.pauses > 1.2
    }

    /// Lingering can save nothing: datagrams come alone, or so rarely that it does not matter.
    /// Both thresholds are higher for `beginning` to linger than for going on.
    pub fn is_lone(&self, beginning: bool) -> bool {
        let (clustered, per_second) = if beginning { (0.12, 2000.0) } else { (0.04, 1000.0) };
        self.clustered < clustered || self.rate.per_ns() < per_second / 1e9
    }

    /// Enough has been seen to tell the octave of the rate.
    pub fn is_known(&self) -> bool {
        self.rate.time_ns > 3e6 && self.rate.events > 32.0
    }

    pub fn quick_rate(&self) -> f32 {
        self.quick_rate.per_ns()
    }

    /// The rate is this one from now on.
    pub fn set_rate(&mut self, per_ns: f32) {
        self.rate.events = per_ns * self.rate.time_ns;
    }
}
