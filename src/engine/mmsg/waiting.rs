//! Waiting for data, for a batch, or for the end of a pause. Every wait ends with a receiving pass.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::epoll::{self, Events};
use super::{Mmsg, NEVER, State};
use crate::engine::{Completion, Sleep, Waited};
use crate::error::{Error, Result};
use crate::sys::clock::now_ns;
use crate::sys::signals::Blocked;

/// First poll interval while lingering. Doubled, up to `POLL_MAX`, after an interval that brought
/// fewer than `POLL_ENOUGH` datagrams.
const POLL_FIRST: Duration = Duration::from_micros(100);
const POLL_ENOUGH: u32 = 32;
/// A socket's default buffer holds fewer than 300 small datagrams.
const POLL_MAX: Duration = Duration::from_millis(1);

impl Mmsg {
    pub(crate) fn poll(&self) -> Waited {
        self.receive_within(Some(Duration::ZERO), None)
    }

    pub(crate) fn wait(&self, sleep: Sleep<'_>) -> Waited {
        if sleep.want <= 1 || sleep.min_wait_us == 0 {
            return self.wait_for_one(sleep.timeout, sleep.signals);
        }
        match sleep.signals {
            Some(signals) => self.wait_for_batch(&sleep, signals),
            None => {
                // Blocked between the system calls, so that each signal falls into one of them.
                let blocked = Blocked::all();
                self.wait_for_batch(&sleep, blocked.before())
            }
        }
    }

    fn wait_for_one(&self, timeout: Option<Duration>, signals: Option<&libc::sigset_t>) -> Waited {
        let waited = self.receive_within(timeout, signals);
        if self.ready() { Waited::Woken } else { waited }
    }

    fn wait_for_batch(&self, sleep: &Sleep<'_>, signals: &libc::sigset_t) -> Waited {
        let linger = Duration::from_micros(sleep.min_wait_us.into());
        let waited = self.linger(sleep.want, linger, signals);
        if waited != Waited::TimedOut || self.ready() {
            return if self.ready() { Waited::Woken } else { waited };
        }
        self.wait_for_one(sleep.timeout.map(|time| time.saturating_sub(linger)), Some(signals))
    }

    /// Sleeps for an interval, whatever arrives meanwhile, and then receives all of it at once;
    /// until there are `want` completions, or `linger` is over. The interval is so short that a
    /// socket does not overflow in it.
    fn linger(&self, want: u32, linger: Duration, signals: &libc::sigset_t) -> Waited {
        let (mut interval, mut left) = (POLL_FIRST, linger);
        if self.pending() {
            self.receive_within(Some(Duration::ZERO), None);
            if self.queue.len() >= want || self.pending() {
                return Waited::Woken;
            }
        }
        while !left.is_zero() {
            let time = interval.min(left);
            left -= time;
            let interrupted = epoll::sleep(time, signals);
            {
                let _state = self.state.lock();
                self.enters.add_one();
            }
            let before = self.queue.len();
            let waited = self.receive_within(Some(Duration::ZERO), None);
            let received = self.queue.len() - before;
            if interrupted {
                return Waited::Interrupted;
            }
            // Woken by something else than data, or enough of that.
            if (waited != Waited::TimedOut && received == 0) || self.queue.len() >= want || self.pending() {
                return waited;
            }
            if received < POLL_ENOUGH {
                interval = (2 * interval).min(POLL_MAX);
            }
        }
        Waited::TimedOut
    }

    /// Sleeps until there is something to receive, for `timeout` at most, and receives it.
    fn receive_within(&self, timeout: Option<Duration>, signals: Option<&libc::sigset_t>) -> Waited {
        let mut events = Events::new();
        let fetched = self.epoll.wait(&mut events, self.until_pause_ends(timeout), signals);
        let mut state = self.state.lock();
        self.enters.add_one();
        self.mark_readable(&mut state, events);
        self.end_pauses(&mut state);
        self.receive_readable(&mut state);
        drop(state);
        match fetched {
            Ok(0) => Waited::TimedOut,
            Ok(_) => Waited::Woken,
            Err(libc::EINTR) => Waited::Interrupted,
            Err(errno) => Waited::Refused(errno),
        }
    }

    /// Marks the sockets of `events` as readable, and of those that did not fit into it: epoll's
    /// own list is empty afterwards, so whatever comes next raises an edge.
    fn mark_readable(&self, state: &mut State, mut events: Events) {
        loop {
            for (socket, what) in events.sockets() {
                if what & epoll::READABLE != 0 {
                    state.sockets.mark_readable(socket);
                }
                if what & epoll::ENDS_WRITABLE != 0 {
                    self.end_writers(state, socket, what);
                }
            }
            if !events.is_full() {
                break;
            }
            let _ = self.epoll.wait(&mut events, Some(Duration::ZERO), None);
            self.enters.add_one();
        }
        self.events_fetched.store(true, Ordering::Relaxed);
    }

    /// A reap begins: events that nobody fetched may be there, whose edge the program has seen.
    #[inline]
    pub(super) fn begin_silence(&self) {
        self.events_fetched.store(false, Ordering::Relaxed);
    }

    /// A reap ends: no such event stays in epoll, where it would raise no other edge. What was
    /// fetched and not received is pending.
    pub(super) fn end_silence(&self) {
        if self.events_fetched.load(Ordering::Relaxed) {
            return;
        }
        let mut events = Events::new();
        let _ = self.epoll.wait(&mut events, Some(Duration::ZERO), None);
        let mut state = self.state.lock();
        self.enters.add_one();
        self.mark_readable(&mut state, events);
        if state.sockets.readable() > 0 {
            self.backlog.store(true, Ordering::Relaxed);
        }
    }

    /// How long epoll may sleep: for `timeout`, or until the first pause is over.
    fn until_pause_ends(&self, timeout: Option<Duration>) -> Option<Duration> {
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
    pub(super) fn time_pauses(&self) -> Result<()> {
        self.timer.get_or_try_init(|| {
            let timer = epoll::timer()?;
            self.epoll.add_waker(timer.raw())?;
            Ok::<_, Error>(timer)
        })?;
        self.note_pauses(&self.state.lock());
        Ok(())
    }

    pub(super) fn note_pauses(&self, state: &State) {
        let next = state.pauses.front().map(|(at_ns, _)| *at_ns);
        self.next_pause_ns.store(next.unwrap_or(NEVER), Ordering::Relaxed);
        if let (Some(at_ns), Some(timer)) = (next, self.timer.get()) {
            epoll::set_timer(timer.raw(), Duration::from_nanos(at_ns));
        }
    }

    fn end_pauses(&self, state: &mut State) {
        if state.pauses.is_empty() {
            return;
        }
        let now_ns = now_ns();
        while let Some(&(at_ns, token)) = state.pauses.front() {
            if at_ns > now_ns {
                break;
            }
            state.pauses.pop_front();
            self.post(&mut state.late, Completion::end(token, 0));
        }
        self.note_pauses(state);
    }
}
