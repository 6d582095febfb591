//! What the trials at one rate have shown: running means of log ratios, and what follows from them.
//!
//! Every sample compares two neighbouring blocks of a trial, one with a candidate's linger and one
//! without lingering: the logarithm of the ratio of their prices (CPU time per datagram) or of
//! their rates (datagrams per second). Ratios, because both drift from one second to the next.

use super::rules::Rules;

/// How many lingers are compared: none, and three candidates.
pub const ARMS: usize = 4;

/// A saving below this share of the price is not worth the added latency.
const MARGIN: f32 = 0.05;
/// Two candidates whose prices differ by less cost the same.
const SAME: f32 = 0.02;
/// How many samples a mean of prices, and one of rates, remembers.
const PRICES: f32 = 64.0;
const RATES: f32 = 128.0;
/// A mean without a sample is as uncertain as this.
const UNKNOWN: f32 = 9.0;
/// Before there are samples the variance is assumed to be that of two that are off by 10 %.
const PRIOR: f32 = 2.0 * 0.1 * 0.1;

/// A running mean and variance.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    pub mean: f32,
    variance: f32,
    pub count: f32,
}

impl Running {
    const NONE: Self = Self { mean: 0.0, variance: 0.0, count: 0.0 };

    /// Adds a sample; the last `memory` samples weigh.
    fn add(&mut self, sample: f32, memory: f32) {
        self.count = (self.count + 1.0).min(memory);
        let off = sample - self.mean;
        self.mean += off / self.count;
        self.variance += (off * (sample - self.mean) - self.variance) / self.count;
    }

    /// The standard error of the mean.
    pub fn error(&self) -> f32 {
        if self.count < 1.0 {
            return UNKNOWN;
        }
        ((self.count * self.variance + PRIOR) / (self.count + 1.0) / self.count).sqrt()
    }

    /// Lets the next samples weigh as if there had been only `count`.
    fn doubt(&mut self, count: f32) {
        self.count = self.count.min(count);
    }
}

/// What is known of one candidate.
#[derive(Debug, Clone, Copy)]
pub struct Arm {
    /// Log ratio of its price to the price of not lingering.
    pub price: Running,
    /// Log ratio of the rates, from the short blocks of a survey. They see queues fill and drain,
    /// so they can only tell the worst.
    pub brief_rate: Running,
    /// The same from the long blocks of a recheck.
    pub rate: Running,
}

/// What is known at one octave of the rate.
#[derive(Debug, Clone, Copy)]
pub struct Estimates {
    pub arms: [Arm; ARMS],
    /// The arm in use at this rate.
    pub choice: usize,
    /// How many rechecks were made because of a doubt.
    pub doubts: u32,
    /// When the last trial ended.
    pub known_ns: u64,
    /// When the next trial is due, and how long after the last.
    pub next_ns: u64,
    pub wait_ns: u64,
    /// When a trial last took every arm.
    pub all_ns: u64,
}

/// One pair of blocks.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    pub arm: usize,
    /// Ratio of the prices, unless the block was given up.
    pub price: Option<f32>,
    /// Ratio of the rates.
    pub rate: f32,
    /// From the blocks of a recheck.
    pub long: bool,
}

impl Estimates {
    pub const NONE: Self = Self {
        arms: [Arm { price: Running::NONE, brief_rate: Running::NONE, rate: Running::NONE }; ARMS],
        choice: 0,
        doubts: 0,
        known_ns: 0,
        next_ns: 0,
        wait_ns: 0,
        all_ns: 0,
    };

    /// Takes in what a pair of blocks shows.
    pub fn add(&mut self, pair: Pair) {
        let arm = &mut self.arms[pair.arm];
        if let Some(price) = pair.price {
            arm.price.add(price.ln().clamp(-2.0, 2.0), PRICES);
        }
        let mean = if pair.long { &mut arm.rate } else { &mut arm.brief_rate };
        mean.add(pair.rate.ln().clamp(-1.0, 1.0), RATES);
    }

    /// The traffic has changed at the same rate: what is known is a first guess.
    pub fn doubt_all(&mut self) {
        for arm in &mut self.arms[1..] {
            arm.price.doubt(2.0);
            arm.rate.doubt(2.0);
            arm.brief_rate.doubt(1.0);
        }
    }

    /// Whether a mean of rates shows that fewer arrive, by `sureness` standard errors.
    fn is_lower(mean: &Running, at_least: f32, sureness: f32) -> bool {
        mean.count >= 2.0 && mean.mean < -at_least && mean.mean + sureness * mean.error() < 0.0
    }

    /// Whether some candidate certainly lowers the rate: then peers wait for answers.
    fn is_closed(&self) -> bool {
        self.arms[1..].iter().any(|arm| {
            Self::is_lower(&arm.rate, 0.03, super::knob::k(14, 4.0)) || Self::is_lower(&arm.brief_rate, 0.2, super::knob::k(15, 4.5))
        })
    }

