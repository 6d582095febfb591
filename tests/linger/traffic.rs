//! What arrives, and when: open loops, whose senders do not care, and closed ones, whose clients
//! wait for answers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::random::Random;

/// The arrivals at a receiver; times in ns.
pub trait Arrivals {
    /// When the next one comes; infinity if none is under way.
    fn next(&mut self) -> f64;
    /// Takes the next one.
    fn take(&mut self);
    /// An answer was sent.
    fn answer(&mut self, now: f64);
    /// The only processor was the receiver's until `now`: peers come after that.
    fn hold(&mut self, now: f64);
}

#[derive(Debug, Clone)]
pub enum Kind {
    Paced,
    Poisson,
    /// Groups of `size` datagrams, `gap` apart, at even or at random distances.
    Groups { size: u32, gap: f64, even: bool },
    /// Another rate from the table every `period`.
    Switching { rates: [f64; 8], period: f64 },
}

/// Datagrams of a sender that never waits.
#[derive(Debug, Clone)]
pub struct Open {
    pub kind: Kind,
    /// Datagrams per second.
    pub rate: f64,
}

pub struct OpenArrivals {
    traffic: Open,
    random: Random,
    due: f64,
    left: u32,
    group: f64,
    /// On one processor, the sender comes so late.
    held: f64,
}

/// What a sender needs for a datagram when it catches up.
const SEND: f64 = 1_000.0;

impl Open {
    pub fn arrivals(&self, seed: u64) -> OpenArrivals {
        let random = Random::new(seed);
        let mut arrivals =
            OpenArrivals { traffic: self.clone(), random, due: 0.0, left: 0, group: 0.0, held: 0.0 };
        arrivals.take();
        arrivals
    }
}

impl Arrivals for OpenArrivals {
    #[inline]
    fn next(&mut self) -> f64 {
        self.due.max(self.held)
    }

    #[inline]
    fn take(&mut self) {
        if self.due < self.held {
            self.held += SEND;
        }
        let gap = 1e9 / self.traffic.rate;
        match &self.traffic.kind {
            Kind::Paced => self.due += gap,
            Kind::Poisson => self.due += self.random.exponential(gap),
            &Kind::Groups { size, gap: inside, even } => {
                if self.left > 0 {
                    self.left -= 1;
                    self.due += inside;
                } else {
                    let distance = gap * f64::from(size);
                    self.group += if even { distance } else { self.random.exponential(distance) };
                    self.group = self.group.max(self.due);
                    self.due = self.group;
                    self.left = size - 1;
                }
            }
            Kind::Switching { rates, period } => {
                self.due += 1e9 / rates[(self.due / period) as usize % rates.len()];
            }
        }
    }

    fn answer(&mut self, _now: f64) {}

    fn hold(&mut self, now: f64) {
        self.held = self.held.max(now);
    }
}

/// Clients that keep `window` requests under way.
#[derive(Debug, Clone)]
pub struct Closed {
    pub window: u32,
    pub clients: Clients,
}

#[derive(Debug, Clone)]
pub enum Clients {
    /// One process on this machine: what a request costs it, and how long it takes to wake up.
    Near { work: f64, wake: f64 },
    /// Many, beyond a network with this round trip.
    Far { round_trip: f64, jitter: f64, lost: f64 },
}

pub struct ClosedArrivals {
    traffic: Closed,
    random: Random,
    /// Requests in the order in which one process sends them.
    near: VecDeque<f64>,
    free: f64,
    far: BinaryHeap<Reverse<u64>>,
    held: f64,
}

impl Closed {
    pub fn arrivals(&self, seed: u64) -> ClosedArrivals {
        let times = (0..self.window).map(|request| f64::from(request) * 1_000.0);
        let near = matches!(self.clients, Clients::Near { .. });
        ClosedArrivals {
            traffic: self.clone(),
            random: Random::new(seed),
            near: if near { times.clone().collect() } else { VecDeque::new() },
            far: if near { BinaryHeap::new() } else { times.map(|time| Reverse(time as u64)).collect() },
            free: 0.0,
            held: 0.0,
        }
    }
}

impl Arrivals for ClosedArrivals {
    #[inline]
    fn next(&mut self) -> f64 {
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
                let start = if self.free < now { now + wake * self.random.between(0.7, 1.3) } else { self.free };
                self.free = start + work * self.random.between(0.8, 1.2);
                self.near.push_back(self.free);
            }
            Clients::Far { round_trip, jitter, lost } => {
                let lost = if self.random.chance(lost) { 1.0 } else { 0.0 };
                let time = now + round_trip * (1.0 - jitter + self.random.exponential(jitter) + lost);
                self.far.push(Reverse(time as u64));
            }
        }
    }

    fn hold(&mut self, now: f64) {
        if matches!(self.traffic.clients, Clients::Near { .. }) {
            self.held = self.held.max(now);
        }
    }
}
