//! The policy: which linger to use, and when to try others.

use std::marker::PhantomData;

use super::estimate::{ARMS, Estimates};
use super::readings::Readings;
use super::rules::{Rules, Sound};
use super::schedule::{Budget, Schedule};
use super::traffic::{Span, Traffic};
use super::trial::{Kind, Next, Reading, Step, Trial};
use super::unit::Unit;
use super::watch::{Change, Watch};

/// Rates are distinguished by octaves: the first is 64 datagrams per second, the last 33 million.
const OCTAVES: usize = 20;
const FIRST_OCTAVE: f32 = 6.0;
/// A rate that is no further from the middle of an octave than this many octaves stays in it.
const STICKY: f32 = 0.8;
/// A pause is longer than this many times the bound, or 0.1 ms.
const PAUSE: u64 = 3;
/// Up to this bound the candidates are a fifth, a half and the whole of it; with a longer one a
/// twenty-fifth, a fifth and the whole.
const FINE_BOUND_US: u32 = 250;
/// A bound is adopted when this many reaps in a row have asked for it.
const BOUND_REAPS: u32 = 64;
/// How often the traffic is looked at, in units, while there is nothing to save and while a choice
/// is in use.
const IDLE_TICK: u32 = 10;
const STEADY_TICK: u32 = 50;
/// A trial ends when this many of its blocks were void, and begins when nothing has disturbed this
/// many reaps, for this many units.
const VOIDS: u32 = 8;
const UNDISTURBED: (f32, f32) = (32.0, 20.0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is nothing to save: no linger, no trials.
    Idle,
    /// The choice for this rate is in use.
    Steady,
    Trial,
}

/// What `ringmsg_ring_stats()` shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// The linger that is in use, outside of trials.
    pub linger_us: u32,
    /// How many trials have begun.
    pub trials: u64,
    /// How long trials have lasted.
    pub trial_ns: u64,
}

/// What is known of one octave of the rate.
#[derive(Debug, Clone)]
struct Octave {
    estimates: Estimates,
    schedule: Schedule,
}

impl Octave {
    const UNKNOWN: Self = Self { estimates: Estimates::NONE, schedule: Schedule::NONE };
}

/// Chooses how long a reap lingers. See the [module](super) for how a reaper uses it.
#[derive(Debug, Clone)]
#[repr(C)]
pub struct Policy<R: Rules = Sound> {
    // What every reap touches: one cache line.
    last_ns: u64,
    /// No sooner than this, or than a pause, is there anything to decide.
    attend_ns: u64,
    /// A pause is longer than this; reaps nearer than that are clustered.
    pause_ns: u64,
    near_ns: u64,
    datagrams: u64,
    reaps: u32,
    clustered: u32,
    linger_us: u32,
    bound_us: u32,
    /// How many reaps in a row asked for another bound.
    other_bounds: u32,

    unit: Unit,
    lingers_us: [u32; ARMS],
    state: State,
    /// When the counts above were zero.
    span_began_ns: u64,
    traffic: Traffic,
    watch: Watch,
    trial: Trial,
    readings: Readings,
    voids: u32,
    /// Something disturbed a reap since the traffic was last looked at; and what was undisturbed.
    disturbed: bool,
    undisturbed: Span,
    /// The report has changed since it was last taken.
    has_changed: bool,
    budget: Budget,
    trials: u64,
    trial_ns: u64,
    octave: usize,
    octaves: [Octave; OCTAVES],
    rules: PhantomData<R>,
}

impl<R: Rules> Default for Policy<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Rules> Policy<R> {
    /// A policy that has seen nothing yet.
    pub const fn new() -> Self {
        let unit = Unit::of(0);
        Self {
            last_ns: 0,
            attend_ns: 0,
            pause_ns: 0,
            near_ns: 0,
            datagrams: 0,
            reaps: 0,
            clustered: 0,
            linger_us: 0,
            bound_us: 0,
            other_bounds: BOUND_REAPS,
            unit,
            lingers_us: [0; ARMS],
            state: State::Idle,
            span_began_ns: 0,
            traffic: Traffic::unknown(0, unit),
            watch: Watch::NEW,
            trial: Trial::survey(unit, 0),
            readings: Readings::NONE,
            voids: 0,
            disturbed: false,
            undisturbed: Span::NONE,
            has_changed: false,
            budget: Budget::NEW,
            trials: 0,
            trial_ns: 0,
            octave: 0,
            octaves: [const { Octave::UNKNOWN }; OCTAVES],
            rules: PhantomData,
        }
    }

