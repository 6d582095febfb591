//! Watching the steady state for a change of the traffic.

use super::traffic::Span;
use super::unit::Unit;

/// A window has this many units of active time and this many datagrams, and bursts are watched for
/// this many units of any time.
const WINDOW: f32 = 50.0;
const DATAGRAMS: f32 = 64.0;
const BURSTY_WINDOW: f32 = 200.0;
/// The traffic has changed if the rate, or the number of datagrams per reap, differs by this factor
/// in this many windows.
const RATE: (f32, u32) = (1.5, 2);
const PER_REAP: (f32, u32) = (2.0, 4);

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Nothing.
    None,
    /// The rate is another one, per ns.
    Rate(f32),
    /// The rate is the same, but the datagrams come more or less closely.
    Spacing,
}

/// Compares windows of the steady state with the first one.
#[derive(Debug, Clone)]
pub struct Watch {
    window: Span,
    first: Option<Reference>,
    /// How many windows in a row were off.
    off: u32,
}

#[derive(Debug, Clone, Copy)]
struct Reference {
    rate: f32,
    per_reap: f32,
}

fn is_off(value: f32, reference: f32, factor: f32) -> bool {
    value > factor * reference || value < reference / factor
}

impl Watch {
    /// Nothing was seen yet.
    pub const NEW: Self = Self { window: Span::NONE, first: None, off: 0 };

    /// Takes in the reaps since the last call.
    pub fn add(&mut self, span: &Span, bursty: bool, unit: Unit) -> Change {
        let window = &mut self.window;
        window.extend(span);
        let cycles = !bursty || (span.pause && window.wall_ns > BURSTY_WINDOW * unit.ns());
        if !cycles || window.active_ns < WINDOW * unit.ns() || window.datagrams < DATAGRAMS {
            return Change::None;
        }
        let time_ns = if bursty { window.wall_ns } else { window.active_ns };
        let now = Reference { rate: window.datagrams / time_ns, per_reap: window.datagrams / window.reaps };
        self.window = Span::NONE;
        self.compare(now)
    }

    fn compare(&mut self, now: Reference) -> Change {
        let first = *self.first.get_or_insert(now);
        let rate_is_off = is_off(now.rate, first.rate, RATE.0);
        if !rate_is_off && !is_off(now.per_reap, first.per_reap, PER_REAP.0) {
            self.off = 0;
            return Change::None;
        }
        self.off += 1;
        if rate_is_off && self.off >= RATE.1 {
            *self = Self::NEW;
            return Change::Rate(now.rate);
        }
        if !rate_is_off && self.off >= PER_REAP.1 {
            *self = Self::NEW;
            return Change::Spacing;
        }
        Change::None
    }
}
