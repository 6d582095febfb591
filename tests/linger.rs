//! The learning linger (src/linger/) on simulated machines: what it costs beside the best fixed
//! linger, that it leaves closed loops alone, and that each of its rules is needed. Every seed is
//! fixed. `make linger-table` prints the table of docs/lingering.md.

#[path = "linger/cases.rs"]
mod cases;
#[path = "linger/machine.rs"]
mod machine;
#[path = "linger/random.rs"]
mod random;
#[path = "linger/receiver.rs"]
mod receiver;
#[path = "linger/score.rs"]
mod score;
#[path = "linger/table.rs"]
mod table;
#[path = "linger/traffic.rs"]
mod traffic;

use std::sync::atomic::{AtomicUsize, Ordering};

use ringmsg::linger::policy::Policy;
use ringmsg::linger::rules::{Rules, Sound};
use ringmsg::linger::trial::Reading;

use cases::{Case, Kind, Traffic};
use machine::Machine;
use receiver::{Chooser, Run};
use score::{Auto, Score, faults, mean, score};
use traffic::{Clients, Closed, Open};

/// How long a machine is simulated, from a cold start.
const SECONDS: f64 = 2.0;

/// What `run` makes of every case of this kind, on all processors.
fn each<T: Send>(kind: Kind, cases: u64, run: impl Fn(&Case) -> T + Sync) -> Vec<T> {
    let (next, cases) = (AtomicUsize::new(0), cases as usize);
    let worker = || {
        let indices = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
        let mine = indices.take_while(|&index| index < cases);
        mine.map(|index| (index, run(&Case::random(kind, index as u64)))).collect::<Vec<_>>()
    };
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get());
    let mut found: Vec<(usize, T)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a simulation failed")).collect()
    });
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, value)| value).collect()
}

/// The sound policy must do well, and the mutant `M` must not, on the same machines.
fn check_mutant<M: Rules>(kind: Kind, cases: u64) {
    let both = each(kind, cases, |case| {
        let fixed = case.run_fixed(SECONDS);
        (score::<Sound>(case, &fixed, SECONDS), score::<M>(case, &fixed, SECONDS))
    });
    let (sound, mutant): (Vec<Score>, Vec<Score>) = both.into_iter().unzip();
    let found = faults(kind, &sound);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let found = faults(kind, &mutant);
    println!("{}", found.join("\n"));
    assert!(!found.is_empty(), "{kind:?}: no test notices this mutant");
}

