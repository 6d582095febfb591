//! Receiving allocates nothing once it is set up: with a ring in every mode, whatever ends its
//! requests, and without a ring.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::ptr::{NonNull, null_mut};

use ringmsg::capi::{pool::*, reap::*, ring::*, socket::*, submit::*};
use ringmsg::config::{
    PoolConfig, RINGMSG_SETUP_COOP_TASKRUN, RINGMSG_SETUP_DEFER_TASKRUN, RingConfig, Wait,
};
use ringmsg::record::{Metadata, RINGMSG_META_SEGMENT_SIZE, Record};
use ringmsg::stats::Stats;

use super::{allocations_of, ok, toolchain, udp_pair};

/// RINGMSG_RECV_SPLIT
const SPLIT: u32 = 1;

/// A ring with one multishot, as closures, because the library does not export its types to Rust.
#[allow(clippy::type_complexity)]
struct Receiver {
    reap: Box<dyn Fn(&mut [Record], Option<&mut [Metadata]>, i64) -> usize>,
    release: Box<dyn Fn(&[Record])>,
    stats: Box<dyn Fn() -> Stats>,
    take_fds: Box<dyn Fn(&Record, &mut [i32]) -> usize>,
    free: Box<dyn FnOnce()>,
}

/// Makes a receiver. Returns None where io_uring is unavailable and skips are allowed.
fn receiver(mode: u32, cq_entries: u32, fd: RawFd, buffers: u32, flags: u32) -> Option<Receiver> {
    let (mut ring, mut pool) = (null_mut(), null_mut());
    let config = RingConfig { flags: mode, cq_entries, ..RingConfig::default() };
    // SAFETY: the pointers are valid for the calls; the handles are not used after `free`.
    unsafe {
        let made = ringmsg_ring_new(&config, &mut ring);
        if made < 0 && std::env::var_os("RINGMSG_TEST_ALLOW_SKIP").is_some() {
            toolchain::skip("allocation", "no io_uring");
            return None;
        }
        ok(made);
        let handle = NonNull::new(ring);
        let mut config = PoolConfig { buffers, ..PoolConfig::default() };
        ok(ringmsg_pool_config_for_socket(&mut config, fd));
        ok(ringmsg_pool_new(handle, &config, &mut pool));
        ok(ringmsg_recvmsg_multishot(handle, pool.as_ref(), fd, 0, flags, 0));
        Some(Receiver {
            reap: Box::new(move |records, metadata, timeout_ns| {
                let wait = Wait { timeout_ns, ..Wait::default() };
                let metadata = metadata.map_or(null_mut(), |array| array.as_mut_ptr());
                ok(ringmsg_reap(handle, records.as_mut_ptr(), metadata, records.len() as u32, &wait))
            }),
            release: Box::new(move |records| {
                ok(ringmsg_release(handle, records.as_ptr(), records.len() as u32));
            }),
            stats: Box::new(move || {
                let mut stats = Stats { size: size_of::<Stats>() as u32, ..Stats::default() };
                ok(ringmsg_ring_stats(ring.as_ref(), &mut stats));
                stats
            }),
            take_fds: Box::new(move |record, fds| {
                ok(ringmsg_take_fds(handle, Some(record), fds.as_mut_ptr(), fds.len() as u32))
            }),
            free: Box::new(move || {
                ok(ringmsg_ring_free(ring));
            }),
        })
    }
}

const MODES: [u32; 3] = [0, RINGMSG_SETUP_COOP_TASKRUN, RINGMSG_SETUP_DEFER_TASKRUN];

/// Makes a receiver in every mode, checks that `work` on it allocates nothing, and checks its
/// statistics.
fn allocates_nothing_in_every_mode(
    cq_entries: u32,
    (fd, buffers, flags): (RawFd, u32, u32),
    mut work: impl FnMut(&Receiver),
    expected: impl Fn(&Stats) -> bool,
) {
    for mode in MODES {
        let Some(receiver) = receiver(mode, cq_entries, fd, buffers, flags) else { return };
        let allocations = allocations_of(|| work(&receiver));
        let stats = (receiver.stats)();
        assert_eq!(allocations, 0, "mode {mode:#x}");
        assert!(expected(&stats), "mode {mode:#x}: {stats:?}");
        (receiver.free)();
    }
}

