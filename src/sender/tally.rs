//! What a call counts, until the sender's counters take it over.

use super::headers::Sums;

/// What a call adds to the sender's counters.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub last_socket_error: i32,
    pub messages: u64,
    pub datagrams: u64,
    pub payload_bytes: u64,
    pub calls: u64,
    pub trains: u64,
    pub grouped: u64,
    pub fallbacks: u64,
    pub would_block: u64,
    pub errors: u64,
    pub socket_errors: u64,
}

impl Tally {
    pub(super) const COUNTS: usize = 10;

    pub(super) fn add_sums(&mut self, sums: &Sums) {
        self.datagrams += sums.datagrams;
        self.trains += sums.trains;
        self.grouped += sums.grouped;
    }

    /// In the order of the public struct.
    pub(super) fn counts(&self) -> [u64; Self::COUNTS] {
        [
            self.messages,
            self.datagrams,
            self.payload_bytes,
            self.calls,
            self.trains,
            self.grouped,
            self.fallbacks,
            self.would_block,
            self.errors,
            self.socket_errors,
        ]
    }
}
