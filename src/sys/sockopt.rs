//! getsockopt(2) and setsockopt(2) for plain values.

use std::io::{Error, Result};
use std::os::fd::RawFd;

/// The value of an option: an integer, or an array of them.
pub(crate) fn get<T: Copy + Default>(fd: RawFd, level: i32, name: i32) -> Result<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is writable for `length` bytes; T is an integer or an array of them.
    let got = unsafe { libc::getsockopt(fd, level, name, (&raw mut value).cast(), &mut length) };
    if got != 0 { Err(Error::last_os_error()) } else { Ok(value) }
}

pub(crate) fn set<T: Copy>(fd: RawFd, level: i32, name: i32, value: T) -> Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is readable for `length` bytes.
    let set = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), length) };
    if set != 0 { Err(Error::last_os_error()) } else { Ok(()) }
}

pub(crate) fn is_on(fd: RawFd, level: i32, name: i32) -> bool {
    get::<i32>(fd, level, name).is_ok_and(|value| value != 0)
}
