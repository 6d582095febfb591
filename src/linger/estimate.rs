//! What the trials at one rate have shown, and what follows from it.
//!
//! A sample compares two neighbouring blocks of a trial, one of a candidate and one without linger:
//! the logarithm of the ratio of their prices (CPU time per datagram), or of their rates (datagrams
//! per second). Prices and rates drift from one second to the next; the ratio of neighbours hardly
//! does. The mean of such samples has a standard error, and every decision waits until the mean is
//! some number of these away from where it would be wrong.

use super::rules::Rules;

/// How many lingers are compared: none, which is arm 0, and three candidates.
pub const ARMS: usize = 4;

/// A candidate that saves a smaller share of the price is not worth its latency.
const MARGIN: f32 = 0.05;
/// Prices that differ by less are the same.
const SAME: f32 = 0.02;
/// A smaller loss of the rate is none.
const LOST: f32 = 0.02;
/// The same for short blocks, whose rates are coarse: they see queues fill and drain.
const LOST_BRIEFLY: f32 = 0.2;
/// A candidate is excluded if it drops a share of the datagrams that is larger by this; the share
/// is averaged over this many pairs, of which none counts for more than this.
const DROPPED: f32 = 0.001;
const DROPS: f32 = 4.0;
const DROPS_MAX: f32 = 0.01;
/// How many standard errors make a decision provisional, and final.
const SURE: f32 = 2.5;
const CERTAIN: f32 = 4.0;
/// How many samples a mean of prices, and one of rates, remembers.
const PRICES: f32 = 64.0;
const RATES: f32 = 128.0;
/// The number of samples after which a price is known.
const KNOWN: f32 = 16.0;
/// The standard error of a mean without samples.
const UNKNOWN: f32 = 9.0;
/// Until there are enough samples to know their variance, the expected variance counts as this many
/// samples.
const PRIOR: f32 = 2.0;
/// The variance that is expected of a price: 10 %, squared.
const PRICE_VARIANCE: f32 = 0.01;

/// A running mean and variance.
#[derive(Debug, Clone, Copy)]
pub struct Mean {
    /// The mean.
    pub value: f32,
    variance: f32,
    /// The variance that was expected.
    expected: f32,
    /// How many samples weigh.
    pub count: f32,
}

impl Mean {
    const NONE: Self = Self { value: 0.0, variance: 0.0, expected: 0.0, count: 0.0 };

    /// Adds a sample whose variance is expected to be this; the last `memory` samples weigh.
    fn add(&mut self, sample: f32, expected: f32, memory: f32) {
        self.count = (self.count + 1.0).min(memory);
        let off = sample - self.value;
        self.value += off / self.count;
        self.expected += (expected - self.expected) / self.count;
        self.variance += (off * (sample - self.value) - self.variance) / self.count;
    }

    /// The standard error.
    pub fn error(&self) -> f32 {
        if self.count < 1.0 {
            return UNKNOWN;
        }
        ((self.count * self.variance + PRIOR * self.expected) / (self.count + 1.0) / self.count).sqrt()
    }

    /// Whether the mean is below zero by more than `least`, and by `errors` standard errors.
    fn is_below(&self, least: f32, errors: f32) -> bool {
        self.count >= 2.0 && self.value < -least && self.value + errors * self.error() < 0.0
    }

    /// The next samples weigh as if there had been only `count`.
    fn doubt(&mut self, count: f32) {
        self.count = self.count.min(count);
    }
}

/// What is known of one candidate, as means of log ratios to not lingering.
#[derive(Debug, Clone, Copy)]
pub struct Arm {
    /// Of the price.
    pub price: Mean,
    /// Of the rate, in long blocks.
    pub rate: Mean,
    /// In short blocks.
    pub brief_rate: Mean,
    /// How much larger the share of dropped datagrams was in the last few pairs.
    drops: f32,
}

/// What one pair of blocks shows: ratios of the candidate's block to the one without linger.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// The candidate.
    pub arm: usize,
    /// None: the block was given up before its price was known.
    pub price: Option<f32>,
    /// The ratio of the rates.
    pub rate: f32,
    /// The variance of its logarithm, if datagrams come at random.
    pub rate_variance: f32,
    /// The share of the datagrams that was dropped, less the share without linger.
    pub drops: f32,
    /// The blocks were long ones.
    pub long: bool,
}

