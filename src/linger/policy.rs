//! The policy: when to try other lingers, and which to use meanwhile.

use super::rules::Rules;
use super::blocks::{Kind, Next, Trial, UNIT_NS};
use super::estimate::{ARMS, Estimates};
use super::traffic::{Span, Traffic};
use std::marker::PhantomData;

/// Rates are told apart by octaves, up to 2^31 datagrams per second.
const OCTAVES: usize = 32;
// Times are in units, see `unit_ns`.
/// What was learnt at a rate is believed for so long.
const KNOWN: u64 = 300_000;
/// How often the traffic is looked at, outside of trials.
const IDLE_TICK: u64 = 10;
const STEADY_TICK: u64 = 50;
/// A window of the steady state.
const WINDOW: f32 = 50.0;
const WINDOW_DATAGRAMS: f32 = 64.0;
const BURSTY_WINDOW: f32 = 200.0;
/// Waits between trials.
const SOON: u64 = 120;
const LATER: u64 = 1_000;
const CHANGED: u64 = 500;
const DOUBTFUL_WAIT_MAX: u64 = 2_000;
const WAIT_MAX: u64 = 40_000;
/// Arms that nobody is in doubt about are tried again after so long.
const EVERY_ARM: u64 = 20_000;
/// The share of the CPU time that trials may cost.
const BUDGET: f32 = 0.004;
/// So much of it can be saved up.
const SAVINGS_NS: f32 = 5e6;
/// A block that is void this often ends its trial.
const VOIDS_MAX: u32 = 8;
/// A bound is adopted after so many reaps in a row that asked for it.
const BOUND_REAPS: u32 = 64;

/// The unit of time: longer for a longer bound.
#[derive(Debug, Clone, Copy)]
struct Unit {
    ns: f32,
}

impl Unit {
    fn times(self, count: u64) -> u64 {
        count * self.ns as u64
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing to save.
    Idle,
    /// The choice of this octave is in use.
    Steady,
    Trial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    /// No reading.
    Nothing,
    /// The first of two readings that tell what a reading costs.
    Calibration,
    Start,
    End,
}

/// What a user sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// The linger in use, in microseconds.
    pub linger_us: u32,
    pub trials: u64,
    pub trial_ns: u64,
}

/// The window in which the steady state watches for a change.
#[derive(Debug, Clone, Copy)]
struct Reference {
    rate: f32,
    per_reap: f32,
    off: u32,
}

pub struct Policy<R: Rules> {
    // What every reap touches.
    last_ns: u64,
    attend_ns: u64,
    pause_ns: u64,
    near_ns: u64,
    reaps: u32,
    clustered: u32,
    datagrams: u64,
    linger_us: u32,
    bound_us: u32,
    strangers: u32,
    unit: Unit,

    state: State,
    awaits: Awaits,
    span_began_ns: u64,
    idle_ns: u64,
    lingers_us: [u32; ARMS],
    traffic: Traffic,
    window: Span,
    reference: Option<Reference>,
    octave: usize,
    estimates: [Estimates; OCTAVES],
    trial: Trial,
    voids: u32,
    /// CPU time that trials have cost and the budget has not paid for yet.
    debt_ns: f32,
    price: f32,
    read_ns: Option<f32>,
    calibration_ns: u64,
    trials: u64,
    trial_ns: u64,
    rules: PhantomData<R>,
}

impl<R: Rules> Default for Policy<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Rules> Policy<R> {
    pub const fn new() -> Self {
        Self {
            last_ns: 0,
            attend_ns: 0,
            pause_ns: 0,
            near_ns: 0,
            reaps: 0,
            clustered: 0,
            datagrams: 0,
            linger_us: 0,
            bound_us: 0,
            strangers: BOUND_REAPS,
            unit: Unit { ns: UNIT_NS.0 },
            state: State::Idle,
            awaits: Awaits::Nothing,
            span_began_ns: 0,
            idle_ns: 0,
            lingers_us: [0; ARMS],
            traffic: Traffic::UNKNOWN,
            window: Span { reaps: 0.0, clustered: 0.0, datagrams: 0.0, wall_ns: 0.0, active_ns: 0.0, pause: false },
            reference: None,
            octave: 0,
            estimates: [Estimates::NONE; OCTAVES],
            trial: Trial::NONE,
            voids: 0,
            debt_ns: 0.0,
            price: 0.0,
            read_ns: None,
            calibration_ns: 0,
            trials: 0,
            trial_ns: 0,
            rules: PhantomData,
        }
    }