    /// The linger of a reap that may take `bound_us` for it, in microseconds.
    #[inline]
    pub fn linger_us(&mut self, bound_us: u32) -> u32 {
        if bound_us == self.bound_us {
            self.other_bounds = 0;
            return self.linger_us;
        }
        self.meet_bound(bound_us);
        self.linger_us.min(bound_us)
    }

    /// Notes a reap that ended at `now_ns` with this many datagrams. Returns whether the thread's
    /// CPU clock is to be read, for [`reading`](Self::reading).
    #[inline]
    pub fn note(&mut self, now_ns: u64, datagrams: u64) -> bool {
        if datagrams == 0 {
            return false;
        }
        let elapsed_ns = now_ns.saturating_sub(self.last_ns);
        self.last_ns = now_ns;
        self.datagrams += datagrams;
        self.reaps += 1;
        self.clustered += u32::from(datagrams > 1 || elapsed_ns < self.near_ns);
        (elapsed_ns > self.pause_ns || now_ns >= self.attend_ns) && self.attend(now_ns, elapsed_ns)
    }

    /// Takes the reading that `note` asked for. Returns whether another is wanted at once.
    pub fn reading(&mut self, reading: Reading) -> bool {
        if !self.readings.take(reading.cpu_ns) {
            return self.readings.are_wanted();
        }
        if self.trial.is_counting() {
            self.end_block(reading);
        } else {
            self.trial.count_from(reading);
        }
        false
    }

    /// A reap was disturbed: it was not what it would have been with another linger only. The block
    /// of a trial that is under way does not count.
    #[inline]
    pub fn void(&mut self) {
        self.disturbed = true;
        if self.state == State::Trial {
            self.void_block();
        }
    }

    #[cold]
    fn void_block(&mut self) {
        self.readings.cancel();
        self.voids += 1;
        if self.voids > VOIDS {
            self.end_trial();
        } else {
            self.trial.restart_block(self.last_ns);
        }
    }

    /// The report, if it has changed since it was last taken.
    #[inline]
    pub fn take_report(&mut self) -> Option<Report> {
        std::mem::take(&mut self.has_changed).then(|| self.report())
    }

    /// What has been chosen and what it took.
    pub fn report(&self) -> Report {
        let choice = if self.state == State::Idle { 0 } else { self.octaves[self.octave].estimates.choice };
        Report { linger_us: self.lingers_us[choice], trials: self.trials, trial_ns: self.trial_ns }
    }

    /// What is known at the rate of now.
    pub fn estimates(&self) -> &Estimates {
        &self.octaves[self.octave].estimates
    }

    #[cold]
    fn meet_bound(&mut self, bound_us: u32) {
        self.other_bounds += 1;
        if self.other_bounds < BOUND_REAPS {
            return;
        }
        self.other_bounds = 0;
        self.bound_us = bound_us;
        self.unit = Unit::of(bound_us);
        self.pause_ns = PAUSE * 1_000 * u64::from(bound_us.max(100));
        self.near_ns = u64::from(bound_us + 10) * 1_000;
        let (least, middle) = if bound_us <= FINE_BOUND_US { (5, 2) } else { (25, 5) };
        self.lingers_us = [0, bound_us / least, bound_us / middle, bound_us];
        self.traffic = Traffic::unknown(bound_us, self.unit);
        self.octaves = [const { Octave::UNKNOWN }; OCTAVES];
        self.rest();
    }

