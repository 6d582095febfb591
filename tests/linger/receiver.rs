//! A receiver that reaps in a loop, as a ring in DEFER mode with a minimum wait does.

use crate::machine::Machine;
use crate::random::Random;
use crate::traffic::Arrivals;

/// What chooses the linger.
pub trait Chooser {
    fn linger_us(&mut self) -> u32;
    /// A reap is over. Whether the thread's clock is to be read.
    fn note(&mut self, now_ns: u64, datagrams: u32) -> bool;
    /// A reading. Whether there is to be another at once.
    fn reading(&mut self, cpu_ns: u64, drops: u64) -> bool;
}

/// Always the same linger.
pub struct Fixed(pub u32);

impl Chooser for Fixed {
    fn linger_us(&mut self) -> u32 {
        self.0
    }
    fn note(&mut self, _: u64, _: u32) -> bool {
        false
    }
    fn reading(&mut self, _: u64, _: u64) -> bool {
        false
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Run {
    pub datagrams: u64,
    pub reaps: u64,
    pub lost: u64,
    pub cpu_ns: f64,
    pub wall_ns: f64,
    /// CPU time of reading the clock, in `cpu_ns`.
    pub readings_ns: f64,
    pub readings: u64,
}

impl Run {
    /// CPU time per datagram.
    pub fn price(&self) -> f64 {
        self.cpu_ns / self.datagrams as f64
    }

    /// Datagrams per ns.
    pub fn rate(&self) -> f64 {
        self.datagrams as f64 / self.wall_ns
    }
}

/// The wait is over when so many are there.
const WANTED: u64 = 256;
/// As many as a reap has room for.
const ROOM: u64 = 512;
/// As many as the kernel hands over in one pass.
const PASS: u64 = 33;
/// From a record to the answer on its way.
const ANSWER: f64 = 500.0;

pub struct Receiver<'m, A, C> {
    machine: &'m Machine,
    arrivals: A,
    chooser: &'m mut C,
    random: Random,
    queued: u64,
    now: f64,
    run: Run,
}

impl<'m, A: Arrivals, C: Chooser> Receiver<'m, A, C> {
    pub fn new(machine: &'m Machine, arrivals: A, chooser: &'m mut C, seed: u64) -> Self {
        let random = Random::new(seed ^ 0x5eed);
        Self { machine, arrivals, chooser, random, queued: 0, now: 0.0, run: Run::default() }
    }

    /// Reaps for so long.
    pub fn run(mut self, seconds: f64) -> Run {
        while self.now < seconds * 1e9 {
            self.reap();
        }
        self.run.wall_ns = self.now;
        self.run
    }

    /// Queues what comes until `until`, up to `limit` in the queue. When the last of them came.
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

    /// Sleeps as the linger says. The time of the wake-up, and what it cost.
    fn sleep(&mut self, linger: f64) -> (f64, f64) {
        self.arrive(self.now, u64::MAX);
        if self.queued >= if linger > 0.0 { WANTED } else { 1 } {
            return (self.now, 0.0);
        }
        if self.machine.slice > 0.0 {
            self.arrivals.hold(self.now);
        }
        let (mut wake, mut cost) = (self.now, self.machine.wake);
        if linger > 0.0 {
            cost += self.machine.timer;
            wake = self.now + linger;
            let last = self.arrive(wake, WANTED);
            if self.queued >= WANTED {
                wake = last;
            }
        }
        if self.queued == 0 {
            wake = wake.max(self.arrivals.next());
        }
        wake += self.machine.latency * (0.5 + self.random.unit());
        if self.random.chance(self.machine.stall_chance) {
            wake += self.random.log_between(5e4, 3e6);
        }
        if self.random.chance(self.machine.busy) {
            wake += self.machine.slice * self.random.unit();
        }
        self.arrive(wake, u64::MAX);
        (wake, cost)
    }

    fn reap(&mut self) {
        let linger = f64::from(self.chooser.linger_us()) * 1e3;
        let (woken, slept) = self.sleep(linger);
        let machine = self.machine;
        let lost = self.queued.saturating_sub(machine.socket_buffer);
        self.queued -= lost;
        let count = self.queued.min(ROOM);
        self.queued -= count;
        let mut cpu = slept + machine.entry * (1 + count / PASS) as f64 + machine.datagram * count as f64;
        cpu *= (machine.noise * self.random.normal()).exp();
        if self.random.chance(machine.spike_chance) {
            cpu += machine.spike * self.random.unit();
        }
        self.now = woken + cpu;
        self.run.cpu_ns += cpu;
        self.run.datagrams += count;
        self.run.lost += lost;
        self.run.reaps += 1;
        if self.chooser.note(self.now as u64, count as u32) {
            self.read_clock();
        }
        self.work(count);
    }

    fn read_clock(&mut self) {
        loop {
            // The reading is of the moment in its middle.
            let half = self.machine.clock_read / 2.0;
            self.run.cpu_ns += half;
            let again = self.chooser.reading(self.run.cpu_ns as u64, self.run.lost);
            self.run.cpu_ns += half;
            self.now += 2.0 * half;
            self.run.readings_ns += 2.0 * half;
            self.run.readings += 1;
            if !again {
                return;
            }
        }
    }

    /// What the program does with its records.
    fn work(&mut self, count: u64) {
        let machine = self.machine;
        if machine.user == 0.0 {
            for _ in 0..count {
                self.arrivals.answer(self.now + ANSWER);
            }
            return;
        }
        let start = self.now;
        for _ in 0..count {
            let noise = if machine.user_noise > 0.0 { machine.user_noise * 0.5 * self.random.normal() } else { 0.0 };
            self.now += machine.user * (1.0 + noise).max(0.0);
            self.arrivals.answer(self.now + ANSWER);
        }
        self.run.cpu_ns += self.now - start;
    }
}
