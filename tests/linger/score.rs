//! How the policy fares in a case, and what it may cost.

use ringmsg::linger::policy::Policy;
use ringmsg::linger::rules::Rules;
use ringmsg::linger::trial::Reading;

use crate::cases::{Case, Kind};
use crate::receiver::{Chooser, Run};

/// The policy as a chooser.
pub struct Auto<R: Rules> {
    pub policy: Policy<R>,
    pub bound_us: u32,
}

impl<R: Rules> Auto<R> {
    pub fn new(bound_us: u32) -> Self {
        Self { policy: Policy::new(), bound_us }
    }
}

impl<R: Rules> Chooser for Auto<R> {
    fn linger_us(&mut self) -> u32 {
        self.policy.linger_us(self.bound_us)
    }

    fn note(&mut self, now_ns: u64, datagrams: u32) -> bool {
        self.policy.note(now_ns, datagrams.into())
    }

    fn reading(&mut self, cpu_ns: u64, drops: u64) -> bool {
        self.policy.reading(Reading { cpu_ns, drops })
    }
}

/// How the policy fared in one case.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    /// Its price, to the best of the fixed lingers that keep the rate.
    pub regret: f64,
    /// Its rate, to that without linger.
    pub rate: f64,
    /// The share of its CPU time that went into reading the clock.
    pub readings: f64,
    /// The share of the time that it spent on trials.
    pub trials: f64,
    /// For each candidate that was compared often: the log ratio of its price to that without
    /// linger, as the policy found it and as it is.
    pub prices: [Option<(f64, f64)>; 3],
}

/// The least price of a fixed linger that keeps 98 % of the rate.
pub fn best_price(fixed: &[Run; 4]) -> f64 {
    let keeps = |run: &&Run| run.rate() >= 0.98 * fixed[0].rate();
    fixed.iter().filter(keeps).map(Run::price).fold(f64::INFINITY, f64::min)
}

pub fn score<R: Rules>(case: &Case, fixed: &[Run; 4], seconds: f64) -> Score {
    let mut auto = Auto::<R>::new(case.bound_us);
    let run = case.run(&mut auto, seconds);
    let report = auto.policy.report();
    let arms = &auto.policy.estimates().arms;
    let prices = std::array::from_fn(|candidate| {
        let price = arms[candidate + 1].price;
        let is = (fixed[candidate + 1].price() / fixed[0].price()).ln();
        (price.count >= 4.0).then_some((f64::from(price.value), is))
    });
    Score {
        regret: run.price() / best_price(fixed),
        rate: run.rate() / fixed[0].rate(),
        readings: run.readings_ns / run.cpu_ns,
        trials: report.trial_ns as f64 / run.wall_ns,
        prices,
    }
}

pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}

/// The value that this share of them does not exceed.
pub fn quantile(values: impl Iterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// By how much the policy's price ratios are nearer to 1 than they should be: 1 is right, and 0.5
/// is half of the logarithm.
pub fn steepness(scores: &[Score]) -> f64 {
    let prices = scores.iter().flat_map(|score| score.prices.iter().flatten());
    let (found, is) =
        prices.fold((0.0, 0.0), |(found, is), pair| (found + pair.0 * pair.1, is + pair.1 * pair.1));
    found / is
}

/// What is wrong with these scores; empty: nothing.
pub fn faults(kind: Kind, scores: &[Score]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |what: &str, value: f64, low: f64, high: f64| {
        if !(low..=high).contains(&value) {
            faults.push(format!("{kind:?}: {what} is {value:.3}, not within {low} and {high}"));
        }
    };
    let (most, rarely) = if kind == Kind::Switching { (1.08, 1.25) } else { (1.04, 1.12) };
    let regrets = || scores.iter().map(|score| score.regret);
    check("the mean regret", mean(regrets()), 0.0, most);
    check("the 95 % quantile of the regret", quantile(regrets(), 0.95), 0.0, rarely);
    let rates = || scores.iter().map(|score| score.rate);
    check("the mean rate", mean(rates()), 0.985, f64::INFINITY);
    if kind != Kind::NearOneProcessor {
        // There the twin of a run without linger may differ by a fifth.
        check("the 5 % quantile of the rate", quantile(rates(), 0.05), 0.97, f64::INFINITY);
    }
    if kind == Kind::DearClock {
        check("the steepness of the prices", steepness(scores), 0.95, 1.05);
    }
    faults
}
