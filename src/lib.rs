//! ringmsg receives messages with io_uring `recvmsg` and hands them out as batches of flat records.
//! It is a C library (`include/ringmsg.h`); this crate is its implementation.
//!
//! ```text
//!   C, C++, Python, Go
//!         |  ringmsg_*
//!  -------+----------------------------------------------------------------------------------
//!   capi     shims: pointers to slices, errors to -errno
//!  ------------------------------------------------------------------------------------------
//!   arm      makes requests and      reaper   takes completions,     release  buffers back,
//!            cancels them                     makes records                   from any thread
//!   ring     the parts and their guards       teardown  the end      probe    what works here
//!  ------------------------------------------------------------------------------------------
//!   request  what is in flight,      engine   io_uring, or epoll     wakeup   flags, eventfds
//!            the re-arm policy                and recvmmsg           gate     calls inside
//!   pool     who holds each buffer   socket   the ring's reference to one
//!  ------------------------------------------------------------------------------------------
//!   control, layout, record    bytes in, fields out: pure, fuzzed
//!   linger, mode               policy: pure
//!   sys                        descriptors, fork, memory, signals, threads
//! ```
//!
//! How a datagram passes: the kernel takes a *published* buffer of the pool, writes header, source
//! address, control messages and payload into it, and posts a completion. The reaper enters the
//! kernel once for a batch of them. It looks up the request and its pool by the completion's two
//! numbers, clamps the lengths in the header to what is possible, marks the buffer as *held*, and
//! writes a 64-byte record into the caller's array. `release` ends the record's hold on the buffer,
//! which goes back on the stack from which it is published again.
//!
//! A module uses only modules below it, and no two use each other. `tests/architecture.rs` checks
//! this.

// The contracts are written for the C header: `[owner]` in there is no link.
#![allow(rustdoc::broken_intra_doc_links)]

pub mod capi;
pub mod config;
pub mod control;
pub mod layout;
pub mod linger;
pub mod record;
pub mod sender;
pub mod stats;

mod arm;
mod diagnosis;
mod engine;
mod error;
mod gate;
mod ids;
mod mode;
mod pool;
mod probe;
mod reaper;
mod receive;
mod release;
mod request;
mod ring;
mod scm_rights;
mod slot_list;
mod socket;
mod socket_options;
pub mod socket_steer;
mod sys;
mod teardown;
mod wakeup;
