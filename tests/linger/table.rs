//! The table of docs/lingering.md.

use ringmsg::linger::rules::Sound;

use crate::cases::{Case, Kind};
use crate::receiver::{Chooser, Run};
use crate::score::{Score, best_price, mean, quantile, score};
use crate::{SECONDS, each};

const CASES: u64 = 100;

/// What AUTO was before it measured: a threshold of the arrival rate, found on one machine.
#[derive(Default)]
struct Threshold {
    per_us: f64,
    last_ns: u64,
}

impl Chooser for Threshold {
    fn linger_us(&mut self) -> u32 {
        if self.per_us * 100.0 < 30.0 { 0 } else { (128.0 / self.per_us).clamp(1.0, 100.0) as u32 }
    }

    fn note(&mut self, now_ns: u64, datagrams: u32) -> bool {
        let elapsed = (now_ns - self.last_ns).max(1) as f64;
        self.last_ns = now_ns;
        let weight = elapsed / (elapsed + 5e6);
        self.per_us += weight * (f64::from(datagrams) * 1_000.0 / elapsed - self.per_us);
        false
    }
}

struct Row {
    fixed: [Run; 4],
    threshold: Run,
    learnt: Score,
}

pub fn print() {
    println!(
        "| traffic | 0 us | 20 us | 50 us | 100 us | threshold | AUTO: mean | 95 % | worst | rate: mean | 5 % | trials | readings |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let kinds = [
        (Kind::Paced, "evenly spaced"),
        (Kind::Poisson, "at random (Poisson)"),
        (Kind::Bursts, "bursts of 2 to 2,000"),
        (Kind::Triples, "threes at random"),
        (Kind::Trains, "trains of ten"),
        (Kind::Switching, "another rate every 0.1 to 1 s"),
        (Kind::Sockets, "many sockets"),
        (Kind::OneProcessor, "one processor"),
        (Kind::Disturbed, "other programs beside it"),
        (Kind::Near, "closed loop, one client process"),
        (Kind::Far, "closed loop, clients beyond a network"),
        (Kind::NearOneProcessor, "closed loop, one processor"),
    ];
    for (kind, name) in kinds {
        print_row(name, &each(kind, CASES, row));
    }
}

fn row(case: &Case) -> Row {
    let fixed = case.run_fixed(SECONDS);
    let threshold = case.run(&mut Threshold::default(), SECONDS);
    Row { threshold, learnt: score::<Sound>(case, &fixed, SECONDS), fixed }
}

fn print_row(name: &str, rows: &[Row]) {
    let price =
        |run: fn(&Row) -> &Run| mean(rows.iter().map(|row| run(row).price() / best_price(&row.fixed)));
    let learnt = || rows.iter().map(|row| row.learnt);
    print!(
        "| {name} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | ",
        price(|row| &row.fixed[0]),
        price(|row| &row.fixed[1]),
        price(|row| &row.fixed[2]),
        price(|row| &row.fixed[3]),
        price(|row| &row.threshold)
    );
    let regrets = || learnt().map(|score| score.regret);
    print!("{:.3} | {:.2} | {:.2} | ", mean(regrets()), quantile(regrets(), 0.95), quantile(regrets(), 1.0));
    let rates = || learnt().map(|score| score.rate);
    print!("{:.3} | {:.3} | ", mean(rates()), quantile(rates(), 0.05));
    println!(
        "{:.1} % | {:.2} % |",
        100.0 * mean(learnt().map(|score| score.trials)),
        100.0 * mean(learnt().map(|score| score.readings))
    );
}
