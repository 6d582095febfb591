//! Signal masks: blocking signals for a while, and noticing one that arrived meanwhile.

use std::mem::MaybeUninit;

/// Blocks all signals in the calling thread until it is dropped.
pub(crate) struct Blocked {
    before: libc::sigset_t,
}

impl Blocked {
    pub(crate) fn all() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: both sets are writable; sigfillset initialises the first, pthread_sigmask
        // reads it and initialises the second. Neither can fail with these arguments.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self { before: before.assume_init() }
        }
    }

    /// The mask that was in force before, and is again when this is dropped.
    pub(crate) fn before(&self) -> &libc::sigset_t {
        &self.before
    }

    /// Whether a signal is pending that will run a handler, stop or end the process as soon as
    /// the mask from before is in force again. One that the process ignores is taken off instead:
    /// the kernel keeps it pending while it is blocked, and would end the next sleep with it.
    pub(crate) fn is_pending(&self) -> bool {
        let mut pending = MaybeUninit::uninit();
        // SAFETY: the set is writable; sigpending initialises it.
        let pending = unsafe {
            if libc::sigpending(pending.as_mut_ptr()) != 0 {
                return false;
            }
            pending.assume_init()
        };
        // SAFETY: both sets are initialised, and the numbers are those of signals.
        let was_blocked_here = |signal: &i32| unsafe {
            libc::sigismember(&pending, *signal) == 1 && libc::sigismember(&self.before, *signal) == 0
        };
        let mut is_due = false;
        for signal in (1..=libc::SIGRTMAX()).filter(was_blocked_here) {
            if is_ignored(signal) {
                take_off(signal);
            } else {
                is_due = true;
            }
        }
        is_due
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the set is the one that was in force.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}

/// Takes a blocked signal off the pending ones, if it is pending.
fn take_off(signal: i32) {
    let mut set = MaybeUninit::uninit();
    let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the set is initialised before it is read, and the call waits for nothing.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::sigtimedwait(set.as_ptr(), std::ptr::null_mut(), &at_once);
    }
}

/// Whether the process ignores `signal`, explicitly or by default (signal(7)).
fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: the action is writable; nothing is changed.
    let action = unsafe {
        if libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr()) != 0 {
            return true;
        }
        action.assume_init()
    };
    match action.sa_sigaction {
        libc::SIG_IGN => true,
        libc::SIG_DFL => matches!(signal, libc::SIGCHLD | libc::SIGCONT | libc::SIGURG | libc::SIGWINCH),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raise(signal: i32) {
        // SAFETY: the calling thread exists, and the signal is blocked or ignored there.
        unsafe { libc::pthread_kill(libc::pthread_self(), signal) };
    }

    fn is_pending_anywhere(signal: i32) -> bool {
        let mut pending = MaybeUninit::uninit();
        // SAFETY: sigpending initialises the set, which is then read.
        unsafe {
            libc::sigpending(pending.as_mut_ptr());
            libc::sigismember(pending.as_ptr(), signal) == 1
        }
    }

    #[test]
    fn a_pending_signal_counts_and_an_ignored_one_is_taken_off() {
        let blocked = Blocked::all();
        assert!(!blocked.is_pending());
        raise(libc::SIGURG); // ignored by default
        assert!(!blocked.is_pending());
        assert!(!is_pending_anywhere(libc::SIGURG));
        raise(libc::SIGUSR1);
        assert!(blocked.is_pending());
        take_off(libc::SIGUSR1); // or it would end the process when the mask is restored
        assert!(!blocked.is_pending());
    }
}