/// What is known at one octave of the rate.
#[derive(Debug, Clone, Copy)]
pub struct Estimates {
    /// Of the candidates; arm 0 stays as it is.
    pub arms: [Arm; ARMS],
    /// The arm to use.
    pub choice: usize,
}

impl Estimates {
    /// Nothing is known.
    pub const NONE: Self = Self {
        arms: [Arm { price: Mean::NONE, rate: Mean::NONE, brief_rate: Mean::NONE, drops: 0.0 }; ARMS],
        choice: 0,
    };

    /// Takes in what a pair of blocks shows.
    pub fn add(&mut self, pair: Pair) {
        let arm = &mut self.arms[pair.arm];
        if let Some(price) = pair.price {
            arm.price.add(price.ln().clamp(-2.0, 2.0), PRICE_VARIANCE, PRICES);
        }
        let rate = if pair.long { &mut arm.rate } else { &mut arm.brief_rate };
        rate.add(pair.rate.ln().clamp(-1.0, 1.0), pair.rate_variance, RATES);
        arm.drops += (pair.drops.clamp(-DROPS_MAX, DROPS_MAX) - arm.drops) / DROPS;
    }

    /// The traffic has changed, at the same rate: what is known becomes a first guess.
    pub fn doubt(&mut self) {
        for arm in &mut self.arms[1..] {
            arm.price.doubt(2.0);
            arm.rate.doubt(2.0);
            arm.brief_rate.doubt(1.0);
        }
    }

    /// Chooses again: the cheapest arm that does not lower the rate; of arms that cost the same,
    /// the shorter; none unless it saves the margin; the present one rather than an equal one.
    ///
    /// Returns whether that is a change.
    pub fn choose<R: Rules>(&mut self) -> bool {
        let price = |arm: usize| self.arms[arm].price.value;
        let may = |arm: &usize| self.arms[*arm].price.count >= 2.0 && !self.lowers_rate::<R>(*arm);
        let cheaper = |arm: &usize| price(*arm) + self.arms[*arm].price.error() < 0.0;
        let best = (1..ARMS)
            .filter(|arm| may(arm) && cheaper(arm))
            .min_by(|&a, &b| price(a).total_cmp(&price(b)))
            .filter(|&best| price(best) <= -MARGIN)
            .map(|best| (1..best).find(|arm| may(arm) && price(*arm) < price(best) + SAME).unwrap_or(best));
        let present = Some(self.choice).filter(|&arm| arm != 0 && may(&arm));
        let choice = match (best, present) {
            (Some(best), Some(present)) if price(present) < price(best) + SAME => present,
            (None, Some(present)) if price(present) < -MARGIN / 2.0 => present,
            (best, _) => best.unwrap_or(0),
        };
        std::mem::replace(&mut self.choice, choice) != choice
    }

    /// The price of the choice to that of not lingering.
    pub fn price_ratio(&self) -> f32 {
        if self.choice == 0 { 1.0 } else { self.arms[self.choice].price.value.exp() }
    }

    /// Whether there are comparisons to go by.
    pub fn is_known(&self) -> bool {
        self.arms[1..].iter().any(|arm| arm.price.count >= 2.0 || arm.brief_rate.count >= 2.0)
    }

    /// Whether the rate is lower while it lingers so long: because datagrams are dropped, or as in
    /// a closed loop, whose peers wait for answers. Where one candidate certainly lowers it the
    /// others have to show that they do not.
    pub fn lowers_rate<R: Rules>(&self, arm: usize) -> bool {
        if arm == 0 || !R::COMPARES_RATES {
            return false;
        }
        let Arm { rate, brief_rate, drops, .. } = &self.arms[arm];
        if *drops > DROPPED {
            return true;
        }
        match (rate.count >= 2.0, self.is_closed()) {
            (true, false) => rate.is_below(LOST, SURE),
            (true, true) => rate.value < -LOST,
            (false, false) => brief_rate.is_below(LOST_BRIEFLY, CERTAIN),
            (false, true) => brief_rate.value < -LOST_BRIEFLY / 3.0,
        }
    }