    /// The linger for the next sleep, in microseconds, at most `bound_us`.
    #[inline]
    pub fn linger_us(&mut self, bound_us: u32) -> u32 {
        if bound_us != self.bound_us {
            self.other_bound(bound_us);
        }
        self.linger_us.min(bound_us)
    }

    #[cold]
    fn other_bound(&mut self, bound_us: u32) {
        self.strangers += 1;
        if self.strangers < BOUND_REAPS {
            return;
        }
        self.strangers = 0;
        self.bound_us = bound_us;
        self.lingers_us = if bound_us <= 250 { [0, bound_us / 5, bound_us / 2, bound_us] } else { [0, bound_us / 25, bound_us / 5, bound_us] };
        self.pause_ns = u64::from(bound_us) * 3_000;
        self.near_ns = u64::from(bound_us + 10) * 1_000;
        self.unit = Unit { ns: (bound_us as f32 * 1e2).clamp(UNIT_NS.0, UNIT_NS.1) };
        self.traffic.restart(bound_us, self.unit.ns);
        self.estimates = [Estimates::NONE; OCTAVES];
        self.rest();
    }

    /// Notes the end of a reap.
    #[inline]
    pub fn note(&mut self, now_ns: u64, datagrams: u32) -> bool {
        if datagrams == 0 {
            return false;
        }
        let elapsed = now_ns.saturating_sub(self.last_ns);
        self.last_ns = now_ns;
        self.reaps += 1;
        self.clustered += u32::from(datagrams > 1 || elapsed < self.near_ns);
        self.datagrams += u64::from(datagrams);
        if elapsed <= self.pause_ns && now_ns < self.attend_ns {
            return false;
        }
        self.attend(now_ns, elapsed)
    }

    #[cold]
    #[inline(never)]
    fn attend(&mut self, now_ns: u64, elapsed: u64) -> bool {
        if self.span_began_ns == 0 {
            self.span_began_ns = now_ns;
            self.attend_ns = now_ns + self.unit.times(IDLE_TICK);
            return false;
        }
        let span = self.take_span(now_ns, elapsed);
        self.traffic.add(&span);
        match self.state {
            State::Idle => self.attend_idle(now_ns),
            State::Steady => self.attend_steady(&span, now_ns),
            State::Trial => self.attend_trial(&span, now_ns),
        }
        self.attend_ns = match self.state {
            State::Idle => now_ns + self.unit.times(IDLE_TICK),
            State::Steady => now_ns + self.unit.times(STEADY_TICK),
            State::Trial => 0,
        };
        self.awaits != Awaits::Nothing
    }

    fn take_span(&mut self, now_ns: u64, elapsed: u64) -> Span {
        let wall = now_ns - self.span_began_ns;
        let idle = elapsed.saturating_sub(self.pause_ns);
        let span = Span {
            reaps: self.reaps as f32,
            clustered: self.clustered as f32,
            datagrams: self.datagrams as f32,
            wall_ns: wall.max(1) as f32,
            active_ns: wall.saturating_sub(idle).max(1) as f32,
            pause: elapsed > self.pause_ns,
        };
        (self.reaps, self.clustered, self.datagrams) = (0, 0, 0);
        self.span_began_ns = now_ns;
        span
    }

    fn attend_idle(&mut self, now_ns: u64) {
        if self.bound_us > 0 && !self.traffic.is_lone(true) && self.traffic.is_known() {
            self.enter_octave(self.traffic.quick_rate(), now_ns);
        }
    }

