//! How long to linger for a batch: the AUTO policy.
//!
//! Waiting pays when enough datagrams arrive meanwhile to share one wake-up, and costs a timer
//! and a second wake-up when they do not. So AUTO keeps a running mean of the arrival rate, as a
//! network card that moderates its interrupts does. Below a threshold it does not wait. Above,
//! it waits for as long as a good batch takes to arrive, and never longer than the bound.

pub mod estimate;
pub mod policy;
pub mod readings;
pub mod rules;
pub mod schedule;
pub mod traffic;
pub mod trial;
pub mod unit;
pub mod watch;

use crate::config::{RINGMSG_LINGER_AUTO, RINGMSG_LINGER_AUTO_WITHIN, RINGMSG_LINGER_MAX_US};
use crate::error::{Error, Result};

/// The added latency AUTO may cost when it was given no other bound.
const BOUND_US: u32 = 100;
/// Datagrams that must be expected within the bound before waiting begins to pay. Measured: at 20
/// per 100 us it costs 15 % more CPU, saturated it saves 12 %.
const WORTH_IT: f32 = 30.0;
/// More of them make a batch no cheaper.
const BATCH: f32 = 128.0;
/// The mean looks back over this long: a change of the rate is followed within milliseconds.
const MEMORY_NS: f32 = 5_000_000.0;

/// The running mean of the arrival rate.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    per_us: f32,
    last_ns: u64,
}

impl Arrivals {
    /// A reap brought `completions`, now.
    #[inline]
    pub(crate) fn note(&mut self, completions: u32, now_ns: u64) {
        let elapsed = now_ns.saturating_sub(self.last_ns).max(1) as f32;
        self.last_ns = now_ns;
        let weight = elapsed / (elapsed + MEMORY_NS);
        self.per_us += weight * (completions as f32 * 1000.0 / elapsed - self.per_us);
    }

    #[inline]
    pub(crate) fn per_us(&self) -> f32 {
        self.per_us
    }
}

/// Refuses a linger above the maximum.
pub(crate) fn check_linger(linger_us: u32) -> Result<()> {
    if linger_us == RINGMSG_LINGER_AUTO || linger_us & !RINGMSG_LINGER_AUTO_WITHIN <= RINGMSG_LINGER_MAX_US {
        return Ok(());
    }
    Err(Error::with(
        libc::EINVAL,
        format_args!(
            "wait: a linger of {} us; at most {RINGMSG_LINGER_MAX_US} are possible",
            linger_us & !RINGMSG_LINGER_AUTO_WITHIN
        ),
    ))
}

/// What a caller asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linger {
    Fixed(u32),
    /// Follow the arrival rate; at most this long.
    Auto(u32),
}

impl Linger {
    /// What `linger_us` of a struct ringmsg_wait means.
    pub(crate) fn of(linger_us: u32) -> Self {
        match linger_us {
            RINGMSG_LINGER_AUTO => Linger::Auto(BOUND_US),
            bounded if bounded & RINGMSG_LINGER_AUTO_WITHIN != 0 => {
                Linger::Auto(bounded & !RINGMSG_LINGER_AUTO_WITHIN)
            }
            given => Linger::Fixed(given),
        }
    }

    /// Microseconds to wait for a batch when so many datagrams arrive in one.
    #[inline]
    pub(crate) fn us(self, arrivals_per_us: f32) -> u32 {
        match self {
            Linger::Fixed(us) => us,
            Linger::Auto(bound) if arrivals_per_us * (bound as f32) < WORTH_IT => 0,
            Linger::Auto(bound) => ((BATCH / arrivals_per_us) as u32).clamp(1, bound.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTO: Linger = Linger::Auto(BOUND_US);

    fn after(per_ms: u32, ms: u64) -> u32 {
        let mut arrivals = Arrivals::default();
        for tick in 1..=ms {
            arrivals.note(per_ms, tick * 1_000_000);
        }
        AUTO.us(arrivals.per_us())
    }

    #[test]
    fn slow_traffic_is_not_delayed() {
        assert_eq!(after(1, 100), 0);
        assert_eq!(after(50, 100), 0);
        assert_eq!(after(200, 100), 0);
    }

    #[test]
    fn fast_traffic_lingers_within_milliseconds() {
        assert_eq!(after(800, 5), BOUND_US);
    }

    #[test]
    fn faster_traffic_lingers_no_longer_than_a_batch_takes() {
        assert!((40..50).contains(&after(3000, 20)));
    }

    #[test]
    fn a_pause_ends_it() {
        let mut arrivals = Arrivals::default();
        for tick in 1..=20 {
            arrivals.note(500, tick * 1_000_000);
        }
        arrivals.note(1, 60_000_000);
        assert_eq!(AUTO.us(arrivals.per_us()), 0);
    }

    #[test]
    fn a_bound_of_the_callers_is_kept_and_makes_lower_rates_worth_it() {
        let rate = 0.1; // 100 a millisecond
        assert_eq!(Linger::of(RINGMSG_LINGER_AUTO).us(rate), 0);
        assert_eq!(Linger::of(1 << 31 | 1000).us(rate), 1000);
        assert_eq!(Linger::of(1 << 31 | 20).us(10.0), 12);
        assert_eq!(Linger::of(1 << 31).us(10.0), 0);
        assert_eq!(check_linger(RINGMSG_LINGER_MAX_US), Ok(()));
        assert_eq!(check_linger(1 << 31 | RINGMSG_LINGER_MAX_US), Ok(()));
        assert_eq!(check_linger(RINGMSG_LINGER_AUTO), Ok(()));
        assert!(check_linger(RINGMSG_LINGER_MAX_US + 1).is_err());
        assert!(check_linger(u32::MAX - 1).is_err());
    }
}
