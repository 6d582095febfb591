//! Control messages: stepping through them, and decoding them.

use std::ffi::c_int;

use crate::control;
use crate::error::{Error, Result};
use crate::record::Metadata;

use super::{null, slice, without_ring};

/// One control message of a slice, and the cursor that walks it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cmsg {
    /// cmsg_level: SOL_SOCKET, SOL_IP, ...
    pub level: i32,
    /// cmsg_type
    pub r#type: i32,
    /// Where its data starts, counted from the start of the slice, in bytes.
    pub offset: u32,
    /// Bytes of data; fewer than the type promises when the kernel cut it.
    pub length: u32,
}

const _: () = assert!(size_of::<Cmsg>() == 16);

const MALFORMED: Error =
    Error::new(libc::EBADMSG, "control: a message's length is impossible; this is not a control slice");

fn bounded(length: usize) -> Result<u32> {
    u32::try_from(length).map_err(|_| Error::new(libc::EINVAL, "control: the slice is 4 GiB or longer"))
}

/// ringmsg_control_next: steps to the next control message of a slice. Start with a zeroed
/// cursor. Needs no alignment.
///
/// **Ownership:** reads `length` bytes; keeps nothing.
/// **Threads:** any.
/// **Returns:** 1: the cursor describes a message; 0: there is none left; -EBADMSG: the next bytes
/// are no control message; -EINVAL (NULL). On 0 and errors the cursor stays as it was.
///
/// # Safety
/// `control` is readable for `length` bytes; `cursor` is NULL, or readable and writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_control_next(
    control: *const std::ffi::c_void,
    length: usize,
    cursor: Option<&mut Cmsg>,
) -> c_int {
    without_ring(|| {
        let cursor = cursor.ok_or_else(|| null("cursor"))?;
        // SAFETY: the caller's promise is passed on.
        let control = unsafe { slice("control", control.cast::<u8>(), bounded(length)?) }?;
        let at = match cursor.offset {
            0 => 0,
            offset => control::align(offset as usize + cursor.length as usize),
        };
        let Some(message) = control::message_at(control, at).map_err(|_| MALFORMED)? else { return Ok(0) };
        *cursor = Cmsg {
            level: message.level,
            r#type: message.kind,
            offset: message.offset as u32,
            length: message.length as u32,
        };
        Ok(1)
    })
}

/// ringmsg_control_decode: decodes a whole slice, as ringmsg_reap() does for its metadata. (The
/// source address is not in it: that is the record's name.) Unknown messages, and those that the
/// kernel cut, are skipped.
///
/// **Ownership:** reads `length` bytes; fills `out`.
/// **Threads:** any.
/// **Returns:** 0; -EBADMSG (malformed: `out` is left as it was); -EINVAL (NULL).
///
/// # Safety
/// `control` is readable for `length` bytes; `out` is NULL or writable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ringmsg_control_decode(
    control: *const std::ffi::c_void,
    length: usize,
    out: *mut Metadata,
) -> c_int {
    without_ring(|| {
        if out.is_null() {
            return Err(null("out"));
        }
        // SAFETY: the caller's promise is passed on.
        let control = unsafe { slice("control", control.cast::<u8>(), bounded(length)?) }?;
        let mut metadata = Metadata::default();
        control::decode(control, &mut metadata).map_err(|_| MALFORMED)?;
        // SAFETY: not NULL, and the caller promises it is writable.
        unsafe { out.write(metadata) };
        Ok(0)
    })
}