    #[cold]
    #[inline(never)]
    fn attend(&mut self, now_ns: u64, elapsed_ns: u64) -> bool {
        if self.span_began_ns == 0 {
            self.span_began_ns = now_ns;
            return false;
        }
        let span = self.take_span(now_ns, elapsed_ns);
        self.traffic.add(&span);
        if std::mem::take(&mut self.disturbed) {
            self.undisturbed = Span::NONE;
        } else {
            self.undisturbed.extend(&span);
        }
        match self.state {
            State::Idle => self.attend_idle(),
            State::Steady => self.attend_steady(&span),
            State::Trial => self.attend_trial(&span),
        }
        self.attend_ns = match self.state {
            State::Idle => now_ns + self.unit.times(IDLE_TICK),
            State::Steady => now_ns + self.unit.times(STEADY_TICK),
            State::Trial => 0,
        };
        self.readings.are_wanted()
    }

    /// What was noted since the last call.
    fn take_span(&mut self, now_ns: u64, elapsed_ns: u64) -> Span {
        let wall_ns = now_ns - self.span_began_ns;
        let idle_ns = elapsed_ns.saturating_sub(self.pause_ns);
        let span = Span {
            reaps: self.reaps as f32,
            clustered: self.clustered as f32,
            datagrams: self.datagrams as f32,
            wall_ns: wall_ns.max(1) as f32,
            active_ns: wall_ns.saturating_sub(idle_ns).max(1) as f32,
            pause: elapsed_ns > self.pause_ns,
        };
        (self.reaps, self.clustered, self.datagrams) = (0, 0, 0);
        self.span_began_ns = now_ns;
        span
    }

    fn attend_idle(&mut self) {
        let is_worth_it = self.bound_us > 0 && !self.traffic.is_sparse(true) && self.traffic.is_known();
        if is_worth_it && self.is_undisturbed() {
            self.enter_octave(self.traffic.rate());
        }
    }

    fn attend_steady(&mut self, span: &Span) {
        let Octave { estimates, schedule } = &mut self.octaves[self.octave];
        self.budget.save(span.datagrams, estimates.stakes::<R>());
        if self.traffic.is_sparse(false) {
            return self.rest();
        }
        match self.watch.add(span, self.traffic.is_bursty(), self.unit) {
            Change::None => {}
            Change::Rate(per_ns) => {
                self.traffic.set_rate(per_ns);
                return self.enter_octave(per_ns);
            }
            Change::Spacing => {
                estimates.doubt();
                schedule.change(self.unit, self.last_ns);
                self.budget.forgive();
            }
        }
        if R::LOOKS_AGAIN && schedule.is_due(self.last_ns) && self.budget.is_paid() && self.is_undisturbed() {
            self.begin_recheck();
        }
    }

    fn attend_trial(&mut self, span: &Span) {
        if self.traffic.is_sparse(false) {
            self.trial_ns += self.last_ns.saturating_sub(self.trial.began_ns);
            return self.rest();
        }
        match self.trial.add::<R>(span, self.traffic.is_bursty(), self.last_ns) {
            Step::GoOn => {}
            Step::Read => self.readings.ask(),
            Step::GiveUp => self.give_up_block(),
        }
    }

    /// Nothing has disturbed a reap lately, so a trial has a chance.
    fn is_undisturbed(&self) -> bool {
        let Span { reaps, wall_ns, .. } = self.undisturbed;
        reaps >= UNDISTURBED.0 && wall_ns >= UNDISTURBED.1 * self.unit.ns()
    }

    /// Goes over to no linger and no trials.
    fn rest(&mut self) {
        self.has_changed |= self.state != State::Idle;
        self.state = State::Idle;
        self.readings.cancel();
        self.linger_us = 0;
    }

    /// Goes over to the choice of this octave.
    fn settle(&mut self) {
        self.has_changed = true;
        self.state = State::Steady;
        self.watch = Watch::NEW;
        self.linger_us = self.lingers_us[self.octaves[self.octave].estimates.choice];
    }

