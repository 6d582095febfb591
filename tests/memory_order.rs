//! Litmus tests: the few atomics that order the library against the kernel, in every execution that
//! a weakly ordered processor allows. Each test also weakens an order, and checks that the model
//! then reaches the outcome that the order forbids: so a test that passes is not a model that
//! allows nothing.
//!
//! The model is the release/acquire fragment of C++20: a store is a message with a timestamp on its
//! location and a view (what its thread had seen, if the store is a release); a load reads any
//! message that its thread's view does not rule out, and an acquire joins the message's view; a
//! sequentially consistent fence joins its thread's view and a global one. A fence stands where the
//! library has a SeqCst store before a SeqCst load, or the kernel smp_mb(). Not modelled: a load
//! that reads a store which the other thread makes later because of that load (no processor
//! speculates stores).
//!
//! loom is not used: it takes SeqCst loads and stores for acquire and release, and would report
//! executions that cannot be.

use std::collections::BTreeSet;

#[derive(Clone, Copy)]
enum Op {
    /// Location, value, release.
    Store(usize, u8, bool),
    /// Location, register, acquire.
    Load(usize, usize, bool),
    Fence,
    /// Ends the thread unless the register has this value.
    Unless(usize, u8),
}
use Op::{Fence, Load, Store, Unless};

const RELEASE: bool = true;
const ACQUIRE: bool = true;
const RELAXED: bool = false;

const LOCATIONS: usize = 3;
const REGISTERS: usize = 4;
const UNREAD: u8 = 255;

type View = [usize; LOCATIONS];

#[derive(Clone)]
struct State {
    /// Per location the stores in their order: value and view.
    stores: [Vec<(u8, View)>; LOCATIONS],
    next: [usize; 2],
    views: [View; 2],
    fences: View,
    registers: [u8; REGISTERS],
}

fn join(into: &mut View, other: &View) {
    for (into, other) in into.iter_mut().zip(other) {
        *into = (*into).max(*other);
    }
}

/// The registers at the end of every execution of two threads. All locations begin with 0.
fn outcomes(threads: [&[Op]; 2]) -> BTreeSet<[u8; REGISTERS]> {
    let start = State {
        stores: [const { Vec::new() }; LOCATIONS].map(|_: Vec<()>| vec![(0, View::default())]),
        next: [0; 2],
        views: [View::default(); 2],
        fences: View::default(),
        registers: [UNREAD; REGISTERS],
    };
    let (mut left, mut ends) = (vec![start], BTreeSet::new());
    while let Some(state) = left.pop() {
        let mut is_end = true;
        for (thread, ops) in threads.iter().enumerate() {
            if let Some(&op) = ops.get(state.next[thread]) {
                is_end = false;
                left.extend(steps(&state, thread, op, ops.len()));
            }
        }
        if is_end {
            ends.insert(state.registers);
        }
    }
    ends
}

fn steps(state: &State, thread: usize, op: Op, length: usize) -> Vec<State> {
    let mut after = state.clone();
    after.next[thread] += 1;
    match op {
        Store(location, value, release) => {
            // Each location has one writer here, so a store is the last.
            let timestamp = after.stores[location].len();
            after.views[thread][location] = timestamp;
            let mut view = if release { after.views[thread] } else { View::default() };
            view[location] = timestamp;
            after.stores[location].push((value, view));
            vec![after]
        }
        Load(location, register, acquire) => (state.views[thread][location]..state.stores[location].len())
            .map(|timestamp| {
                let mut after = after.clone();
                let (value, view) = after.stores[location][timestamp];
                after.views[thread][location] = timestamp;
                if acquire {
                    join(&mut after.views[thread], &view);
                }
                after.registers[register] = value;
                after
            })
            .collect(),
        Fence => {
            join(&mut after.views[thread], &state.fences);
            after.fences = after.views[thread];
            vec![after]
        }
        Unless(register, value) => {
            if after.registers[register] != value {
                after.next[thread] = length;
            }
            vec![after]
        }
    }
}

/// A producer writes an entry and moves the tail; a consumer that sees the tail reads the entry.
fn stale_entry_is_read(store: bool, load: bool) -> bool {
    const ENTRY: usize = 0;
    const TAIL: usize = 1;
    let producer = [Store(ENTRY, 7, RELAXED), Store(TAIL, 1, store)];
    let consumer = [Load(TAIL, 0, load), Unless(0, 1), Load(ENTRY, 1, RELAXED)];
    let ends = outcomes([&producer, &consumer]);
    assert!(ends.iter().any(|end| end[..2] == [1, 7]), "the consumer can see the entry");
    ends.iter().any(|end| end[..2] == [1, 0])
}

