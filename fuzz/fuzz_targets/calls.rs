//! Random calls of the C interface, valid and invalid, checked against a model of the held buffers
//! and armed requests. Sockets and kernel are real, on loopback.
#![no_main]

mod model;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| model::play(bytes));