    fn is_closed(&self) -> bool {
        self.arms[1..].iter().any(|arm| {
            arm.rate.is_below(2.0 * LOST, CERTAIN) || arm.brief_rate.is_below(LOST_BRIEFLY, CERTAIN + 1.0)
        })
    }

    /// The arm that is most worth another look, if any is.
    pub fn candidate<R: Rules>(&self) -> Option<usize> {
        let promise =
            |arm: &usize| self.arms[*arm].price.value - 1.5 * self.arms[*arm].price.error().min(1.0);
        (1..ARMS)
            .filter(|&arm| self.is_unsettled::<R>(arm) || self.is_promising(arm))
            .min_by(|a, b| promise(a).total_cmp(&promise(b)))
    }

    /// Whether it is the choice, or may turn out to be cheaper than the choice by this much.
    fn may_win(&self, arm: usize, margin: f32) -> bool {
        let (price, present) = (&self.arms[arm].price, self.arms[self.choice].price.value);
        arm == self.choice || price.value - price.error() < present - margin
    }

    /// Whether it saves the margin, but may or may not lower the rate.
    pub fn is_unsettled<R: Rules>(&self, arm: usize) -> bool {
        let Arm { price, rate, .. } = &self.arms[arm];
        if price.count < 1.0 || price.value >= -MARGIN || !self.may_win(arm, SAME) {
            return false;
        }
        match (rate.count >= 2.0, self.lowers_rate::<R>(arm)) {
            (false, lowers) => !lowers,
            (true, true) => rate.value + CERTAIN * rate.error() > 0.0,
            (true, false) => rate.value < -LOST,
        }
    }

    /// Whether it may turn out to save the margin, and to leave the rate alone; or it is the
    /// choice, and may turn out not to save the margin.
    fn is_promising(&self, arm: usize) -> bool {
        let Arm { price, rate, brief_rate, .. } = &self.arms[arm];
        let open = if arm == self.choice {
            price.value + 2.0 * price.error() > -MARGIN
        } else {
            self.may_win(arm, MARGIN)
        };
        (price.count < 2.0 || price.count < KNOWN && open)
            && !rate.is_below(0.0, SURE)
            && !brief_rate.is_below(LOST_BRIEFLY, SURE)
    }

    /// The saving at stake while an arm is unsettled.
    pub fn stakes<R: Rules>(&self) -> f32 {
        let unsettled = (1..ARMS).filter(|&arm| self.is_unsettled::<R>(arm));
        unsettled.map(|arm| -self.arms[arm].price.value).fold(0.0, f32::max).min(1.0)
    }

    /// The choice may well lower the rate.
    pub fn is_suspect(&self) -> bool {
        let Arm { rate, brief_rate, .. } = &self.arms[self.choice];
        let rate = if rate.count >= 2.0 { rate } else { brief_rate };
        self.choice != 0 && rate.is_below(LOST, 1.0)
    }

    /// The candidate with the least price.
    pub fn cheapest(&self) -> usize {
        let price = |arm: usize| self.arms[arm].price.value;
        (1..ARMS).min_by(|&a, &b| price(a).total_cmp(&price(b))).unwrap_or(1)
    }

    /// Whether a survey can do without this arm from here on.
    pub fn is_out<R: Rules>(&self, arm: usize) -> bool {
        let stay = (1..ARMS).filter(|&other| !self.lowers_rate::<R>(other));
        let least = stay.map(|other| self.arms[other].price.value).fold(0.0, f32::min);
        let price = &self.arms[arm].price;
        let dearer = price.value - 2.0 * price.error() > least + 0.03;
        price.count >= 2.0 && (dearer || self.lowers_rate::<R>(arm))
    }

    /// Whether it is certain that this arm saves the margin, or that it does not.
    pub fn is_certain(&self, arm: usize) -> bool {
        let price = &self.arms[arm].price;
        price.count >= 2.0 && (price.value + MARGIN).abs() > 2.0 * price.error()
    }
}