    /// Whether fewer datagrams arrive while it lingers so long, as in a closed loop. The more the
    /// arm saves, the surer this must be; where peers certainly wait for answers, the contrary
    /// must be shown.
    pub fn slows<R: Rules>(&self, arm: usize) -> bool {
        if arm == 0 || !R::COMPARES_RATES {
            return false;
        }
        let Arm { price, brief_rate, rate } = &self.arms[arm];
        if self.is_closed() {
            return if rate.count >= 2.0 { rate.mean < -super::knob::k(16, 0.012) } else { brief_rate.mean < -super::knob::k(17, 0.06) };
        }
        let sureness = super::knob::k(0, 1.2) + super::knob::k(1, 2.0) * (-price.mean / 0.4).clamp(0.0, 1.0);
        if rate.count >= 2.0 {
            Self::is_lower(rate, 0.012, sureness)
        } else {
            Self::is_lower(brief_rate, 0.2, sureness + 0.6)
        }
    }

    /// Cheaper, but whether fewer arrive is not known well enough.
    fn is_unclear<R: Rules>(&self, arm: usize) -> bool {
        let Arm { price, rate, .. } = &self.arms[arm];
        if price.count < 1.0 || price.mean >= -MARGIN {
            return false;
        }
        match (rate.count < super::knob::k(22, 2.0), self.slows::<R>(arm)) {
            (true, slows) => !slows,
            (false, true) => rate.mean > super::knob::k(3, -0.25) && rate.mean + super::knob::k(4, 3.5) * rate.error() > 0.0,
            (false, false) => rate.mean < super::knob::k(5, -0.008) && rate.error() > super::knob::k(6, 0.006),
        }
    }

    /// May turn out to be cheaper by the margin, and does not surely slow the peers.
    fn is_hopeful(&self, arm: usize) -> bool {
        let Arm { price, brief_rate, rate } = &self.arms[arm];
        let cheaper =
            price.count < 2.0 || (price.count < super::knob::k(7, 16.0) && price.mean - super::knob::k(8, 1.5) * price.error() < -MARGIN);
        let surely_slows = |mean: &Running| mean.count >= 2.0 && mean.mean + 2.0 * mean.error() < 0.0;
        let briefly =
            surely_slows(brief_rate) && brief_rate.mean < -0.12 && (rate.count >= 2.0 || price.mean > -0.15);
        cheaper && !briefly && !surely_slows(rate)
    }

    /// The arm that is most worth another look, if any is.
    pub fn candidate<R: Rules>(&self) -> Option<usize> {
        let promise = |arm: &usize| self.arms[*arm].price.mean - 1.5 * self.arms[*arm].price.error().min(1.0);
        (1..ARMS)
            .filter(|&arm| self.is_unclear::<R>(arm) || self.is_hopeful(arm))
            .min_by(|a, b| promise(a).total_cmp(&promise(b)))
    }

    /// The saving that is at stake while the rates of the arms are not known well enough, as a
    /// share of the price; and whether the present choice is suspected of lowering the rate.
    pub fn stakes<R: Rules>(&self) -> f32 {
        (1..ARMS).filter(|&arm| self.is_unclear::<R>(arm)).map(|arm| -self.arms[arm].price.mean).fold(0.0, f32::max).min(1.0)
    }

    pub fn is_suspect(&self) -> bool {
        let Arm { rate, brief_rate, .. } = &self.arms[self.choice];
        let mean = if rate.count >= 2.0 { rate } else { brief_rate };
        self.choice != 0 && mean.mean < -super::knob::k(18, 0.02) && mean.mean + super::knob::k(19, 1.0) * mean.error() < 0.0
    }

    /// The candidate with the least price so far, whether or not it is worth it.
    pub fn cheapest_candidate(&self) -> usize {
        (1..ARMS).min_by(|&a, &b| self.arms[a].price.mean.total_cmp(&self.arms[b].price.mean)).unwrap_or(1)
    }

    /// Whether a survey can do without this arm from here on.
    pub fn is_out<R: Rules>(&self, arm: usize) -> bool {
        let least = (1..ARMS)
            .filter(|&other| !self.slows::<R>(other))
            .map(|other| self.arms[other].price.mean)
            .fold(0.0, f32::min);
        let price = &self.arms[arm].price;
        price.count >= super::knob::k(13, 2.0) && (price.mean - 2.0 * price.error() > least + 0.03 || self.slows::<R>(arm))
    }

    /// Whether it is certain that this arm saves the margin, or that it does not.
    pub fn is_certain(&self, arm: usize) -> bool {
        let price = &self.arms[arm].price;
        (price.mean + MARGIN).abs() > 2.0 * price.error()
    }

    /// Chooses anew: the arm with the least price that does not slow the peers; a shorter one that
    /// costs the same; none at all unless it saves the margin; and the present one in case of doubt.
    pub fn choose<R: Rules>(&mut self) {
        let price = |arm: usize| self.arms[arm].price.mean;
        let may = |arm: &usize| self.arms[*arm].price.count >= 1.0 && !self.slows::<R>(*arm);
        let cheaper = |arm: &usize| price(*arm) + self.arms[*arm].price.error() < 0.0;
        let best = (1..ARMS)
            .filter(|arm| may(arm) && cheaper(arm))
            .min_by(|&a, &b| price(a).total_cmp(&price(b)))
            .filter(|&best| price(best) <= -MARGIN)
            .map(|best| (1..best).find(|arm| may(arm) && price(*arm) < price(best) + SAME).unwrap_or(best));
        let present = Some(self.choice).filter(|&arm| arm != 0 && may(&arm));
        self.choice = match (best, present) {
            (Some(best), Some(present)) if price(present) < price(best) + SAME => present,
            (None, Some(present)) if price(present) < -MARGIN / 2.0 => present,
            (best, _) => best.unwrap_or(0),
        };
    }
}