    fn attend_steady(&mut self, span: &Span, now_ns: u64) {
        let budget = BUDGET + super::knob::k(21, 0.02) * self.estimates[self.octave].stakes::<R>();
        self.debt_ns = (self.debt_ns - budget * self.price * span.datagrams).max(-SAVINGS_NS);
        if self.traffic.is_lone(false) {
            return self.rest();
        }
        self.window.extend(span);
        let bursty = self.traffic.is_bursty();
        let whole = !bursty || (span.pause && self.window.wall_ns > BURSTY_WINDOW * self.unit.ns);
        if whole && self.window.active_ns >= WINDOW * self.unit.ns && self.window.datagrams >= WINDOW_DATAGRAMS {
            let window = std::mem::take(&mut self.window);
            let time = if bursty { window.wall_ns } else { window.active_ns };
            if self.compare_window(window.datagrams / time, window.datagrams / window.reaps, now_ns) {
                return;
            }
        }
        if R::LOOKS_AGAIN && now_ns > self.estimates[self.octave].next_ns && self.debt_ns <= 0.0 {
            self.begin_recheck(now_ns);
        }
    }

    fn compare_window(&mut self, rate: f32, per_reap: f32, now_ns: u64) -> bool {
        let unit = self.unit;
        let Some(reference) = &mut self.reference else {
            self.reference = Some(Reference { rate, per_reap, off: 0 });
            return false;
        };
        if rate > 1.5 * reference.rate || rate < reference.rate / 1.5 {
            reference.off += 1;
            if reference.off >= 2 {
                self.traffic.set_rate(rate);
                self.enter_octave(rate, now_ns);
                return true;
            }
        } else if per_reap > 2.0 * reference.per_reap || per_reap < reference.per_reap / 2.0 {
            reference.off += 1;
            if reference.off >= 4 {
                self.reference = None;
                let estimates = &mut self.estimates[self.octave];
                estimates.doubt_all();
                estimates.wait_ns = unit.times(CHANGED);
                estimates.next_ns = now_ns;
                self.debt_ns = self.debt_ns.min(0.0);
            }
        } else {
            reference.off = 0;
        }
        false
    }

    /// Nothing to save: no linger, no trials.
    fn rest(&mut self) {
        self.state = State::Idle;
        self.awaits = Awaits::Nothing;
        self.linger_us = 0;
        self.reference = None;
        self.window = Span::default();
    }

    /// Goes over to another rate: with what is known of it, or with a survey.
    fn enter_octave(&mut self, per_ns: f32, now_ns: u64) {
        let unit = self.unit;
        self.reference = None;
        self.window = Span::default();
        let octave = (per_ns * 1e9).max(1.0).log2();
        if self.state == State::Steady && (octave - self.octave as f32).abs() < super::knob::k(25, 0.8) {
            let estimates = &mut self.estimates[self.octave];
            estimates.next_ns = estimates.next_ns.min(now_ns + unit.times(LATER));
            return;
        }
        self.octave = (octave.round() as usize).min(OCTAVES - 1);
        let present = self.lingers_us.iter().position(|&us| us == self.linger_us).unwrap_or(0);
        let estimates = &mut self.estimates[self.octave];
        if estimates.arms[1].price.count >= 4.0 && now_ns - estimates.known_ns < unit.times(KNOWN) {
            self.state = State::Steady;
            self.linger_us = self.lingers_us[estimates.choice];
            estimates.next_ns = estimates.next_ns.max(now_ns + unit.times(SOON));
            return;
        }
        *estimates = Estimates { choice: present, all_ns: now_ns, ..Estimates::NONE };
        self.begin(Trial::survey(if R::LOOKS_AGAIN { 2 } else { 1 }, self.unit.ns, now_ns));
    }