/// Reaps and releases `count` records, at most `records.len()` at a time.
fn drain(receiver: &Receiver, mut count: usize, records: &mut [Record], metadata: &mut [Metadata]) {
    while count > 0 {
        let n = (receiver.reap)(records, Some(metadata), 2_000_000_000);
        assert!(n > 0, "{count} records are missing");
        (receiver.release)(&records[..n]);
        count -= n;
    }
}

#[test]
fn reaping_and_rearming_after_empty_datagrams_allocate_nothing() {
    let (socket, sender) = udp_pair();
    let (mut records, mut metadata) = ([Record::default(); 64], [Metadata::default(); 64]);
    let work = |receiver: &Receiver| {
        for round in 0..50 {
            for i in 0..20 {
                sender.send(&[7; 100][..if i % 7 == round % 7 { 0 } else { 100 }]).unwrap();
            }
            drain(receiver, 20, &mut records, &mut metadata);
            assert_eq!((receiver.reap)(&mut records, None, 0), 0);
            assert_eq!((receiver.reap)(&mut records, None, 100_000), 0);
        }
    };
    allocates_nothing_in_every_mode(0, (socket.as_raw_fd(), 64, 0), work, |stats| {
        stats.zero_length > 100 && stats.rearms > 100
    });
}

#[test]
fn rearming_after_starvation_allocates_nothing() {
    let (socket, sender) = udp_pair();
    let (mut held, mut metadata) = ([Record::default(); 8], [Metadata::default(); 8]);
    let work = |receiver: &Receiver| {
        for _ in 0..20 {
            for _ in 0..12 {
                sender.send(b"more than there are buffers for").unwrap();
            }
            let mut n = 0;
            while n < 4 {
                n += (receiver.reap)(&mut held[n..], None, 2_000_000_000);
            }
            assert_eq!((receiver.reap)(&mut held[n..], None, 1_000_000), 0);
            (receiver.release)(&held[..n]);
            drain(receiver, 12 - n, &mut held, &mut metadata);
        }
    };
    allocates_nothing_in_every_mode(0, (socket.as_raw_fd(), 4, 0), work, |stats| {
        stats.starvations >= 20 && stats.rearms >= 20
    });
}

#[test]
fn a_full_completion_queue_allocates_nothing() {
    let (socket, sender) = udp_pair();
    let (mut records, mut metadata) = ([Record::default(); 3], [Metadata::default(); 3]);
    let work = |receiver: &Receiver| {
        for _ in 0..10 {
            for _ in 0..50 {
                sender.send(b"too many").unwrap();
            }
            drain(receiver, 50, &mut records, &mut metadata);
        }
    };
    allocates_nothing_in_every_mode(4, (socket.as_raw_fd(), 64, 0), work, |stats| stats.cq_overflows > 0);
}

#[test]
fn splitting_trains_allocates_nothing() {
    let (socket, sender) = udp_pair();
    let size: c_int = 100;
    // SAFETY: the value is readable for its length.
    let set = unsafe {
        libc::setsockopt(sender.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const size).cast(), 4)
    };
    assert_eq!(set, 0);
    ok(ringmsg_socket_enable(socket.as_raw_fd(), RINGMSG_META_SEGMENT_SIZE));
    let (mut records, mut metadata) = ([Record::default(); 7], [Metadata::default(); 7]);
    let work = |receiver: &Receiver| {
        for _ in 0..20 {
            sender.send(&[9; 3050]).unwrap();
            sender.send(&[9; 1000]).unwrap();
            drain(receiver, 31 + 10, &mut records, &mut metadata);
        }
    };
    allocates_nothing_in_every_mode(0, (socket.as_raw_fd(), 4, SPLIT), work, |stats| {
        stats.datagrams == 20 * 41
    });
}

