//! Random machines under random traffic, and how a policy fares there.

use ringmsg::linger::policy::{Policy, Report};
use ringmsg::linger::rules::Rules;
use ringmsg::linger::trial::Reading;

use crate::machine::Machine;
use crate::random::Random;
use crate::receiver::{Chooser, Fixed, Receiver, Run};
use crate::traffic::{Clients, Closed, Kind, Open};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    Paced,
    Poisson,
    Bursts,
    Triples,
    Trains,
    Switching,
    ManySockets,
    OneProcessor,
    ClosedNear,
    ClosedFar,
    ClosedOneProcessor,
    DearClock,
    LargeWindows,
    DearClockPoor,
    ClosedSteady,
}

#[derive(Debug, Clone)]
pub enum Traffic {
    Open(Open),
    Closed(Closed),
}

/// A machine and its traffic.
#[derive(Debug, Clone)]
pub struct Case {
    pub machine: Machine,
    pub traffic: Traffic,
    pub bound_us: u32,
    pub seed: u64,
}

pub struct Auto<R: Rules> {
    pub policy: Policy<R>,
    pub bound_us: u32,
    pub trace: bool,
    last: (u32, u64),
}

impl<R: Rules> Auto<R> {
    pub fn new(bound_us: u32) -> Self {
        Self { policy: Policy::new(), bound_us, trace: false, last: (0, 0) }
    }
}

impl<R: Rules> Chooser for Auto<R> {
    fn linger_us(&mut self) -> u32 {
        self.policy.linger_us(self.bound_us)
    }
    fn note(&mut self, now_ns: u64, datagrams: u32) -> bool {
        let read = self.policy.note(now_ns, datagrams);
        if self.trace {
            let report = self.policy.report();
            let state = (report.linger_us, report.trials);
            if state != self.last {
                self.last = state;
                println!("  {:9.2} ms {}", now_ns as f64 / 1e6, format!("{report:?}"));
            }
        }
        read
    }
    fn reading(&mut self, cpu_ns: u64, drops: u64) -> bool {
        self.policy.reading(Reading { cpu_ns, drops })
    }
}

impl Case {
    pub fn random(name: Name, index: u64) -> Self {
        let mut random = Random::new(index.wrapping_mul(7919) + 104_729 * name as u64);
        let mut machine = Machine::random(&mut random);
        let rate = random.log_between(100.0, 1e6);
        let every = 1e9 / random.log_between(100.0, 2_000.0);
        let groups = |size: u32, gap: f64, even| Kind::Groups { size, gap, even };
        let window = random.log_between(1.0, 257.0) as u32;
        let near = Clients::Near { work: random.log_between(1e3, 8e3), wake: random.log_between(2e3, 3e4) };
        let far = Clients::Far { round_trip: random.log_between(2e4, 5e6), jitter: 0.1, lost: 0.01 };
        let open = |kind, rate| Traffic::Open(Open { kind, rate });
        let traffic = match name {
            Name::Paced | Name::DearClock => open(Kind::Paced, rate),
            Name::Poisson => open(Kind::Poisson, rate),
            Name::Bursts => {
                let gap = random.log_between(600.0, 3_000.0);
                let size = random.log_between(2.0, (every / gap * 0.8).min(2_000.0)) as u32;
                open(groups(size, gap, true), f64::from(size) * 1e9 / every)
            }
            Name::Triples => open(groups(3, random.log_between(600.0, 3_000.0), false), random.log_between(100.0, 2e5)),
            Name::Trains => open(groups(10, 30.0, false), rate),
            Name::Switching => {
                let mut rates = [0.0; 8];
                rates.fill_with(|| random.log_between(1_000.0, 1e6));
                open(Kind::Switching { rates, period: random.log_between(1e8, 1e9) }, 1e6)
            }
            Name::ManySockets => {
                machine.datagram *= random.between(1.5, 3.0);
                open(Kind::Poisson, random.log_between(1e4, 3e5))
            }
            Name::OneProcessor => {
                machine = machine.on_one_processor(&mut random);
                let kind = match index % 3 {
                    0 => Kind::Paced,
                    1 => Kind::Poisson,
                    _ => groups(64, 600.0, true),
                };
                open(kind, random.log_between(100.0, 2e5))
            }
            Name::LargeWindows => {
                let window = random.log_between(96.0, 257.0) as u32;
                Traffic::Closed(Closed { window, clients: Clients::Near { work: random.log_between(2e3, 8e3), wake: random.log_between(2e3, 3e4) } })
            }
            Name::ClosedSteady => Traffic::Closed(Closed { window: random.log_between(8.0, 33.0) as u32, clients: Clients::Far { round_trip: random.log_between(2e5, 6e5), jitter: 0.005, lost: 0.0 } }),
            Name::DearClockPoor => open(Kind::Poisson, random.log_between(1e4, 2e5)),
            Name::ClosedNear => Traffic::Closed(Closed { window, clients: near }),
            Name::ClosedFar => Traffic::Closed(Closed { window, clients: far }),
            Name::ClosedOneProcessor => {
                machine = machine.on_one_processor(&mut random);
                Traffic::Closed(Closed { window, clients: near })
            }
        };
        if name == Name::DearClock || name == Name::DearClockPoor {
            machine.clock_read = random.log_between(5e3, 2e4);
        }
        // No overload by the program's own work.
        let most = match &traffic {
            Traffic::Open(Open { kind: Kind::Switching { rates, .. }, .. }) => rates.iter().copied().fold(0.0, f64::max),
            Traffic::Open(open) => open.rate,
            Traffic::Closed(_) => 0.0,
        };
        if machine.user * most > 0.5e9 {
            machine.user = 0.5e9 / most;
        }
        Self { machine, traffic, bound_us: 100, seed: index * 31 + name as u64 }
    }

    pub fn run<C: Chooser>(&self, chooser: &mut C, seconds: f64) -> Run {
        match &self.traffic {
            Traffic::Open(open) => Receiver::new(&self.machine, open.arrivals(self.seed), chooser, self.seed).run(seconds),
            Traffic::Closed(closed) => {
                Receiver::new(&self.machine, closed.arrivals(self.seed), chooser, self.seed).run(seconds)
            }
        }
    }

    pub fn lingers_us(&self) -> [u32; 4] {
        if self.bound_us <= 250 { [0, self.bound_us / 5, self.bound_us / 2, self.bound_us] } else { [0, self.bound_us / 25, self.bound_us / 5, self.bound_us] }
    }

    pub fn fixed(&self, seconds: f64) -> [Run; 4] {
        self.lingers_us().map(|us| self.run(&mut Fixed(us), seconds))
    }
}

/// How a policy fared.
#[derive(Debug, Clone, Copy)]
pub struct Score {
    /// Its price to that of the best fixed linger that keeps 98 % of the rate.
    pub regret: f64,
    /// Its rate to that of linger 0.
    pub rate: f64,
    pub readings: f64,
    pub report: Report,
}

pub fn best(fixed: &[Run; 4]) -> f64 {
    fixed.iter().filter(|run| run.rate() >= 0.98 * fixed[0].rate()).map(Run::price).fold(f64::INFINITY, f64::min)
}

pub fn score<R: Rules>(case: &Case, fixed: &[Run; 4], seconds: f64) -> Score {
    let mut auto = Auto::<R>::new(case.bound_us);
    let run = case.run(&mut auto, seconds);
    Score {
        regret: run.price() / best(fixed),
        rate: run.rate() / fixed[0].rate(),
        readings: run.readings_ns / run.cpu_ns,
        report: auto.policy.report(),
    }
}
