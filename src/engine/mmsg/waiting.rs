//! Waiting for data, for company, or for the end of a pause; every wait ends with a harvest.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::epoll::{self, Events};
use super::{Mmsg, NEVER, State};
use crate::clock::now_ns;
use crate::engine::{Completion, Waited};
use crate::error::{Error, Result};

/// How long the engine naps for company at first; longer when less than this came, but no longer
/// than that: a socket's default buffer holds less than 300 small datagrams.
const NAP: Duration = Duration::from_micros(100);
const NAP_ENOUGH: u32 = 32;
const NAP_MAX: Duration = Duration::from_millis(1);

impl Mmsg {
    pub(crate) fn poll(&self) {
        self.receive_within(Some(Duration::ZERO));
    }

    pub(crate) fn wait(&self, want: u32, min_wait_us: u32, timeout: Option<Duration>) -> Waited {
        let linger = if want > 1 { Duration::from_micros(min_wait_us.into()) } else { Duration::ZERO };
        let mut waited = Waited::TimedOut;
        if !linger.is_zero() {
            waited = self.linger(want, linger);
        }
        if waited == Waited::TimedOut && !self.ready() {
            waited = self.receive_within(timeout.map(|time| time.saturating_sub(linger)));
        }
        if self.ready() { Waited::Woken } else { waited }
    }

    /// Naps, however much arrives meanwhile, and then receives all of it at once; until there are
    /// `want`, or `linger` is over. A nap is so short that the socket does not overflow in it.
    fn linger(&self, want: u32, linger: Duration) -> Waited {
        let (mut nap, mut left) = (NAP, linger);
        if self.pending() {
            self.receive_within(Some(Duration::ZERO));
            if self.queue.len() >= want || self.pending() {
                return Waited::Woken;
            }
        }
        while !left.is_zero() {
            let time = nap.min(left);
            left -= time;
            let interrupted = epoll::nap(time);
            {
                let _state = self.state.lock();
                self.enters.add_one();
            }
            let before = self.queue.len();
            let waited = self.receive_within(Some(Duration::ZERO));
            let received = self.queue.len() - before;
            if interrupted {
                return Waited::Interrupted;
            }
            // Woken by something else than data, or enough of that.
            if (waited != Waited::TimedOut && received == 0) || self.queue.len() >= want || self.pending() {
                return waited;
            }
            if received < NAP_ENOUGH {
                nap = (2 * nap).min(NAP_MAX);
            }
        }
        Waited::TimedOut
    }

    /// Sleeps until there is something to receive, for `timeout` at most, and receives it.
    fn receive_within(&self, timeout: Option<Duration>) -> Waited {
        let mut events = Events::new();
        let fetched = self.epoll.fetch(&mut events, self.patience(timeout));
        let mut state = self.state.lock();
        self.enters.add_one();
        for watch in events.watches() {
            state.watches.is_readable(watch);
        }
        self.end_pauses(&mut state);
        self.harvest(&mut state);
        drop(state);
        match fetched {
            Ok(0) => Waited::TimedOut,
            Ok(_) => Waited::Woken,
            Err(libc::EINTR) => Waited::Interrupted,
            Err(errno) => Waited::Refused(errno),
        }
    }

    /// How long epoll may sleep.
    fn patience(&self, timeout: Option<Duration>) -> Option<Duration> {
        if self.pending() || timeout == Some(Duration::ZERO) {
            return Some(Duration::ZERO);
        }
        match self.next_pause_ns.load(Ordering::Relaxed) {
            NEVER => timeout,
            at_ns => {
                let pause = Duration::from_nanos(at_ns.saturating_sub(now_ns()));
                Some(timeout.map_or(pause, |timeout| timeout.min(pause)))
            }
        }
    }

    /// From now on the end of a pause makes the engine's epoll readable.
    pub(super) fn watch_pauses(&self) -> Result<()> {
        self.timer.get_or_try_init(|| {
            let timer = super::open("timerfd_create", epoll::timer)?;
            self.epoll.add_waker(timer.raw())?;
            Ok::<_, Error>(timer)
        })?;
        self.note_pauses(&self.state.lock());
        Ok(())
    }

    pub(super) fn note_pauses(&self, state: &State) {
        let next = state.pauses.iter().map(|(at_ns, _)| *at_ns).min();
        self.next_pause_ns.store(next.unwrap_or(NEVER), Ordering::Relaxed);
        if let (Some(at_ns), Some(timer)) = (next, self.timer.get()) {
            epoll::set_timer(timer.raw(), Duration::from_nanos(at_ns));
        }
    }

    fn end_pauses(&self, state: &mut State) {
        if state.pauses.is_empty() {
            return;
        }
        let (now_ns, late) = (now_ns(), &mut state.late);
        state.pauses.retain(|&(at_ns, token)| {
            if at_ns <= now_ns {
                self.post(late, Completion::end(token, 0));
            }
            at_ns > now_ns
        });
        self.note_pauses(state);
    }
}