    /// Goes over to another rate: to the choice that is known for it, or to a survey.
    fn enter_octave(&mut self, per_ns: f32) {
        let (unit, now_ns) = (self.unit, self.last_ns);
        let rate = (per_ns * 1e9).max(1.0).log2() - FIRST_OCTAVE;
        if self.state == State::Steady && (rate - self.octave as f32).abs() < STICKY {
            return self.octaves[self.octave].schedule.bring_forward(unit, now_ns);
        }
        self.octave = (rate.round().max(0.0) as usize).min(OCTAVES - 1);
        let octave = &mut self.octaves[self.octave];
        if octave.estimates.is_known() && !octave.schedule.is_forgotten(unit, now_ns) {
            octave.schedule.come_back(unit, now_ns);
            return self.settle();
        }
        if !self.is_undisturbed() {
            return self.rest();
        }
        let choice = self.lingers_us.iter().position(|&us| us == self.linger_us).unwrap_or(0);
        let estimates = Estimates { choice, ..Estimates::NONE };
        self.octaves[self.octave] = Octave { estimates, schedule: Schedule::begin(now_ns) };
        self.begin(Trial::survey(unit, now_ns));
    }

    fn begin_recheck(&mut self) {
        let (unit, now_ns) = (self.unit, self.last_ns);
        let Octave { estimates, schedule } = &mut self.octaves[self.octave];
        let candidate = estimates.candidate::<R>();
        let doubts = candidate.map_or(0, |_| schedule.doubt());
        let mut live = [true; ARMS];
        if !schedule.takes_every_arm(unit, now_ns) {
            let question = candidate.unwrap_or(estimates.choice);
            let question = if question == 0 { estimates.cheapest() } else { question };
            live = std::array::from_fn(|arm| arm == 0 || arm == estimates.choice || arm == question);
        }
        self.begin(Trial::recheck(live, doubts, unit, now_ns));
    }

    fn begin(&mut self, trial: Trial) {
        self.has_changed = true;
        self.state = State::Trial;
        self.trial = trial;
        self.trials += 1;
        self.voids = 0;
        self.linger_us = self.lingers_us[self.trial.arm()];
        self.readings.calibrate();
    }

    fn end_block(&mut self, reading: Reading) {
        let own_ns = self.readings.cost_ns();
        let cpu_ns = self.trial.end_block(reading, if R::SUBTRACTS_READINGS { own_ns } else { 0.0 });
        self.budget.charge(self.trial.block.counted.datagrams, cpu_ns, 2.0 * own_ns);
        let next = self.trial.advance();
        let over = next == Next::Half && self.end_half();
        self.go_on(over, Some(reading));
    }

    fn give_up_block(&mut self) {
        let estimates = &mut self.octaves[self.octave].estimates;
        self.trial.give_up().for_each(|pair| estimates.add(pair));
        let next = self.trial.advance();
        let over = next == Next::Half && self.end_half();
        self.go_on(over, None);
    }

    fn go_on(&mut self, over: bool, reading: Option<Reading>) {
        if over || !self.trial.next_block(self.last_ns, reading) {
            self.end_trial();
        } else {
            self.linger_us = self.lingers_us[self.trial.arm()];
        }
    }

    /// Compares the pairs of half a round. Returns whether they settle the trial.
    fn end_half(&mut self) -> bool {
        let estimates = &mut self.octaves[self.octave].estimates;
        self.trial.pairs().for_each(|pair| estimates.add(pair));
        estimates.choose::<R>();
        self.budget.set_price(self.trial.price() * estimates.price_ratio());
        if self.trial.kind == Kind::Recheck {
            return false;
        }
        for arm in self.trial.candidates() {
            if estimates.is_out::<R>(arm) {
                self.trial.drop_arm(arm);
            }
        }
        let mut candidates = self.trial.candidates();
        match (candidates.next(), candidates.next()) {
            (None, _) => true,
            (Some(last), None) => estimates.is_certain(last),
            _ => false,
        }
    }

    fn end_trial(&mut self) {
        let (now_ns, began_ns) = (self.last_ns, self.trial.began_ns);
        self.trial_ns += now_ns.saturating_sub(began_ns);
        let Octave { estimates, schedule } = &mut self.octaves[self.octave];
        let changed = estimates.choose::<R>();
        schedule.end::<R>((self.trial.kind, began_ns), estimates, changed, self.unit, now_ns);
        if self.trial.kind == Kind::Survey || estimates.is_unsettled::<R>(estimates.choice) {
            self.budget.forgive();
        }
        self.settle();
    }
}
