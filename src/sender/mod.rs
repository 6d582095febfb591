//! Messages to datagrams, synchronously: when a call returns, the kernel has taken or refused
//! every message. Needs no ring.
//!
//! ```text
//!   message   the caller's arrays, in three forms, seen alike        path    where to, how
//!      |
//!   gather    which messages go out as one train      <- limits, refused: what may be tried
//!      |      (group: who may join; table: whose group it is)
//!   headers   addresses and control messages, right for the peer (encode)
//!      |
//!   submit    sendmmsg(2), its hidden errors, results  ->  cut: trains that must go in pieces
//!                                                      ->  wait: for room, on POLLOUT's edge
//! ```
//!
//! All of it works in the thread's `scratch` space, so a call allocates nothing once that is
//! there. A sender belongs to one thread at a time; `handle` is what C holds.

mod arrays;
mod blame;
mod config;
mod cut;
mod encode;
mod gather;
mod group;
mod handle;
mod headers;
mod limits;
mod message;
mod path;
mod refused;
mod scratch;
mod submit;
mod table;
mod tally;
mod wait;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::error::{Error, Result};
use crate::sys::fd::duplicate;

pub(crate) use arrays::{Base, Columns, Offsets, Pointers};
pub use config::{RINGMSG_SENDER_NO_GROUPING, RINGMSG_SENDER_TIMESTAMPS, SenderConfig, SenderStats};
pub use handle::Sender;
pub(crate) use message::Source;
pub use message::{Message, RINGMSG_MESSAGE_ALONE, RINGMSG_MESSAGE_TIMESTAMP, RINGMSG_MESSAGE_TRAFFIC_CLASS};
pub use path::*;
pub use submit::{RINGMSG_SEND_RESUME, RINGMSG_SEND_WAIT};

use limits::Limits;
use refused::Refused;
use submit::Call;
use tally::Tally;
use wait::Waiter;

/// What one call at a time may use.
struct Channel {
    /// Our own reference to the socket. A forked child keeps it, unlike a ring's.
    socket: OwnedFd,
    limits: Limits,
    refused: Refused,
    waiter: Waiter,
    batch: usize,
}

impl Channel {
    fn new(fd: RawFd, config: &SenderConfig) -> Result<Self> {
        config.check()?;
        let mut limits = Limits::of(fd, config)?;
        let duplicate = duplicate(fd);
        if duplicate < 0 {
            return Err(Error::last_os("sender: a duplicate of the descriptor"));
        }
        // SAFETY: nobody else has this descriptor.
        let socket = unsafe { OwnedFd::from_raw_fd(duplicate) };
        let refused = Refused::new()?;
        limits.set_options(fd, config)?;
        Ok(Self { socket, limits, refused, waiter: Waiter::default(), batch: config.batch() })
    }

    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Sender {
    /// Sends what `source` holds; returns how many messages it settled.
    pub(crate) fn send<S: Source>(&self, source: S, flags: u32) -> Result<u32> {
        let mut guard = self.enter()?;
        let mut tally = Tally::default();
        let batch = guard.channel().batch;
        let outcome = scratch::with(batch, |scratch| {
            Call::new(guard.channel(), scratch, source, flags, &mut tally).run()
        });
        self.add(&tally);
        outcome
    }
}