/// Sends a copy of `fd` without allocating.
#[cfg(target_pointer_width = "64")]
fn send_descriptor(socket: &UnixDatagram, fd: RawFd) {
    #[repr(C, align(8))]
    struct Control([u8; 24]);
    let mut control = Control([0; 24]);
    control.0[..8].copy_from_slice(&20usize.to_ne_bytes());
    control.0[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
    control.0[12..16].copy_from_slice(&libc::SCM_RIGHTS.to_ne_bytes());
    control.0[16..20].copy_from_slice(&fd.to_ne_bytes());
    let mut part = libc::iovec { iov_base: b"fd".as_ptr().cast_mut().cast(), iov_len: 2 };
    // SAFETY: an all-zero msghdr is valid; its pointers outlive the call.
    let sent = unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = 24;
        libc::sendmsg(socket.as_raw_fd(), &message, 0)
    };
    assert_eq!(sent, 2);
}

#[test]
#[cfg(target_pointer_width = "64")] // `send_descriptor` lays out its cmsghdr for 64 bits
fn receiving_descriptors_allocates_nothing() {
    let (socket, sender) = UnixDatagram::pair().unwrap();
    let mut records = [Record::default(); 8];
    let work = |receiver: &Receiver| {
        for round in 0..50 {
            send_descriptor(&sender, 0);
            assert_eq!((receiver.reap)(&mut records, None, 2_000_000_000), 1);
            let mut fds = [-1];
            if round % 2 == 0 {
                assert_eq!((receiver.take_fds)(&records[0], &mut fds), 1);
                // SAFETY: `take_fds` has passed the ownership of this descriptor.
                drop(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fds[0]) });
            }
            (receiver.release)(&records[..1]);
        }
    };
    allocates_nothing_in_every_mode(0, (socket.as_raw_fd(), 4, 0), work, |stats| stats.records == 50);
}

#[test]
fn socket_errors_allocate_nothing() {
    let (socket, peer) = udp_pair();
    let theirs = peer.local_addr().unwrap();
    socket.connect(theirs).unwrap();
    peer.connect(theirs).unwrap(); // accepts datagrams from itself only
    let mut records = [Record::default(); 8];
    let work = |receiver: &Receiver| {
        for _ in 0..50 {
            let _ = socket.send(b"refused");
            assert_eq!((receiver.reap)(&mut records, None, 2_000_000_000), 1);
            assert_eq!(records[0].result, -libc::ECONNREFUSED);
        }
    };
    allocates_nothing_in_every_mode(0, (socket.as_raw_fd(), 4, 0), work, |stats| {
        stats.errors == 50 && stats.rearms == 50
    });
}

/// Data, trains, nothing to receive, and errors: ringmsg_receive has no set-up that could allocate.
#[test]
fn receiving_without_a_ring() {
    let (socket, peer) = udp_pair();
    let theirs = peer.local_addr().unwrap();
    ok(ringmsg_socket_enable(socket.as_raw_fd(), RINGMSG_META_SEGMENT_SIZE));
    let layout =
        PoolConfig { buffers: 8, payload_capacity: 2048, control_capacity: 64, ..PoolConfig::default() };
    let mut slab = vec![0u8; 8 * (16 + 128 + 64 + 2048)];
    let (mut records, mut metadata) = ([Record::default(); 8], [Metadata::default(); 8]);
    let mut receive = || {
        let (slab, size) = (slab.as_mut_ptr().cast(), slab.len());
        // SAFETY: slab and arrays are as long as is said.
        unsafe {
            let (records, metadata) = (records.as_mut_ptr(), metadata.as_mut_ptr());
            ringmsg_receive(socket.as_raw_fd(), slab, size, &layout, records, metadata, 8, SPLIT)
        }
    };
    let allocations = allocations_of(|| {
        for _ in 0..50 {
            for _ in 0..10 {
                peer.send(b"a datagram").unwrap();
            }
            assert_eq!((receive(), receive(), receive()), (8, 2, -libc::EAGAIN));
        }
    });
    assert_eq!(allocations, 0);
    socket.connect(theirs).unwrap();
    peer.connect(theirs).unwrap(); // hears nobody but itself
    let allocations = allocations_of(|| {
        for _ in 0..50 {
            socket.send(b"to nobody").unwrap();
            assert_eq!(receive(), -libc::ECONNREFUSED);
        }
    });
    assert_eq!(allocations, 0);
}
