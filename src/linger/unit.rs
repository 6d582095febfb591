//! The unit in which the policy measures time.

/// A tenth of the bound, but 0.1 ms at least and 1 ms at most: whoever may linger for 10 ms has to
/// be watched for longer to see a difference.
#[derive(Debug, Clone, Copy)]
pub struct Unit(u32);

impl Unit {
    /// The unit of a bound.
    pub const fn of(bound_us: u32) -> Self {
        let ns = bound_us as u64 * 100;
        Self(if ns < 100_000 {
            100_000
        } else if ns > 1_000_000 {
            1_000_000
        } else {
            ns as u32
        })
    }

    /// One unit, in ns.
    pub const fn ns(self) -> f32 {
        self.0 as f32
    }

    /// This many units, in ns.
    pub const fn times(self, count: u32) -> u64 {
        self.0 as u64 * count as u64
    }
}
