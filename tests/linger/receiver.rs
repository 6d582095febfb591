//! A receiver that reaps in a loop, as a ring in DEFER mode does with a minimum wait.

use crate::machine::Machine;
use crate::random::Random;
use crate::traffic::Arrivals;

/// What chooses the linger.
pub trait Chooser {
    fn linger_us(&mut self) -> u32;
    /// A reap is over. Returns whether the thread's clock is to be read.
    fn note(&mut self, _now_ns: u64, _datagrams: u32) -> bool {
        false
    }
    /// Takes a reading. Returns whether another is wanted at once.
    fn reading(&mut self, _cpu_ns: u64, _drops: u64) -> bool {
        false
    }
    /// How much later than it would the receiver runs next, in ns.
    fn stall(&mut self) -> f64 {
        0.0
    }
}

/// The same linger always, in microseconds.
pub struct Fixed(pub u32);

impl Chooser for Fixed {
    fn linger_us(&mut self) -> u32 {
        self.0
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Run {
    pub datagrams: u64,
    pub drops: u64,
    pub cpu_ns: f64,
    pub wall_ns: f64,
    /// Readings of the thread's clock, and what of `cpu_ns` they took.
    pub readings: u64,
    pub readings_ns: f64,
}

impl Run {
    /// CPU time per datagram, in ns.
    pub fn price(&self) -> f64 {
        self.cpu_ns / self.datagrams as f64
    }

    /// Datagrams per second.
    pub fn rate(&self) -> f64 {
        self.datagrams as f64 / self.wall_ns * 1e9
    }
}

/// The number of datagrams that ends a wait, and the number that a reap has room for.
const WANTED: u64 = 256;
const ROOM: u64 = 512;
/// The number that the kernel hands over in one pass.
const PASS: u64 = 33;
/// How long an answer is under way, in ns.
const ANSWER: f64 = 500.0;

pub struct Receiver<'r, A, C> {
    machine: &'r Machine,
    arrivals: A,
    chooser: &'r mut C,
    random: Random,
    queued: u64,
    now: f64,
    linger_us: u32,
    run: Run,
}

impl<'r, A: Arrivals, C: Chooser> Receiver<'r, A, C> {
    pub fn new(machine: &'r Machine, arrivals: A, chooser: &'r mut C, seed: u64) -> Self {
        let random = Random::new(!seed);
        Self { machine, arrivals, chooser, random, queued: 0, now: 0.0, linger_us: 0, run: Run::default() }
    }

    pub fn run(mut self, seconds: f64) -> Run {
        while self.now < seconds * 1e9 {
            self.reap();
        }
        self.run.wall_ns = self.now;
        self.run
    }

    fn reap(&mut self) {
        let linger_us = self.chooser.linger_us();
        if linger_us != self.linger_us {
            self.linger_us = linger_us;
            self.arrivals.refill(self.now);
        }
        let (woken, slept) = self.sleep(f64::from(linger_us) * 1e3);
        let machine = self.machine;
        let drops = self.queued.saturating_sub(machine.socket_buffer);
        let count = (self.queued - drops).min(ROOM);
        self.queued -= drops + count;
        let mut cpu = slept + machine.entry * (1 + count / PASS) as f64 + machine.datagram * count as f64;
        cpu *= (machine.noise * self.random.normal()).exp();
        if self.random.chance(machine.spike_chance) {
            cpu += machine.spike * self.random.unit();
        }
        self.now = woken + cpu;
        self.run.cpu_ns += cpu;
        self.run.datagrams += count;
        self.run.drops += drops;
        if self.chooser.note(self.now as u64, count as u32) {
            self.read_clock();
        }
        self.work(count);
    }

    /// Sleeps as the linger says. Returns when the receiver runs again, and what that costs.
    fn sleep(&mut self, linger: f64) -> (f64, f64) {
        self.arrive(self.now, u64::MAX);
        if self.queued >= if linger > 0.0 { WANTED } else { 1 } {
            return (self.now, 0.0);
        }
        let machine = self.machine;
        if machine.shared {
            self.arrivals.hold(self.now);
        }
        let (mut wake, mut cost) = (self.now, machine.wake);
        if linger > 0.0 {
            cost += machine.timer;
            wake += linger;
            let last = self.arrive(wake, WANTED);
            if self.queued >= WANTED {
                wake = last;
            }
        }
        if self.queued == 0 {
            wake = wake.max(self.arrivals.next());
        }
        wake += machine.latency * (0.5 + self.random.unit()) + self.chooser.stall();
        if self.random.chance(machine.stall_chance) {
            wake += self.random.log_between(5e4, 3e6);
        }
        if self.random.chance(machine.busy) {
            wake += machine.slice * self.random.unit();
        }
        self.arrive(wake, u64::MAX);
        (wake, cost)
    }

    /// Queues what comes until `until`, but no more than `limit`. Returns when the last of it came.
    #[inline]
    fn arrive(&mut self, until: f64, limit: u64) -> f64 {
        let mut last = 0.0;
        while self.queued < limit {
            let next = self.arrivals.next();
            if next > until {
                break;
            }
            self.arrivals.take();
            self.queued += 1;
            last = next;
        }
        last
    }

    fn read_clock(&mut self) {
        // A reading gives the time in its middle.
        let half = self.machine.clock_read / 2.0;
        let mut again = true;
        while again {
            self.run.cpu_ns += half;
            again = self.chooser.reading(self.run.cpu_ns as u64, self.run.drops);
            self.run.cpu_ns += half;
            self.now += 2.0 * half;
            self.run.readings += 1;
            self.run.readings_ns += 2.0 * half;
        }
    }

    /// What the program does with its datagrams.
    fn work(&mut self, count: u64) {
        let Machine { user, user_noise, .. } = *self.machine;
        let start = self.now;
        for _ in 0..count {
            if user > 0.0 {
                let noise = if user_noise > 0.0 { user_noise * 0.5 * self.random.normal() } else { 0.0 };
                self.now += user * (1.0 + noise).max(0.0);
            }
            self.arrivals.answer(self.now + ANSWER);
        }
        self.run.cpu_ns += self.now - start;
    }
}
