//! What arrives, and when. In an open loop the senders do not care; in a closed one the clients
//! wait for answers. All times are in ns.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::random::Random;

/// The arrivals at a receiver.
pub trait Arrivals {
    /// When the next one comes; infinity if none is under way.
    fn next(&self) -> f64;
    /// Takes the next one.
    fn take(&mut self);
    /// An answer was sent.
    fn answer(&mut self, _now: f64) {}
    /// The only processor was the receiver's until `now`: its peers go on from there.
    fn hold(&mut self, now: f64);
    /// The linger was changed.
    fn refill(&mut self, _now: f64) {}
}

/// How datagrams come from senders that do not wait.
#[derive(Debug, Clone)]
pub enum Open {
    /// At even distances.
    Paced {
        rate: f64,
    },
    Poisson {
        rate: f64,
    },
    /// Groups of `size`, with `gap` between two datagrams, at even or at random distances.
    Groups {
        rate: f64,
        size: u32,
        gap: f64,
        even: bool,
    },
    /// At even distances, with the next of these rates after every `period`.
    Switching {
        rates: [f64; 8],
        period: f64,
    },
}

impl Open {
    /// Datagrams per second, at most.
    pub fn rate(&self) -> f64 {
        match self {
            Self::Paced { rate } | Self::Poisson { rate } | Self::Groups { rate, .. } => *rate,
            Self::Switching { rates, .. } => rates.iter().copied().fold(0.0, f64::max),
        }
    }

    /// The sender does not run for up to `absence` every now and then, and then catches up.
    pub fn arrivals(&self, absence: Option<Absence>, seed: u64) -> OpenArrivals {
        let random = Random::new(seed);
        let mut arrivals = OpenArrivals {
            traffic: self.clone(),
            random,
            due: 0.0,
            left: 0,
            group: 0.0,
            held: 0.0,
            absence,
            absent: 0.0,
        };
        arrivals.take();
        arrivals
    }
}

/// Other programs run on the sender's processor: how far apart on average, and for how long at
/// most.
#[derive(Debug, Clone, Copy)]
pub struct Absence {
    pub every: f64,
    pub most: f64,
}

pub struct OpenArrivals {
    traffic: Open,
    random: Random,
    due: f64,
    /// What is left of the group, and when it began.
    left: u32,
    group: f64,
    held: f64,
    absence: Option<Absence>,
    /// When the sender is absent next.
    absent: f64,
}

/// What a sender takes for a datagram when it is late.
const SEND: f64 = 1_000.0;

impl Arrivals for OpenArrivals {
    #[inline]
    fn next(&self) -> f64 {
        self.due.max(self.held)
    }

    #[inline]
    fn take(&mut self) {
        if self.due < self.held {
            self.held += SEND;
        }
        if let Some(Absence { every, most }) = self.absence.filter(|_| self.due > self.absent) {
            self.held = self.held.max(self.due + most * self.random.unit());
            self.absent = self.due + self.random.exponential(every);
        }
        match &self.traffic {
            Open::Paced { rate } => self.due += 1e9 / rate,
            Open::Poisson { rate } => self.due += self.random.exponential(1e9 / rate),
            Open::Groups { gap, .. } if self.left > 0 => {
                self.left -= 1;
                self.due += gap;
            }
            Open::Groups { rate, size, even, .. } => {
                let distance = f64::from(*size) * 1e9 / rate;
                self.group += if *even { distance } else { self.random.exponential(distance) };
                self.group = self.group.max(self.due);
                self.due = self.group;
                self.left = size - 1;
            }
            Open::Switching { rates, period } => {
                self.due += 1e9 / rates[(self.due / period) as usize % rates.len()];
            }
        }
    }

    fn hold(&mut self, now: f64) {
        self.held = self.held.max(now);
    }
}

/// Clients that keep `window` requests under way.
#[derive(Debug, Clone)]
pub struct Closed {
    pub window: u32,
    pub clients: Clients,
    /// How long nothing comes when the linger has changed: until the requests are spread again.
    pub refill: f64,
}

#[derive(Debug, Clone)]
pub enum Clients {
    /// One process: what a request costs it, and how long it takes to wake up.
    Near { work: f64, wake: f64 },
    /// Many, beyond a network: a round trip, its relative jitter, and how often it takes twice as
    /// long.
    Far { round_trip: f64, jitter: f64, late: f64 },
}

pub struct ClosedArrivals {
    traffic: Closed,
    random: Random,
    /// Requests in the order in which one process sends them, and when it has sent all.
    near: VecDeque<f64>,
    free: f64,
    /// Requests of many.
    far: BinaryHeap<Reverse<u64>>,
    held: f64,
}

impl Closed {
    pub fn arrivals(&self, seed: u64) -> ClosedArrivals {
        let times = (0..self.window).map(|request| f64::from(request) * 1_000.0);
        let is_near = matches!(self.clients, Clients::Near { .. });
        let near = if is_near { times.clone().collect() } else { VecDeque::new() };
        let far = if is_near { BinaryHeap::new() } else { times.map(|time| Reverse(time as u64)).collect() };
        ClosedArrivals { traffic: self.clone(), random: Random::new(seed), near, free: 0.0, far, held: 0.0 }
    }
}

impl Arrivals for ClosedArrivals {
    #[inline]
    fn next(&self) -> f64 {
        let next = match self.traffic.clients {
            Clients::Near { .. } => self.near.front().copied(),
            Clients::Far { .. } => self.far.peek().map(|&Reverse(time)| time as f64),
        };
        next.unwrap_or(f64::INFINITY).max(self.held)
    }

    #[inline]
    fn take(&mut self) {
        match self.traffic.clients {
            Clients::Near { .. } => drop(self.near.pop_front()),
            Clients::Far { .. } => drop(self.far.pop()),
        }
    }

    fn answer(&mut self, now: f64) {
        match self.traffic.clients {
            Clients::Near { work, wake } => {
                let now = now.max(self.held);
                let start =
                    if self.free < now { now + wake * self.random.between(0.7, 1.3) } else { self.free };
                self.free = start + work * self.random.between(0.8, 1.2);
                self.near.push_back(self.free);
            }
            Clients::Far { round_trip, jitter, late } => {
                let twice = if self.random.chance(late) { 1.0 } else { 0.0 };
                let trips = 1.0 - jitter + self.random.exponential(jitter) + twice;
                self.far.push(Reverse((now + round_trip * trips) as u64));
            }
        }
    }

    fn hold(&mut self, now: f64) {
        if matches!(self.traffic.clients, Clients::Near { .. }) {
            self.held = self.held.max(now);
        }
    }

    fn refill(&mut self, now: f64) {
        let refill = self.traffic.refill;
        self.free = self.free.max(now) + refill;
        self.near.iter_mut().for_each(|time| *time += refill);
    }
}
