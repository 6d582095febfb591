//! Random calls of the C interface, right and wrong, against a model of who holds which buffer
//! and which requests live. The sockets are real, on loopback; so is the kernel.
#![no_main]

mod model;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| model::play(bytes));
