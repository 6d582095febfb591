//! Batches of messages, good and bad, through each of the three forms of ringmsg_send(), against a
//! reference that sends one datagram after the other with sendmsg(2): the same datagrams must
//! arrive, each peer's in the same order, and the results must be the same.
#![no_main]

#[path = "send_game.rs"]
mod game;
#[path = "send_reference.rs"]
mod reference;
#[path = "send_sockets.rs"]
mod sockets;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| game::play(bytes));