    fn begin_recheck(&mut self, now_ns: u64) {
        let unit = self.unit;
        let estimates = &mut self.estimates[self.octave];
        let candidate = estimates.candidate::<R>();
        let doubts = estimates.doubts;
        if candidate.is_some() {
            estimates.doubts += 1;
        }
        let mut live = [true; ARMS];
        if now_ns - estimates.all_ns < unit.times(EVERY_ARM) {
            live = [true, false, false, false];
            live[estimates.choice] = true;
            live[candidate.unwrap_or(0)] = true;
            if !live[1..].contains(&true) {
                live[estimates.cheapest_candidate()] = true;
            }
        } else {
            estimates.all_ns = now_ns;
        }
        self.begin(Trial::recheck(live, if candidate.is_some() { doubts } else { 0 }, self.unit.ns, now_ns));
    }

    fn begin(&mut self, trial: Trial) {
        self.state = State::Trial;
        self.trial = trial;
        self.trials += 1;
        self.voids = 0;
        self.linger_us = self.lingers_us[self.trial.arm()];
    }

    fn attend_trial(&mut self, span: &Span, now_ns: u64) {
        if self.traffic.is_lone(false) {
            return self.rest();
        }
        let bursty = self.traffic.is_bursty();
        if self.trial.has_collapsed::<R>(bursty) {
            return self.give_up(now_ns);
        }
        if !self.trial.block.counting {
            if !self.trial.leads_in::<R>(span, bursty, now_ns) {
                self.awaits = if self.read_ns.is_none() { Awaits::Calibration } else { Awaits::Start };
            }
        } else if self.trial.count::<R>(span, bursty) {
            self.awaits = Awaits::End;
        }
    }

    /// Takes the reading that `note` asked for. Returns whether it wants another, at once.
    pub fn reading(&mut self, cpu_ns: u64) -> bool {
        match std::mem::replace(&mut self.awaits, Awaits::Nothing) {
            Awaits::Nothing => {}
            Awaits::Calibration => {
                self.calibration_ns = cpu_ns;
                self.awaits = Awaits::Start;
            }
            Awaits::Start => {
                if self.read_ns.is_none() {
                    self.read_ns = Some(cpu_ns.saturating_sub(self.calibration_ns) as f32);
                }
                self.trial.block.count_from(cpu_ns);
            }
            Awaits::End => self.end_block(cpu_ns),
        }
        self.awaits != Awaits::Nothing
    }

    fn end_block(&mut self, cpu_ns: u64) {
        let read_ns = self.read_ns.unwrap_or(0.0);
        let sum = self.trial.block.sum;
        let mut cpu = self.trial.cpu_of_block(cpu_ns);
        if R::SUBTRACTS_READS {
            cpu -= read_ns;
        }
        let cpu = cpu.max(1.0);
        self.trial_ns += sum.active_ns as u64;
        let next = self.trial.end_block(cpu / sum.datagrams);
        self.charge(&sum, cpu);
        let now_ns = self.last_ns;
        if next == Next::Half && self.end_half() {
            return self.end_trial(now_ns);
        }
        if !self.trial.next_block(now_ns, cpu_ns) {
            return self.end_trial(now_ns);
        }
        self.linger_us = self.lingers_us[self.trial.arm()];
    }

    fn give_up(&mut self, now_ns: u64) {
        for pair in self.trial.give_up() {
            self.estimates[self.octave].add(pair);
        }
        if self.trial.after_given_up() == Next::Half && self.end_half() {
            return self.end_trial(now_ns);
        }
        if !self.trial.next_block(now_ns, 0) {
            return self.end_trial(now_ns);
        }
        self.linger_us = self.lingers_us[self.trial.arm()];
    }

    fn charge(&mut self, sum: &Span, cpu: f32) {
        if self.price > 0.0 {
            self.debt_ns += (cpu - self.price * sum.datagrams).max(0.0);
            if let (Kind::Recheck, Some(reference)) = (self.trial.kind, &self.reference) {
                let lost = 1.0 - sum.datagrams / sum.wall_ns / reference.rate;
                self.debt_ns += (lost.clamp(-1.0, 1.0) - 0.2).max(0.0) * cpu;
            }
        }
        self.debt_ns += 2.0 * self.read_ns.unwrap_or(0.0);
    }

