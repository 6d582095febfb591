//! ringmsg receives messages with io_uring `recvmsg` and hands them out as batches of flat
//! records. It is a C library (`include/ringmsg.h`); this is its inside.
//!
//! ```text
//!   C, C++, Python, Go
//!         |  ringmsg_*                                    any thread
//!   capi  |  shims: pointers to slices, errors to -errno    |  release, wake, stats, free
//!  -------+---------------------------------------------------+------------------------------
//!   ring  |  submit: a wish becomes a request in a slot         |  signal: flags, eventfds
//!         |  wait:   when to enter the kernel, for how long     |  release: claims off buffers
//!         |  reap:   completions become records; re-arming      |  teardown
//!  -------+-------------------------------------------------------------------------------------
//!   pool      who holds each buffer        request   what is in flight, the re-arm policy
//!   socket    our own reference            linger    how long to wait for company
//!  ---------------------------------------------------------------------------------------------
//!   engine    io_uring, or epoll and recvmmsg: submissions, completions, buffer ring
//!   control, layout, record    bytes in, fields out: pure, fuzzed
//! ```
//!
//! The way of a datagram: the kernel takes a *published* buffer of the pool, writes header,
//! source address, control messages and payload into it, and posts a completion. `wait` enters
//! the kernel once for a batch of them. `reap` looks up the request and its pool by the
//! completion's two numbers, clamps what the header says to what can be true, notes the buffer
//! as *held*, and writes a 64-byte record into the caller's array. `release` takes the claim
//! off, and the buffer goes back on the stack from which it is published again.
//!
//! Dependencies point downwards only.

// The contracts are written for the C header: `[owner]` in there is no link.
#![allow(rustdoc::broken_intra_doc_links)]

pub mod capi;
pub mod config;
pub mod control;
pub mod layout;
pub mod linger;
pub mod record;
pub mod stats;

mod clock;
mod descriptors;
mod diagnosis;
mod engine;
mod error;
mod fork;
mod gate;
mod memory;
mod mode;
mod pool;
mod reap;
mod release;
mod request;
mod ring;
mod signal;
mod socket;
mod submit;
mod support;
mod teardown;
mod thread;
mod wait;
mod window;
