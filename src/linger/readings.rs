//! The readings of the thread's CPU clock that the policy asks for, and what each costs.

/// How many readings in a row measure the cost of one: it is the least difference, since an
/// interrupt may come between two of them.
const CALIBRATION: u32 = 3;

/// Which readings are still to come, and what one costs.
#[derive(Debug, Clone)]
pub struct Readings {
    /// How many are to come before the one that was asked for.
    ahead: Option<u32>,
    /// The next one that is asked for follows others.
    calibrates: bool,
    last_ns: u64,
    cost_ns: f32,
}

impl Readings {
    /// None was taken, and none is wanted.
    pub const NONE: Self = Self { ahead: None, calibrates: true, last_ns: 0, cost_ns: f32::INFINITY };

    /// Asks for one.
    pub fn ask(&mut self) {
        self.ahead = Some(if self.calibrates { CALIBRATION - 1 } else { 0 });
    }

    /// One is no longer wanted.
    pub fn cancel(&mut self) {
        self.ahead = None;
    }

    /// The next one is to tell its cost as well.
    pub fn calibrate(&mut self) {
        self.calibrates = true;
    }

    /// Whether one is to come.
    pub fn are_wanted(&self) -> bool {
        self.ahead.is_some()
    }

    /// Takes a reading. Returns whether it is the one that was asked for.
    pub fn take(&mut self, cpu_ns: u64) -> bool {
        let Some(ahead) = self.ahead else { return false };
        if self.calibrates && ahead < CALIBRATION - 1 {
            self.cost_ns = self.cost_ns.min(cpu_ns.saturating_sub(self.last_ns) as f32);
        }
        self.last_ns = cpu_ns;
        self.ahead = ahead.checked_sub(1);
        self.calibrates &= ahead > 0;
        ahead == 0
    }

    /// What a reading costs; known once one was taken.
    pub fn cost_ns(&self) -> f32 {
        self.cost_ns
    }
}
