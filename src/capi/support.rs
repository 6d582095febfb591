//! Versions, errors, and what this machine offers.

use std::ffi::{c_char, c_int};

use crate::config::Support;
use crate::error;
use crate::probe;
use crate::record::{Metadata, Record};

use super::{copy_text, versioned, without_ring};

/// ringmsg_version: the library's version as text, "0.1.0". RINGMSG_VERSION is the header's.
///
/// **Threads:** any. **Returns:** a static string.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// ringmsg_abi_version: the number of the binary interface. It changes only when programs must
/// be compiled again; compare it with RINGMSG_ABI_VERSION.
///
/// **Threads:** any.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_abi_version() -> u32 {
    RINGMSG_ABI_VERSION
}

/// The binary interface that this header describes.
pub const RINGMSG_ABI_VERSION: u32 = 0;

/// ringmsg_sizeof_record: sizeof(struct ringmsg_record), for languages that cannot include the
/// header.
///
/// **Threads:** any.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_sizeof_record() -> usize {
    size_of::<Record>()
}

/// ringmsg_sizeof_metadata: sizeof(struct ringmsg_metadata).
///
/// **Threads:** any.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_sizeof_metadata() -> usize {
    size_of::<Metadata>()
}

/// ringmsg_strerror: the text of a value that the library returned, or of a record's result; its
/// sign does not matter.
///
/// **Threads:** any. **Returns:** a static string, never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn ringmsg_strerror(error: c_int) -> *const c_char {
    // The library's success values are counts.
    let errno = if error > 4095 { 0 } else { error };
    error::text(errno).as_ptr()
}

/// ringmsg_last_error: copies the sentence that explains the calling thread's last failure, such
/// as "pool: 300 buffers is not a power of two up to 32768". Success does not clear it.
///
/// **Ownership:** at most `len` bytes are written to `buf`, always ending in NUL; `buf` may be
/// NULL when `len` is 0.
/// **Threads:** any; each sees its own failures.
/// **Returns:** the sentence's full length, without the NUL; 0 when nothing has failed yet.
///
/// # Safety
/// `buf` is NULL, or writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_last_error(buf: *mut c_char, len: usize) -> usize {
    // SAFETY: the caller's promise is passed on.
    error::with_last(|sentence| unsafe { copy_text(sentence, buf, len) })
}

/// ringmsg_query_support: reports what this kernel and this sandbox offer, by trying: engines,
/// setup flags, features, and the reason if io_uring is refused. It makes and frees some rings,
/// which takes about a millisecond, in a thread that has ended when the call returns.
///
/// **Ownership:** `out` is the caller's; its `size` must be set.
/// **Threads:** any.
/// **Returns:** 0; -EINVAL (NULL, bad size).
///
/// # Safety
/// `out` is NULL, or writable for as many bytes as its `size` says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_query_support(out: *mut Support) -> c_int {
    without_ring(|| {
        // SAFETY: the caller's promise is passed on.
        unsafe {
            versioned::check_output(out)?;
            versioned::write(out, &probe::query())?;
        }
        Ok(0)
    })
}

/// ringmsg_describe_support: the same for a person, in a few lines: which engine and mode AUTO
/// takes, and why not a better one.
///
/// **Ownership:** at most `len` bytes are written to `buf`, always ending in NUL; `buf` may be
/// NULL when `len` is 0.
/// **Threads:** any.
/// **Returns:** the text's full length, without the NUL; -EINVAL (NULL `buf`).
///
/// # Safety
/// `buf` is NULL, or writable for `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_describe_support(buf: *mut c_char, len: usize) -> c_int {
    without_ring(|| {
        if buf.is_null() && len > 0 {
            return Err(super::null("buf"));
        }
        // SAFETY: the caller's promise is passed on.
        Ok(unsafe { copy_text(&probe::describe(), buf, len) })
    })
}