/// Each side stores its flag and then looks at the other's. Both may miss the other's.
fn both_are_missed(fences: [bool; 2]) -> bool {
    let side = |own, other, register, fence: bool| {
        let mut ops = vec![Store(own, 1, RELEASE)];
        ops.extend(fence.then_some(Fence));
        ops.push(Load(other, register, ACQUIRE));
        ops
    };
    let (first, second) = (side(0, 1, 0, fences[0]), side(1, 0, 1, fences[1]));
    outcomes([&first, &second]).iter().any(|end| end[..2] == [0, 0])
}

/// `BufferRing::push` and `commit` (src/pool/buffer_ring.rs) against io_uring's
/// smp_load_acquire(&br->tail): the kernel fills no buffer whose entry it has not seen.
#[test]
fn the_buffer_rings_tail_shows_entries() {
    assert!(!stale_entry_is_read(RELEASE, ACQUIRE));
    assert!(stale_entry_is_read(RELAXED, ACQUIRE), "the store of the tail is to be a release");
    assert!(stale_entry_is_read(RELEASE, RELAXED), "the load of the tail is to be an acquire");
}

/// The kernel's smp_store_release of the completion queue's tail against the io-uring crate's
/// acquire load of it (`CompletionQueue::sync`); the submission queue's tail the other way round
/// (`SubmissionQueue::sync`, smp_load_acquire). `Queue` in src/engine/mmsg/queue.rs has both ends.
#[test]
fn a_queues_tail_shows_entries() {
    assert!(!stale_entry_is_read(RELEASE, ACQUIRE));
}

/// The completion queue's head: the library has read an entry before it gives the place back, and
/// the kernel overwrites it after it has seen that. `Popping::drop` and `Queue::len` do the same.
#[test]
fn a_queues_head_gives_a_place_back_after_it_was_read() {
    const ENTRY: usize = 0;
    const HEAD: usize = 1;
    const NOTE: usize = 2;
    // What the consumer has done with the entry (a store of its own) is done before the place is
    // free.
    let consumer = |release| [Load(ENTRY, 0, RELAXED), Store(NOTE, 1, RELAXED), Store(HEAD, 1, release)];
    let kernel =
        |acquire| [Load(HEAD, 1, acquire), Unless(1, 1), Store(ENTRY, 9, RELAXED), Load(NOTE, 2, RELAXED)];
    let ends = |release, acquire| outcomes([&consumer(release), &kernel(acquire)]);
    assert!(ends(RELEASE, ACQUIRE).iter().all(|end| end[0] == 0 || end[1] != 1), "the entry is the old one");
    let is_early = |end: &[u8; REGISTERS]| end[1] == 1 && end[2] == 0;
    assert!(!ends(RELEASE, ACQUIRE).iter().any(is_early));
    assert!(ends(RELAXED, ACQUIRE).iter().any(is_early), "the store of the head is to be a release");
    assert!(ends(RELEASE, RELAXED).iter().any(is_early), "the load of the head is to be an acquire");
}

/// `Wakeup::wake_reaper` and `fall_asleep` (src/wakeup.rs): a waker stores `woken` or `work` and
/// loads `sleeping`, the reaper stores `sleeping` and loads the others: no wake is lost.
#[test]
fn a_waker_and_a_sleeper_do_not_miss_each_other() {
    assert!(!both_are_missed([true, true]));
    assert!(both_are_missed([false, true]), "acquire and release are not enough for the waker");
    assert!(both_are_missed([true, false]), "nor for the sleeper");
}

/// `Wakeup::fence` against io_eventfd_signal: the library switches notifications on and then looks
/// at the completion queue's tail; the kernel moves the tail and then looks whether they are on.
/// With SQPOLL likewise: the submission queue's tail against IORING_SQ_NEED_WAKEUP (the io-uring
/// crate's fence in `Submitter::submit`, the kernel's smp_mb in io_sq_thread).
#[test]
fn a_flag_and_a_tail_do_not_miss_each_other() {
    assert!(!both_are_missed([true, true]));
    assert!(both_are_missed([false, false]));
}
