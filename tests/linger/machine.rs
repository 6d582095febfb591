//! What a machine charges for receiving. All times are in ns.

use crate::random::Random;

#[derive(Debug, Clone)]
pub struct Machine {
    /// CPU time of a sleep and the wake-up after it, and of the timer that a linger needs.
    pub wake: f64,
    pub timer: f64,
    /// CPU time of a kernel entry, and of each datagram.
    pub entry: f64,
    pub datagram: f64,
    /// Deviation of the logarithm of a reap's CPU time.
    pub noise: f64,
    /// Now and then a reap costs up to so much more: an interrupt, a page fault.
    pub spike_chance: f64,
    pub spike: f64,
    /// Mean delay from an arrival, or the end of a linger, until the receiver runs; now and then it
    /// is 50 us to 3 ms.
    pub latency: f64,
    pub stall_chance: f64,
    /// CPU time of reading the thread's clock.
    pub clock_read: f64,
    /// CPU time of the program for each datagram, and its relative deviation.
    pub user: f64,
    pub user_noise: f64,
    /// Datagrams that the socket's buffer holds.
    pub socket_buffer: u64,
    /// Receiver and sender have one processor between them.
    pub shared: bool,
    /// How long the scheduler lets another thread run at most, and how likely a wake-up has to wait
    /// for that.
    pub slice: f64,
    pub busy: f64,
}

impl Machine {
    pub fn random(random: &mut Random) -> Self {
        Self {
            wake: random.log_between(500.0, 8_000.0),
            timer: random.log_between(100.0, 8_000.0),
            entry: random.log_between(200.0, 1_200.0),
            datagram: random.log_between(250.0, 1_500.0),
            noise: random.log_between(0.03, 0.4),
            spike_chance: random.log_between(1e-5, 3e-3),
            spike: random.log_between(1e4, 3e5),
            latency: random.log_between(1e3, 3e4),
            stall_chance: random.log_between(1e-6, 1e-3),
            clock_read: random.log_between(150.0, 1_000.0),
            user: if random.chance(0.4) { 0.0 } else { random.log_between(100.0, 10_000.0) },
            user_noise: if random.chance(0.5) { 0.0 } else { random.unit() },
            socket_buffer: if random.chance(0.3) { 277 } else { 4_000 },
            shared: false,
            slice: 0.0,
            busy: 0.0,
        }
    }

    /// A machine without noise, on which lingering pays: for cases that are about something else.
    pub fn plain() -> Self {
        Self {
            wake: 4_300.0,
            timer: 100.0,
            entry: 500.0,
            datagram: 700.0,
            noise: 0.05,
            spike_chance: 0.0,
            spike: 0.0,
            latency: 3_000.0,
            stall_chance: 0.0,
            clock_read: 900.0,
            user: 0.0,
            user_noise: 0.0,
            socket_buffer: 4_000,
            shared: false,
            slice: 0.0,
            busy: 0.0,
        }
    }

    /// The same with one processor for receiver and sender.
    pub fn on_one_processor(self, random: &mut Random) -> Self {
        Self {
            shared: true,
            slice: random.log_between(5e5, 3e6),
            busy: random.log_between(0.003, 0.3),
            ..self
        }
    }
}