/// The sound policy must do well on machines of this kind.
fn check(kind: Kind, cases: u64) {
    let scores = each(kind, cases, |case| score::<Sound>(case, &case.run_fixed(SECONDS), SECONDS));
    let found = faults(kind, &scores);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn open_loops_cost_little_more_than_with_the_best_fixed_linger() {
    let kinds = [Kind::Paced, Kind::Poisson, Kind::Triples, Kind::Trains, Kind::Switching, Kind::Sockets];
    for kind in kinds {
        check(kind, 24);
    }
    check(Kind::OneProcessor, 24);
}

#[test]
fn a_closed_loop_on_one_processor_keeps_its_rate() {
    check(Kind::NearOneProcessor, 24);
}

/// Prices alone are not enough: with a window of 16 a linger looks cheaper, and costs a third of
/// the rate.
#[test]
fn without_comparing_rates_closed_loops_get_slower() {
    struct Mutant;
    impl Rules for Mutant {
        const COMPARES_RATES: bool = false;
    }
    check_mutant::<Mutant>(Kind::Closed, 60);
}

/// One pass of short blocks misses a loss of the rate.
#[test]
fn without_a_second_look_closed_loops_get_slower() {
    struct Mutant;
    impl Rules for Mutant {
        const LOOKS_AGAIN: bool = false;
    }
    check_mutant::<Mutant>(Kind::Closed, 60);
}

/// A block that holds a part of a burst measures the part.
#[test]
fn without_alignment_bursts_are_misjudged() {
    struct Mutant;
    impl Rules for Mutant {
        const ALIGNS_BLOCKS: bool = false;
    }
    check_mutant::<Mutant>(Kind::Bursts, 60);
}

/// When the linger changes, a closed loop pauses once; that is no loss of the rate.
#[test]
fn without_a_lead_in_large_windows_are_misjudged() {
    struct Mutant;
    impl Rules for Mutant {
        const LEADS_IN: bool = false;
    }
    check_mutant::<Mutant>(Kind::Refilling, 36);
}

/// A reading in either block of a pair makes their prices look alike.
#[test]
fn with_readings_in_them_prices_are_wrong() {
    struct Mutant;
    impl Rules for Mutant {
        const SUBTRACTS_READINGS: bool = false;
    }
    check_mutant::<Mutant>(Kind::DearClock, 36);
}

/// The policy, and what it did when.
struct Recorded {
    auto: Auto<Sound>,
    now_ns: u64,
    /// The time, the linger and the number of trials, whenever they changed.
    history: Vec<(u64, u32, u64)>,
    /// In every second block, how late the receiver is once.
    stall: f64,
    readings: u64,
    /// A reap with this number, and every multiple, is of another thread, whose clock is another.
    thread_changes: Option<u64>,
    reaps: u64,
}

impl Recorded {
    fn new() -> Self {
        Self {
            auto: Auto::new(100),
            now_ns: 0,
            history: Vec::new(),
            stall: 0.0,
            readings: 0,
            thread_changes: None,
            reaps: 0,
        }
    }

    /// The share of the time after `from_ns` in which the choice was this one.
    fn share_of(&self, linger_us: u32, from_ns: u64) -> f64 {
        let ends = self.history.iter().skip(1).map(|entry| entry.0).chain([self.now_ns]);
        let after = |(entry, end): (&(u64, u32, u64), u64)| {
            let ns = end.saturating_sub(entry.0.max(from_ns));
            if entry.1 == linger_us { ns } else { 0 }
        };
        let total: u64 = self.history.iter().zip(ends).map(after).sum();
        total as f64 / (self.now_ns - from_ns) as f64
    }
}

impl Chooser for Recorded {
    fn linger_us(&mut self) -> u32 {
        self.auto.linger_us()
    }

    fn note(&mut self, now_ns: u64, datagrams: u32) -> bool {
        self.now_ns = now_ns;
        self.reaps += 1;
        if self.thread_changes.is_some_and(|every| self.reaps % every == 0) {
            self.auto.policy.void();
        }
        let read = self.auto.note(now_ns, datagrams);
        let report = self.auto.policy.report();
        if self.history.last().is_none_or(|last| (last.1, last.2) != (report.linger_us, report.trials)) {
            self.history.push((now_ns, report.linger_us, report.trials));
        }
        read
    }

    fn reading(&mut self, cpu_ns: u64, drops: u64) -> bool {
        self.readings += 1;
        // Threads have used different CPU times so far.
        let thread = self.thread_changes.map_or(0, |every| self.reaps / every % 2);
        self.auto.reading(cpu_ns + thread * 1_000_000_000_000, drops)
    }

    fn stall(&mut self) -> f64 {
        // A block has a reading at either end.
        let late = self.readings % 4 == 1;
        if late {
            self.readings += 1;
        }
        if late { self.stall } else { 0.0 }
    }
}

fn run(machine: Machine, traffic: Traffic, chooser: &mut impl Chooser, seconds: f64) -> Run {
    Case { machine, traffic, absence: None, bound_us: 100, seed: 7 }.run(chooser, seconds)
}

fn open(traffic: Open) -> Traffic {
    Traffic::Open(traffic)
}

/// A lone datagram is not delayed, and where there is nothing to gain nothing is tried.
#[test]
fn rare_datagrams_see_neither_a_linger_nor_a_trial() {
    for rate in [1.0, 30.0, 300.0, 900.0] {
        for traffic in [Open::Paced { rate }, Open::Poisson { rate }] {
            let mut recorded = Recorded::new();
            run(Machine::plain(), open(traffic), &mut recorded, 20.0);
            let report = recorded.auto.policy.report();
            assert_eq!((report.trials, recorded.readings), (0, 0), "at {rate} per second");
            assert!(recorded.history.iter().all(|entry| entry.1 == 0), "at {rate} per second");
        }
    }
}

/// An expensive wake-up and a cheap timer: the longest linger is right, and random arrivals are no
/// reason to give it up.
#[test]
fn poisson_traffic_gets_the_longest_linger_and_keeps_it() {
    let mut recorded = Recorded::new();
    run(Machine::plain(), open(Open::Poisson { rate: 36e3 }), &mut recorded, 4.0);
    let share = recorded.share_of(100, 500_000_000);
    assert!(share > 0.95, "100 us were chosen for {share:.3} of the time: {:?}", recorded.history);
}

/// Where the client is what limits a closed loop lingering costs no rate.
#[test]
fn a_large_window_is_not_barred() {
    let clients = Clients::Near { work: 3_000.0, wake: 5_000.0 };
    let closed = Closed { window: 255, clients, refill: 3e4 };
    let mut recorded = Recorded::new();
    run(Machine::plain(), Traffic::Closed(closed), &mut recorded, 2.0);
    let share = recorded.share_of(100, 300_000_000);
    assert!(share > 0.9, "100 us were chosen for {share:.3} of the time: {:?}", recorded.history);
}

/// What was learnt at a rate is used when the traffic is back at it, without a trial.
#[test]
fn a_rate_that_was_seen_before_needs_no_trial() {
    let (slow, fast) = (4e3, 2e5);
    let period = 1_000_000_000;
    let rates = [slow, fast, slow, fast, slow, fast, slow, fast];
    let mut recorded = Recorded::new();
    let traffic = Open::Switching { rates, period: period as f64 };
    run(Machine::plain(), open(traffic), &mut recorded, 6.0);
    // The rate has changed, was noticed, and the choice is the one from before.
    for change in [3, 5] {
        let from = change * period;
        let back = recorded.history.iter().find(|entry| entry.0 >= from && entry.1 == 100);
        let &(at, _, trials) = back.expect("the fast traffic had a linger before");
        let before = recorded.history.iter().rfind(|entry| entry.0 < from).expect("there was a choice").2;
        assert!(at < from + 25_000_000, "it took {} us", (at - from) / 1_000);
        assert_eq!(trials, before, "trials, until the choice was made");
    }
}

/// A receiver that is kept from running for 3 ms in every second block measures what is right.
#[test]
fn stalls_do_not_lead_it_astray() {
    for (rate, best) in [(1e5, 100), (1.5e4, 0)] {
        let mut recorded = Recorded { stall: 3e6, ..Recorded::new() };
        let machine = Machine { timer: if best == 0 { 8_000.0 } else { 100.0 }, ..Machine::plain() };
        run(machine, open(Open::Paced { rate }), &mut recorded, 4.0);
        let share = recorded.share_of(best, 1_000_000_000);
        assert!(recorded.auto.policy.report().trials >= 2, "{:?}", recorded.history);
        assert!(share > 0.9, "{best} us were chosen for {share:.3} of the time: {:?}", recorded.history);
    }
}

/// Two threads reap in turn, each with a CPU clock of its own. A block in which the thread changes
/// is void: readings of different clocks are never compared.
#[test]
fn a_block_in_which_the_thread_changes_is_void() {
    // Now and then, so that most blocks are whole.
    let mut recorded = Recorded { thread_changes: Some(2_000), ..Recorded::new() };
    run(Machine::plain(), open(Open::Paced { rate: 1e5 }), &mut recorded, 4.0);
    let share = recorded.share_of(100, 1_000_000_000);
    assert!(share > 0.9, "100 us were chosen for {share:.3} of the time: {:?}", recorded.history);
    let prices = &recorded.auto.policy.estimates().arms[1..];
    assert!(prices.iter().all(|arm| arm.price.value.abs() < 1.9), "{prices:?}");
    // With every reap: no block is whole, trials end, and are not begun again and again.
    let mut recorded = Recorded { thread_changes: Some(1), ..Recorded::new() };
    let run = run(Machine::plain(), open(Open::Paced { rate: 1e5 }), &mut recorded, 4.0);
    let report = recorded.auto.policy.report();
    assert!(recorded.history.iter().all(|entry| entry.1 == 0), "{:?}", recorded.history);
    assert!(report.trials < 40 && run.readings < 400, "{report:?}, {} readings", run.readings);
}

/// An arm with which the kernel drops more datagrams is not used, though it is the cheapest.
#[test]
fn an_arm_that_loses_datagrams_is_barred() {
    // A hundredth of the datagrams more, which no comparison of rates would notice.
    struct Dropping {
        auto: Auto<Sound>,
        drops: f64,
    }
    impl Chooser for Dropping {
        fn linger_us(&mut self) -> u32 {
            self.auto.linger_us()
        }
        fn note(&mut self, now_ns: u64, datagrams: u32) -> bool {
            if self.auto.linger_us() == 100 {
                self.drops += 0.01 * f64::from(datagrams);
            }
            self.auto.note(now_ns, datagrams)
        }
        fn reading(&mut self, cpu_ns: u64, _: u64) -> bool {
            self.auto.reading(cpu_ns, self.drops as u64)
        }
    }
    let mut dropping = Dropping { auto: Auto::new(100), drops: 0.0 };
    run(Machine::plain(), open(Open::Paced { rate: 1e5 }), &mut dropping, 2.0);
    assert_eq!(dropping.auto.policy.report().linger_us, 50);
    let mut auto = Auto::<Sound>::new(100);
    run(Machine::plain(), open(Open::Paced { rate: 1e5 }), &mut auto, 2.0);
    assert_eq!(auto.policy.report().linger_us, 100);
}

/// Readings of the thread's clock take less than a thousandth of the CPU time in ten seconds.
#[test]
fn the_clock_is_read_rarely() {
    for rate in [4e3, 1e4, 1e5, 5e5] {
        for traffic in [Open::Paced { rate }, Open::Poisson { rate }] {
            let mut auto = Auto::<Sound>::new(100);
            let run = run(Machine::plain(), open(traffic), &mut auto, 10.0);
            let share = run.readings_ns / run.cpu_ns;
            assert!(share < 0.001, "at {rate} per second: {share:.5}, {} readings", run.readings);
        }
    }
}

/// A bound that was asked for is kept from the next reap on; a new one is learnt for when it stays.
#[test]
fn the_bound_may_change_with_every_reap() {
    struct Bounded {
        policy: Policy,
        reaps: u64,
        bound_us: fn(u64) -> u32,
        longest: u32,
    }
    impl Chooser for Bounded {
        fn linger_us(&mut self) -> u32 {
            self.reaps += 1;
            let bound_us = (self.bound_us)(self.reaps);
            let linger_us = self.policy.linger_us(bound_us);
            assert!(linger_us <= bound_us);
            self.longest = self.longest.max(linger_us);
            linger_us
        }
        fn note(&mut self, now_ns: u64, datagrams: u32) -> bool {
            self.policy.note(now_ns, datagrams.into())
        }
        fn reading(&mut self, cpu_ns: u64, drops: u64) -> bool {
            self.policy.reading(Reading { cpu_ns, drops })
        }
    }
    let linger_us = |bound_us| {
        let mut bounded = Bounded { policy: Policy::new(), reaps: 0, bound_us, longest: 0 };
        run(Machine::plain(), open(Open::Paced { rate: 1e5 }), &mut bounded, 2.0);
        (bounded.policy.report().linger_us, bounded.longest)
    };
    assert_eq!(linger_us(|_| 0), (0, 0));
    assert_eq!(linger_us(|_| 50), (50, 50));
    assert_eq!(linger_us(|_| 1_000).0, 1_000);
    assert_eq!(linger_us(|reap| if reap < 5_000 { 200 } else { 40 }).0, 40);
    // In turn: the first is learnt for, and the second cuts it.
    assert_eq!(linger_us(|reap| if reap % 2 == 0 { 100 } else { 40 }), (40, 40));
}

/// With a long bound a collapsing candidate is given up at once: the trials of a bound of 1 ms must
/// not cost a closed loop its rate.
#[test]
fn a_long_bound_costs_closed_loops_little() {
    for (bound_us, least) in [(1_000, 0.985), (10_000, 0.97)] {
        let rates = each(Kind::Near, 24, |case| {
            let case = Case { bound_us, ..case.clone() };
            let without = case.run(&mut receiver::Fixed(0), SECONDS);
            case.run(&mut Auto::<Sound>::new(bound_us), SECONDS).rate() / without.rate()
        });
        let rate = mean(rates.into_iter());
        assert!(rate >= least, "with a bound of {bound_us} us the mean rate is {rate:.3}");
    }
}

/// Not a test: prints a table for the documentation.
#[test]
#[ignore = "prints the table of docs/lingering.md: make linger-table"]
fn table() {
    table::print();
}
