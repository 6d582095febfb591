//! The library allocates during set-up only: reaping, releasing and re-arming allocate nothing. And
//! an allocation that fails is -ENOMEM, never an abort. The allocator counts the allocations of the
//! test's own thread, and fails on request.

mod toolchain;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_int;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::ptr::{NonNull, null_mut};

use ringmsg::capi::{pool::*, reap::*, ring::*, send::*, socket::*, submit::*, support::*};
use ringmsg::config::{
    PoolConfig, RINGMSG_ENGINE_IO_URING, RINGMSG_ENGINE_RECVMMSG, RINGMSG_SETUP_COOP_TASKRUN,
    RINGMSG_SETUP_DEFER_TASKRUN, RingConfig, Wait,
};
use ringmsg::record::{Metadata, RINGMSG_META_SEGMENT_SIZE, Record};
use ringmsg::sender::{Message, Path, RINGMSG_PATH_REMOTE, RINGMSG_SEND_RESUME, SenderConfig};
use ringmsg::stats::Stats;

/// RINGMSG_RECV_SPLIT
const SPLIT: u32 = 1;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// How many allocations succeed before all fail.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

struct Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        if LEFT.get() == 0 {
            return null_mut();
        }
        LEFT.with(|left| left.set(left.get().saturating_sub(u64::from(left.get() != u64::MAX))));
        // SAFETY: the caller upholds the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller upholds the contract of `dealloc`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Counts the allocations that `work` makes in this thread.
fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[track_caller]
fn ok(value: c_int) -> usize {
    if let Ok(value) = usize::try_from(value) {
        return value;
    }
    let mut sentence = [0u8; 256];
    // SAFETY: the buffer has the length that is passed.
    unsafe { ringmsg_last_error(sentence.as_mut_ptr().cast(), sentence.len()) };
    let sentence = std::ffi::CStr::from_bytes_until_nul(&sentence).unwrap();
    panic!("{value}: {}", sentence.to_string_lossy());
}

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

