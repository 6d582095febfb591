//! How the structs at the C interface grow.
//!
//! Each begins with its size. Input: a shorter struct is zero-extended, a longer one must have
//! a zero tail (the rule of clone3(2)). Output: min(size, ours) bytes are written and the rest
//! is zeroed. So a program and a library of different versions understand each other.

use crate::config::{PoolConfig, RingConfig, RingInfo, Support, Wait};
use crate::error::{Error, Result};
use crate::sender::{SenderConfig, SenderStats};
use crate::socket_steer::Steering;
use crate::stats::Stats;

/// A struct of plain integers that begins with `size: u32`.
///
/// # Safety
/// repr(C), no padding, no pointers, every bit pattern valid, `size` first.
pub(super) unsafe trait VersionedStruct: Copy {
    const NAME: &'static str;
}

// SAFETY: repr(C), integers only; the sizes asserted in `config` leave no room for padding.
unsafe impl VersionedStruct for RingConfig {
    const NAME: &'static str = "ringmsg_ring_config";
}
// SAFETY: as above.
unsafe impl VersionedStruct for PoolConfig {
    const NAME: &'static str = "ringmsg_pool_config";
}
// SAFETY: as above.
unsafe impl VersionedStruct for Wait {
    const NAME: &'static str = "ringmsg_wait";
}
// SAFETY: as above.
unsafe impl VersionedStruct for RingInfo {
    const NAME: &'static str = "ringmsg_ring_info";
}
// SAFETY: as above.
unsafe impl VersionedStruct for Support {
    const NAME: &'static str = "ringmsg_support";
}
// SAFETY: as above.
unsafe impl VersionedStruct for Stats {
    const NAME: &'static str = "ringmsg_stats";
}

// SAFETY: as above, asserted in `socket_steer`.
unsafe impl VersionedStruct for Steering {
    const NAME: &'static str = "ringmsg_steering";
}
// SAFETY: as above, asserted in `sender::config`.
unsafe impl VersionedStruct for SenderConfig {
    const NAME: &'static str = "ringmsg_sender_config";
}
// SAFETY: as above.
unsafe impl VersionedStruct for SenderStats {
    const NAME: &'static str = "ringmsg_sender_stats";
}

/// No struct will ever be longer, so a larger size is a field that was not set.
const SIZE_MAX: usize = 4096;

/// The size a caller's struct says it has.
///
/// # Safety
/// `from` is readable for four bytes.
unsafe fn stated_size<T: VersionedStruct>(from: *const T) -> Result<usize> {
    // SAFETY: the caller promises it; C may not align what it casts.
    let size = unsafe { from.cast::<u32>().read_unaligned() } as usize;
    if !(size_of::<u32>()..=SIZE_MAX).contains(&size) {
        return Err(Error::with(
            libc::EINVAL,
            format_args!("{0}: size is {size}; set it to sizeof(struct {0})", T::NAME),
        ));
    }
    Ok(size)
}

/// Reads an input struct of any version.
///
/// # Safety
/// `from` is NULL, or readable for as many bytes as its `size` says.
#[inline]
pub(super) unsafe fn read<T: VersionedStruct>(from: *const T) -> Result<T> {
    // SAFETY: the caller's promise is passed on; of this size it is readable whole.
    unsafe {
        if !from.is_null() && from.cast::<u32>().read_unaligned() as usize == size_of::<T>() {
            return Ok(from.read_unaligned());
        }
        read_other(from)
    }
}

/// The same for a struct of another version, and for what is none.
///
/// # Safety
/// As for `read`.
#[cold]
unsafe fn read_other<T: VersionedStruct>(from: *const T) -> Result<T> {
    if from.is_null() {
        return Err(Error::with(libc::EINVAL, format_args!("{} is NULL", T::NAME)));
    }
    // SAFETY: not NULL; the rest is the caller's promise.
    let size = unsafe { stated_size(from) }?;
    let known = size.min(size_of::<T>());
    let mut value = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are readable there and fit here; zero is valid for the others.
    let value = unsafe {
        std::ptr::copy_nonoverlapping(from.cast::<u8>(), value.as_mut_ptr().cast(), known);
        value.assume_init()
    };
    // SAFETY: the caller promises `size` readable bytes.
    let tail = unsafe { std::slice::from_raw_parts(from.cast::<u8>().add(known), size - known) };
    if tail.iter().any(|&byte| byte != 0) {
        return Err(Error::with(
            libc::EINVAL,
            format_args!(
                "{}: bytes beyond the {} this version knows are set; it is older than the program",
                T::NAME,
                size_of::<T>()
            ),
        ));
    }
    Ok(value)
}

/// Writes an output struct for a program of any version. Its `size` stays what the program set.
///
/// # Safety
/// `to` is NULL, or writable for as many bytes as its `size` says.
pub(super) unsafe fn write<T: VersionedStruct>(to: *mut T, value: &T) -> Result<()> {
    if to.is_null() {
        return Err(Error::with(libc::EINVAL, format_args!("{} is NULL", T::NAME)));
    }
    // SAFETY: not NULL; the rest is the caller's promise.
    let size = unsafe { stated_size(to) }?;
    let known = size.min(size_of::<T>());
    // SAFETY: `to` is writable for `size` bytes, `value` readable for `known`.
    unsafe {
        std::ptr::copy_nonoverlapping((&raw const *value).cast::<u8>(), to.cast(), known);
        std::ptr::write_bytes(to.cast::<u8>().add(known), 0, size - known);
        to.cast::<u32>().write_unaligned(size as u32);
    }
    Ok(())
}

/// Checks that an output struct can be written, before anything is done.
///
/// # Safety
/// As for `write`.
pub(super) unsafe fn check_output<T: VersionedStruct>(to: *const T) -> Result<()> {
    if to.is_null() {
        return Err(Error::with(libc::EINVAL, format_args!("{} is NULL", T::NAME)));
    }
    // SAFETY: not NULL; the rest is the caller's promise.
    unsafe { stated_size(to) }.map(drop)
}
