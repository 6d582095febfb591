//! How long to linger for a batch: what a caller asks for, and the AUTO policy.
//!
//! Waiting for a second datagram pays when those that come meanwhile share one wake-up. Whether it
//! does depends on what a wake-up and a timer cost, and that differs by a factor of four from one
//! machine to the next. So AUTO measures it, in short trials on the traffic of the program: for a
//! few milliseconds with one linger, for a few with another, in pairs. It compares first the rates
//! at which datagrams come, and then what each costs: clients that wait for their answers send
//! fewer to a receiver that lingers, even if each of these costs less.
//!
//! | module     | what it has                                                                 |
//! |------------|-----------------------------------------------------------------------------|
//! | `policy`   | the state machine: no linger and no trials; a choice in use; a trial          |
//! | `traffic`  | the rate, and whether datagrams come close together or in bursts              |
//! | `trial`    | blocks of reaps, one linger a block, and the comparison of a pair             |
//! | `estimate` | what comparisons have shown at one rate, and the choice that follows           |
//! | `schedule` | when the next trial is due, and what trials may cost                          |
//! | `watch`    | notices that the traffic has changed                                          |
//! | `readings` | readings of the thread's CPU clock, and what one costs                        |
//! | `rules`    | the rules by name, so that a test can leave one out                           |
//!
//! All of it is pure: the time, the readings and the counts are arguments. `tests/linger.rs` has a
//! simulator. A reaper asks `Policy::linger_us` how long a reap may linger, and calls
//! `Policy::note` when it is over; if that says so it reads the thread's CPU clock and calls
//! `Policy::reading`, for as long as that says so. `Policy::void` tells the policy that something
//! other than the linger has affected the reap.

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

/// The latency that AUTO may add when the caller gave no other bound.
const BOUND_US: u32 = 100;

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
    /// The policy's choice, but no longer than this.
    Auto {
        bound_us: u32,
    },
}

impl Linger {
    /// What `linger_us` of a struct ringmsg_wait means.
    pub(crate) fn of(linger_us: u32) -> Self {
        match linger_us {
            RINGMSG_LINGER_AUTO => Linger::Auto { bound_us: BOUND_US },
            bounded if Self::is_auto(bounded) => {
                Linger::Auto { bound_us: bounded & !RINGMSG_LINGER_AUTO_WITHIN }
            }
            given => Linger::Fixed(given),
        }
    }

    /// Whether the policy is to choose.
    #[inline]
    pub(crate) fn is_auto(linger_us: u32) -> bool {
        linger_us & RINGMSG_LINGER_AUTO_WITHIN != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_has_a_bound_and_everything_has_a_maximum() {
        assert_eq!(Linger::of(RINGMSG_LINGER_AUTO), Linger::Auto { bound_us: 100 });
        assert_eq!(Linger::of(RINGMSG_LINGER_AUTO_WITHIN | 250), Linger::Auto { bound_us: 250 });
        assert_eq!(Linger::of(RINGMSG_LINGER_AUTO_WITHIN), Linger::Auto { bound_us: 0 });
        assert_eq!(Linger::of(250), Linger::Fixed(250));
        assert_eq!(check_linger(RINGMSG_LINGER_MAX_US), Ok(()));
        assert_eq!(check_linger(RINGMSG_LINGER_AUTO_WITHIN | RINGMSG_LINGER_MAX_US), Ok(()));
        assert_eq!(check_linger(RINGMSG_LINGER_AUTO), Ok(()));
        assert!(check_linger(RINGMSG_LINGER_MAX_US + 1).is_err());
        assert!(check_linger(u32::MAX - 1).is_err());
    }
}
