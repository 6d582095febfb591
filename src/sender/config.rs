//! How a sender is made, and what it tells about itself.

use std::mem::{offset_of, size_of};

use crate::config::reserved_is_zero;
use crate::error::{Error, Result};

/// Every message leaves as it is given: none are joined into trains.
pub const RINGMSG_SENDER_NO_GROUPING: u32 = 1u32 << 0;
/// Set the options that bring transmit timestamps back (SO_TIMESTAMPING with SOFTWARE, OPT_ID and
/// OPT_TSONLY), beside those that are on already.
pub const RINGMSG_SENDER_TIMESTAMPS: u32 = 1u32 << 1;

const SENDER_ALL: u32 = (1 << 2) - 1;
const BATCH_DEFAULT: u32 = 1024;
const BATCH_MAX: u32 = 32_768;

/// How a sender is to be made. Fill with ringmsg_sender_config_init().
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct SenderConfig {
    /// sizeof(struct ringmsg_sender_config)
    pub size: u32,
    /// Messages grouped at once, at most 32768; 0: 1024.
    pub batch: u32,
    /// RINGMSG_SENDER_*
    pub flags: u32,
    /// The clock of transmit times (SO_TXTIME): CLOCK_MONOTONIC for fq, CLOCK_TAI for etf;
    /// -1: none.
    pub transmit_clock: i32,
    /// 0
    pub reserved: [u32; 12],
}

/// What a sender has done so far.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SenderStats {
    /// sizeof(struct ringmsg_sender_stats), set by the caller.
    pub size: u32,
    /// The errno, positive, of the latest pending error that an earlier datagram had caused; 0 if
    /// none is known. (If sendmmsg(2) meets such an error after its first message, it returns no
    /// errno: the error counts in socket_errors, and changes nothing here.)
    pub last_socket_error: i32,
    /// Messages that the socket took, whole or in part.
    pub messages: u64,
    /// Datagrams that it took; a train counts its segments.
    pub datagrams: u64,
    /// Payload bytes that it took.
    pub payload_bytes: u64,
    /// System calls that sent: sendmmsg(2).
    pub calls: u64,
    /// UDP_SEGMENT trains of two datagrams or more.
    pub trains: u64,
    /// Messages that left in a train together with others.
    pub grouped: u64,
    /// Trains that were refused, and whose datagrams were then sent one by one.
    pub fallbacks: u64,
    /// How often the socket was full (-EAGAIN).
    pub would_block: u64,
    /// Messages whose result is an error, other than -EAGAIN.
    pub errors: u64,
    /// Pending errors of earlier datagrams that were taken off the socket.
    pub socket_errors: u64,
}

const _: () = {
    assert!(size_of::<SenderConfig>() == 64 && offset_of!(SenderConfig, transmit_clock) == 12);
    assert!(size_of::<SenderStats>() == 88 && offset_of!(SenderStats, messages) == 8);
};

impl Default for SenderConfig {
    fn default() -> Self {
        Self { size: size_of::<Self>() as u32, batch: 0, flags: 0, transmit_clock: -1, reserved: [0; 12] }
    }
}

impl SenderConfig {
    /// Checks everything but the clock, which is for the kernel to judge.
    pub(super) fn check(&self) -> Result<()> {
        reserved_is_zero("ringmsg_sender_config", &self.reserved)?;
        if self.flags & !SENDER_ALL != 0 {
            return Err(Error::with(
                libc::EINVAL,
                format_args!("sender: unknown flags {:#x}", self.flags & !SENDER_ALL),
            ));
        }
        if self.batch > BATCH_MAX {
            return Err(Error::with(
                libc::EINVAL,
                format_args!("sender: a batch of {} messages is more than {BATCH_MAX}", self.batch),
            ));
        }
        Ok(())
    }

    pub(super) fn batch(&self) -> usize {
        if self.batch == 0 { BATCH_DEFAULT as usize } else { self.batch as usize }
    }
}
