//! The C interface: the exported functions. Shims that turn pointers into references and results
//! into -errno; the functions' contracts are their documentation, which becomes
//! `include/ringmsg.h`.

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;

use crate::error::{Error, Result, fitting};
use crate::ring::Ring;
use crate::sys::cancel::NotCancelled;

pub mod control;
pub mod pool;
pub mod reap;
pub mod ring;
pub mod send;
pub mod socket;
pub mod submit;
pub mod support;
mod versioned;

/// Which thread may make a call.
enum Caller {
    Anybody,
    Owner,
}

/// The ring or pool behind a handle from C. (Functions that do not change it take `Option<&T>`
/// instead, which the header shows as const.)
fn known<'a, T>(handle: Option<NonNull<T>>) -> Option<&'a T> {
    // SAFETY: the header demands a handle that the library gave and whose ring is not freed.
    // References are always shared: rings and pools guard their own parts.
    handle.map(|handle| unsafe { handle.as_ref() })
}

#[cold]
fn null(what: &'static str) -> Error {
    Error::with(libc::EINVAL, format_args!("{what} is NULL"))
}

/// Runs a call on a ring: refuses NULL, foreign, closing and poisoned rings and wrong threads,
/// keeps the ring from being freed meanwhile, and turns what comes out into C's terms.
#[inline]
fn with_ring<'a>(
    ring: Option<&'a Ring>,
    caller: Caller,
    body: impl FnOnce(&'a Ring) -> Result<usize>,
) -> c_int {
    let Some(ring) = ring else { return null("ring").into_c() };
    let _not_cancelled = NotCancelled::begin();
    let run = || {
        let _inside = ring.gate.enter()?;
        if let Caller::Owner = caller {
            ring.gate.check_owner()?;
        }
        body(ring)
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => value as c_int,
        Ok(Err(error)) => error.into_c(),
        Err(_) => {
            ring.gate.poison();
            Error::new(libc::ENOTRECOVERABLE, "an error inside the library has poisoned the ring").into_c()
        }
    }
}

/// Runs a call that needs no ring.
fn without_ring(body: impl FnOnce() -> Result<usize>) -> c_int {
    let _not_cancelled = NotCancelled::begin();
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value as c_int,
        Ok(Err(error)) => error.into_c(),
        Err(_) => Error::new(libc::ENOTRECOVERABLE, "an error inside the library").into_c(),
    }
}

/// Refuses a count that no array has. Most likely it is a negative result that was passed on.
fn check_count(what: &'static str, count: u32) -> Result<usize> {
    match i32::try_from(count) {
        Ok(count) => Ok(count as usize),
        Err(_) => Err(Error::with(
            libc::EINVAL,
            format_args!("{what}: a count of {count}; is it the result {}, passed on?", count as i32),
        )),
    }
}

/// An array from C: NULL is fine when it is empty.
///
/// # Safety
/// `array` is NULL, or readable for `count` elements for as long as the result is used.
unsafe fn slice<'a, T>(what: &'static str, array: *const T, count: u32) -> Result<&'a [T]> {
    let count = check_count(what, count)?;
    if count == 0 {
        return Ok(&[]);
    }
    if array.is_null() {
        return Err(null(what));
    }
    // SAFETY: not NULL, not too long; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(array, count) })
}

/// Copies as much of `text` as fits, always with a NUL at its end; returns its full length.
///
/// # Safety
/// `to` is NULL, or writable for `length` bytes.
unsafe fn copy_text(text: &str, to: *mut std::ffi::c_char, length: usize) -> usize {
    if !to.is_null() && length > 0 {
        let copied = fitting(text, length - 1);
        // SAFETY: `copied` < `length` bytes fit, and one more.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), to.cast(), copied);
            to.add(copied).write(0);
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RingConfig;
    use crate::teardown;

    #[test]
    fn a_panic_poisons_the_ring_and_goes_no_further() {
        let ring = match Ring::new(&RingConfig::default()) {
            Ok(ring) => ring,
            Err(error) => {
                assert!(std::env::var_os("RINGMSG_TEST_ALLOW_SKIP").is_some(), "{}", error.sentence());
                return;
            }
        };
        std::panic::set_hook(Box::new(|_| ())); // the message is expected
        let outcome = with_ring(Some(&ring), Caller::Anybody, |_| panic!("a bug"));
        drop(std::panic::take_hook());
        assert_eq!(outcome, -libc::ENOTRECOVERABLE);
        assert_eq!(with_ring(Some(&ring), Caller::Anybody, |_| Ok(7)), -libc::ENOTRECOVERABLE);
        assert_eq!(teardown::free(ring), Ok(()));
    }

    #[test]
    fn texts_are_cut_between_characters_and_always_end() {
        let mut buffer = [1 as std::ffi::c_char; 5];
        // SAFETY: the buffer is as long as is said.
        let length = unsafe { copy_text("ab\u{e9}d", buffer.as_mut_ptr(), 4) };
        assert_eq!((length, buffer), (5, [b'a' as _, b'b' as _, 0, 1, 1]));
    }
}
