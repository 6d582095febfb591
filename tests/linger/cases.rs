//! Machines and their traffic, at random.

use crate::machine::Machine;
use crate::random::Random;
use crate::receiver::{Chooser, Fixed, Receiver, Run};
use crate::traffic::{Absence, Clients, Closed, Open};

/// The kinds of traffic; machines too, where the kind needs one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Paced,
    Poisson,
    Bursts,
    Triples,
    Trains,
    Switching,
    /// A datagram of each of many sockets in turn, which costs more each.
    Sockets,
    /// Paced, Poisson and bursts, on one processor.
    OneProcessor,
    /// Evenly spaced, but other programs run on both processors.
    Disturbed,
    /// Reading the clock costs as much as many a reap.
    DearClock,
    /// One process as the client.
    Near,
    /// Many clients beyond a network.
    Far,
    /// Either in turn.
    Closed,
    /// One process with a large window, which it fills again after each change of the linger.
    Refilling,
    /// One process, on one processor.
    NearOneProcessor,
}

impl Kind {
    pub fn is_closed(self) -> bool {
        matches!(self, Self::Near | Self::Far | Self::Closed | Self::Refilling | Self::NearOneProcessor)
    }
}

#[derive(Debug, Clone)]
pub enum Traffic {
    Open(Open),
    Closed(Closed),
}

#[derive(Debug, Clone)]
pub struct Case {
    pub machine: Machine,
    pub traffic: Traffic,
    pub absence: Option<Absence>,
    pub bound_us: u32,
    pub seed: u64,
}

impl Case {
    pub fn random(kind: Kind, index: u64) -> Self {
        let kind = match (kind, index % 2) {
            (Kind::Closed, 0) => Kind::Near,
            (Kind::Closed, _) => Kind::Far,
            (kind, _) => kind,
        };
        let seed = index * 31 + kind as u64;
        let mut random = Random::new(seed);
        let mut machine = Machine::random(&mut random);
        let traffic =
            if kind.is_closed() { closed(kind, &mut random) } else { open(kind, index, &mut random) };
        let mut absence = None;
        match kind {
            Kind::Sockets => machine.datagram *= random.between(1.5, 3.0),
            Kind::OneProcessor | Kind::NearOneProcessor => machine = machine.on_one_processor(&mut random),
            Kind::Disturbed => {
                machine.slice = random.log_between(5e5, 4e6);
                machine.busy = random.log_between(1e-3, 3e-2);
                absence = Some(Absence { every: random.log_between(3e6, 3e7), most: machine.slice });
            }
            Kind::DearClock => machine.clock_read = random.log_between(1e4, 3e4),
            _ => {}
        }
        if let Traffic::Open(open) = &traffic {
            // The program keeps up with half a processor.
            machine.user = machine.user.min(0.5e9 / open.rate());
        }
        Self { machine, traffic, absence, bound_us: 100, seed }
    }

    /// A receiver for this many seconds.
    pub fn run<C: Chooser>(&self, chooser: &mut C, seconds: f64) -> Run {
        let (machine, seed) = (&self.machine, self.seed);
        match &self.traffic {
            Traffic::Open(open) => {
                Receiver::new(machine, open.arrivals(self.absence, seed), chooser, seed).run(seconds)
            }
            Traffic::Closed(closed) => {
                Receiver::new(machine, closed.arrivals(seed), chooser, seed).run(seconds)
            }
        }
    }

    /// The same with each of the fixed lingers that the policy has to choose from.
    pub fn run_fixed(&self, seconds: f64) -> [Run; 4] {
        let bound_us = self.bound_us;
        let (least, middle) = if bound_us <= 250 { (5, 2) } else { (25, 5) };
        [0, bound_us / least, bound_us / middle, bound_us].map(|us| self.run(&mut Fixed(us), seconds))
    }
}

fn open(kind: Kind, index: u64, random: &mut Random) -> Traffic {
    let rate = random.log_between(100.0, 1e6);
    let gap = random.log_between(600.0, 3_000.0);
    Traffic::Open(match kind {
        Kind::Poisson => Open::Poisson { rate },
        Kind::Bursts => {
            let period = 1e9 / random.log_between(100.0, 2_000.0);
            let size = random.log_between(2.0, (period / gap * 0.8).min(2_000.0)) as u32;
            Open::Groups { rate: f64::from(size) * 1e9 / period, size, gap, even: true }
        }
        Kind::Triples => Open::Groups { rate: random.log_between(100.0, 2e5), size: 3, gap, even: false },
        Kind::Trains => Open::Groups { rate, size: 10, gap: 30.0, even: false },
        Kind::Switching => {
            let rates = std::array::from_fn(|_| random.log_between(1e3, 1e6));
            Open::Switching { rates, period: random.log_between(1e8, 1e9) }
        }
        Kind::Sockets => Open::Poisson { rate: random.log_between(1e4, 3e5) },
        Kind::OneProcessor => {
            let rate = random.log_between(100.0, 2e5);
            match index % 3 {
                0 => Open::Paced { rate },
                1 => Open::Poisson { rate },
                _ => Open::Groups { rate, size: 64, gap: 600.0, even: true },
            }
        }
        Kind::DearClock => Open::Paced { rate: random.log_between(5e3, 2e5) },
        _ => Open::Paced { rate },
    })
}

fn closed(kind: Kind, random: &mut Random) -> Traffic {
    let window = random.log_between(1.0, 257.0) as u32;
    let near = Clients::Near { work: random.log_between(1e3, 8e3), wake: random.log_between(2e3, 3e4) };
    Traffic::Closed(match kind {
        Kind::Far => {
            let round_trip = random.log_between(2e4, 5e6);
            Closed { window, clients: Clients::Far { round_trip, jitter: 0.1, late: 0.01 }, refill: 0.0 }
        }
        Kind::Refilling => {
            let window = random.log_between(96.0, 257.0) as u32;
            Closed { window, clients: near, refill: random.log_between(2e4, 6e4) }
        }
        _ => Closed { window, clients: near, refill: 0.0 },
    })
}