    /// Compares the pairs of half a round. Whether the trial is over.
    fn end_half(&mut self) -> bool {
        let estimates = &mut self.estimates[self.octave];
        for pair in self.trial.pairs() {
            estimates.add(pair);
        }
        estimates.choose::<R>();
        let choice = estimates.choice;
        self.price =
            self.trial.price(0) * if choice == 0 { 1.0 } else { estimates.arms[choice].price.mean.exp() };
        if self.trial.kind == Kind::Survey {
            for arm in 1..ARMS {
                if self.trial.is_live(arm) && estimates.is_out::<R>(arm) {
                    self.trial.drop_arm(arm);
                }
            }
            let mut candidates = (1..ARMS).filter(|&arm| self.trial.is_live(arm));
            return match (candidates.next(), candidates.next()) {
                (None, _) => true,
                (Some(last), None) => estimates.is_certain(last),
                _ => false,
            };
        }
        false
    }

    fn end_trial(&mut self, now_ns: u64) {
        let unit = self.unit;
        let survey = self.trial.kind == Kind::Survey;
        let estimates = &mut self.estimates[self.octave];
        let before = estimates.choice;
        estimates.choose::<R>();
        estimates.known_ns = now_ns;
        let choice = estimates.choice;
        let doubt = estimates.candidate::<R>().is_some();
        let suspect = estimates.is_suspect();
        self.state = State::Steady;
        self.linger_us = self.lingers_us[choice];
        self.window = Span::default();
        self.reference = None;
        estimates.wait_ns = if suspect {
            unit.times(SOON)
        } else if survey {
            unit.times(LATER)
        } else {
            let factor = if before != choice { 1.0 } else if doubt { 1.4 } else { 2.0 };
            let longest = if doubt { unit.times(DOUBTFUL_WAIT_MAX) } else { unit.times(WAIT_MAX) };
            ((estimates.wait_ns as f32 * factor) as u64).min(longest)
        };
        let took = now_ns - self.trial.began_ns;
        estimates.next_ns = now_ns + estimates.wait_ns.max((super::knob::k(12, 3.0) * took as f32) as u64);
        if survey || (choice != 0 && estimates.arms[choice].rate.count < 8.0) {
            self.debt_ns = self.debt_ns.min(0.0);
        }
        self.attend_ns = now_ns + unit.times(STEADY_TICK);
    }

    /// The block under way is void: its reaps were not of one kind.
    pub fn void(&mut self, now_ns: u64) {
        if self.state != State::Trial {
            return;
        }
        self.awaits = Awaits::Nothing;
        self.voids += 1;
        if self.voids > VOIDS_MAX {
            return self.end_trial(now_ns);
        }
        self.trial.restart_block(now_ns);
    }

    pub fn describe(&self) -> String {
        let e = &self.estimates[self.octave];
        let f = |g: &dyn Fn(usize) -> f32| format!("{:.3} {:.3} {:.3}", g(1), g(2), g(3));
        format!(
            "octave {} {:?} linger {} price {} ({}) rate {} ({}) brief {} ({}) n {} {} {} trials {} debt {:.0} us wait {} ms",
            self.octave, self.state, self.linger_us,
            f(&|a| e.arms[a].price.mean), f(&|a| e.arms[a].price.error()),
            f(&|a| e.arms[a].rate.mean), f(&|a| e.arms[a].rate.error()),
            f(&|a| e.arms[a].brief_rate.mean), f(&|a| e.arms[a].brief_rate.error()),
            e.arms[3].price.count, e.arms[3].rate.count, e.arms[3].brief_rate.count,
            self.trials, self.debt_ns / 1e3, e.wait_ns / 1_000_000
        )
    }

    pub fn report(&self) -> Report {
        Report { linger_us: self.lingers_us[self.estimates[self.octave].choice], trials: self.trials, trial_ns: self.trial_ns }
    }
}