fn udp_pair() -> (UdpSocket, UdpSocket) {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    (receiver, sender)
}

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
fn the_counter_counts_an_allocation() {
    assert_eq!(allocations_of(|| drop(std::hint::black_box(Box::new(1)))), 1);
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

/// Runs `call` with no memory, then with one allocation, and so on, until it succeeds. Each time
/// before it must return -ENOMEM, and have done nothing: the next attempt finds things as they
/// were.
#[track_caller]
fn succeeds_once_there_is_memory(what: &str, mut call: impl FnMut() -> c_int) {
    for allocations in 0..200 {
        LEFT.set(allocations);
        let result = call();
        LEFT.set(u64::MAX);
        if result >= 0 {
            return;
        }
        assert_eq!(result, -libc::ENOMEM, "{what}, with {allocations} allocations");
    }
    panic!("{what}: it still fails with 200 allocations");
}

#[test]
fn without_memory_the_description_is_cut() {
    let mut text = [0u8; 256];
    LEFT.set(0);
    // SAFETY: the buffer is as long as is said.
    let length = unsafe { ringmsg_describe_support(text.as_mut_ptr().cast(), text.len()) };
    LEFT.set(u64::MAX);
    assert_eq!(length, 0);
}

#[test]
fn without_memory_every_call_is_enomem() {
    for engine in [RINGMSG_ENGINE_IO_URING, RINGMSG_ENGINE_RECVMMSG] {
        let (mut ring, mut pool, mut once) = (null_mut(), null_mut(), null_mut());
        let config = RingConfig { engine, flags: 0, ..RingConfig::default() };
        // SAFETY: pointers to what the functions expect; the handles are used until they are freed.
        unsafe {
            if engine == RINGMSG_ENGINE_IO_URING && ringmsg_ring_new(&config, &mut ring) < 0 {
                continue; // other tests say so
            }
            ringmsg_ring_free(ring);
            succeeds_once_there_is_memory("ring_new", || ringmsg_ring_new(&config, &mut ring));
            let handle = NonNull::new(ring);
            let sizes = PoolConfig { buffers: 16, ..PoolConfig::default() };
            succeeds_once_there_is_memory("pool_new", || ringmsg_pool_new(handle, &sizes, &mut pool));
            succeeds_once_there_is_memory("pool_new", || ringmsg_pool_new(handle, &sizes, &mut once));
            succeeds_once_there_is_memory("ring_fd", || ringmsg_ring_fd(handle));
            let (near, far) = UnixDatagram::pair().unwrap();
            let (receiver, sender) = udp_pair();
            for (fd, user_data) in [(near.as_raw_fd(), 1), (receiver.as_raw_fd(), 2)] {
                succeeds_once_there_is_memory("multishot", || {
                    ringmsg_recvmsg_multishot(handle, pool.as_ref(), fd, 0, 0, user_data)
                });
                succeeds_once_there_is_memory("once", || {
                    ringmsg_recvmsg_once(handle, once.as_ref(), fd, 0, 0, 3)
                });
            }
            let mut stats = Stats { size: size_of::<Stats>() as u32, ..Stats::default() };
            succeeds_once_there_is_memory("stats", || ringmsg_ring_stats(ring.as_ref(), &mut stats));
            succeeds_once_there_is_memory("request_stats", || {
                ringmsg_request_stats(ring.as_ref(), 3, &mut stats)
            });
            // A sentence that names a number is kept without memory, too.
            LEFT.set(0);
            assert_eq!(ringmsg_cancel(handle, 99), -libc::ENOENT);
            assert_eq!(
                ringmsg_pool_new(handle, &PoolConfig { buffers: 3, ..sizes }, &mut pool),
                -libc::EINVAL
            );
            LEFT.set(u64::MAX);
            far.send(b"one").unwrap();
            sender.send(b"two").unwrap();
            let mut records = [Record::default(); 8];
            let wait = Wait { timeout_ns: 2_000_000_000, ..Wait::default() };
            let (mut received, at) = (0, records.as_mut_ptr());
            while received < 2 {
                succeeds_once_there_is_memory("reap", || {
                    let n = ringmsg_reap(handle, at.add(received), null_mut(), 8 - received as u32, &wait);
                    received += usize::try_from(n).unwrap_or(0);
                    n
                });
            }
            succeeds_once_there_is_memory("release", || ringmsg_release(handle, at, received as u32));
            succeeds_once_there_is_memory("cancel", || ringmsg_cancel(handle, 1));
            LEFT.set(0);
            let freed = ringmsg_ring_free(ring);
            LEFT.set(u64::MAX);
            assert_eq!(freed, 0);
        }
    }
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

/// Where a socket is bound, as a path.
fn path_to(socket: &UdpSocket) -> Path {
    let std::net::SocketAddr::V4(address) = socket.local_addr().unwrap() else { panic!("an IPv4 socket") };
    let mut path = Path { valid: RINGMSG_PATH_REMOTE, family: libc::AF_INET as u16, ..Path::default() };
    path.remote[..4].copy_from_slice(&address.ip().octets());
    path.remote_port = address.port();
    path
}

/// A thread's first call allocates its scratch space; nothing after that allocates, whatever the
/// calls meet: grouped, every peer once, errors, trains in pieces, a full socket, columns, a sender
/// of its own for another socket.
#[test]
fn sending() {
    let peers: [UdpSocket; 8] = std::array::from_fn(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (full, _reader) = UnixDatagram::pair().unwrap();
    let paths: [Path; 8] = std::array::from_fn(|i| path_to(&peers[i]));
    let payload = [7u8; 70_000];
    let message = |i: usize, length: u32| Message {
        payload: payload.as_ptr().cast(),
        path: &paths[i % 8],
        payload_length: length,
        segment_size: 0,
        flags: 0,
        result: 0,
        transmit_time_ns: 0,
        user_data: 0,
        timestamp_id: 0,
        traffic_class: 0,
        reserved8: [0; 3],
        reserved: 0,
    };
    let mut messages: [Message; 64] = std::array::from_fn(|i| message(i, 100));
    let (lengths, index, mut results) = ([100u32; 64], [3u32; 64], [0i32; 64]);
    // SAFETY: pointers to what the functions expect; the handles are used until they are freed.
    unsafe {
        let (mut sender, mut other) = (null_mut(), null_mut());
        ok(ringmsg_sender_new(socket.as_raw_fd(), std::ptr::null(), &mut sender));
        ok(ringmsg_sender_new(full.as_raw_fd(), std::ptr::null(), &mut other));
        let (sender, other) = (NonNull::new(sender), NonNull::new(other));
        let first = allocations_of(|| assert_eq!(ringmsg_send(sender, messages.as_mut_ptr(), 1, 0), 1));
        assert!(first > 0, "the scratch space");
        let later = allocations_of(|| {
            for round in 0..20u32 {
                assert_eq!(ringmsg_send(sender, messages.as_mut_ptr(), 64, 0), 64);
                messages[5] = message(5, 70_000); // too long
                messages[6].path = std::ptr::null(); // nowhere
                messages[7] = Message { segment_size: 100, ..message(7, 60_000) }; // longer than any train
                messages[8].payload = 16 as _; // not there
                messages[9].reserved = 1;
                assert_eq!(ringmsg_send(sender, messages.as_mut_ptr(), 64, 0), 64);
                messages = std::array::from_fn(|i| message(i, 100 + round));
                let columns = ringmsg_send_columns(
                    sender,
                    payload.as_ptr().cast(),
                    payload.len(),
                    std::ptr::null(),
                    lengths.as_ptr(),
                    index.as_ptr(),
                    paths.as_ptr(),
                    8,
                    results.as_mut_ptr(),
                    64,
                    0,
                );
                assert_eq!(columns, 64);
                messages.iter_mut().for_each(|message| message.path = std::ptr::null());
                let mut sent = ringmsg_send(other, messages.as_mut_ptr(), 64, 0);
                while sent > 0 {
                    sent = ringmsg_send(other, messages.as_mut_ptr(), 64, 0);
                }
                assert_eq!(sent, -libc::EAGAIN);
                assert_eq!(
                    ringmsg_send(other, messages.as_mut_ptr(), 64, RINGMSG_SEND_RESUME),
                    -libc::EAGAIN
                );
                messages = std::array::from_fn(|i| message(i, 100));
            }
        });
        assert_eq!(later, 0);
        ok(ringmsg_sender_free(sender));
        ok(ringmsg_sender_free(other));
    }
}

/// Sends one message with a sender of this batch, without memory at first. A call that is -ENOMEM
/// has written no result, and the next one finds things as they were.
fn sends_once_there_is_memory(socket: &UdpSocket, batch: u32, path: &Path) {
    const NO_RESULT: i32 = 0x5a5a5a;
    let config = SenderConfig { batch, ..SenderConfig::default() };
    let mut sender = null_mut();
    // SAFETY: pointers to what the functions expect; the sender is used until it is freed.
    unsafe {
        succeeds_once_there_is_memory("sender_new", || {
            ringmsg_sender_new(socket.as_raw_fd(), &config, &mut sender)
        });
        let sender = NonNull::new(sender);
        let (length, mut result) = (4u32, NO_RESULT);
        succeeds_once_there_is_memory("send_columns", || {
            assert_eq!(result, NO_RESULT);
            ringmsg_send_columns(
                sender,
                b"data".as_ptr().cast(),
                4,
                std::ptr::null(),
                &length,
                std::ptr::null(),
                path,
                1,
                &mut result,
                1,
                0,
            )
        });
        assert_eq!(result, 4);
        ok(ringmsg_sender_free(sender));
    }
}

#[test]
fn sending_without_memory_is_enomem_and_writes_no_result() {
    let (receiver, socket) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let path = path_to(&receiver);
    receiver.set_nonblocking(true).unwrap();
    for batch in [16, 64, 1024] {
        sends_once_there_is_memory(&socket, batch, &path);
        assert_eq!(receiver.recv(&mut [0; 8]).unwrap(), 4);
        assert!(receiver.recv(&mut [0; 8]).is_err(), "a call that failed has sent something");
    }
}

/// A larger batch that finds no memory takes nothing from the senders with smaller ones.
#[test]
fn a_larger_batch_without_memory_leaves_the_smaller_ones_theirs() {
    let (receiver, socket) =
        (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let path = path_to(&receiver);
    let mut message = Message {
        payload: b"data".as_ptr().cast(),
        path: &path,
        payload_length: 4,
        segment_size: 0,
        flags: 0,
        result: 0,
        transmit_time_ns: 0,
        user_data: 0,
        timestamp_id: 0,
        traffic_class: 0,
        reserved8: [0; 3],
        reserved: 0,
    };
    // SAFETY: pointers to what the functions expect; the senders are not freed.
    unsafe {
        let [small, large] = [16, 256].map(|batch| {
            let (config, mut sender) = (SenderConfig { batch, ..SenderConfig::default() }, null_mut());
            ok(ringmsg_sender_new(socket.as_raw_fd(), &config, &mut sender));
            NonNull::new(sender)
        });
        assert_eq!(ringmsg_send(small, &mut message, 1, 0), 1);
        LEFT.set(0);
        let refused = ringmsg_send(large, &mut message, 1, 0);
        let sent = ringmsg_send(small, &mut message, 1, 0);
        LEFT.set(u64::MAX);
        assert_eq!((refused, sent), (-libc::ENOMEM, 1));
    }
}
