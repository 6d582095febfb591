//! Sending allocates once in a thread, and for a larger batch; a call that finds no memory has
//! written no result and taken nothing from other senders.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::ptr::{NonNull, null_mut};

use ringmsg::capi::send::*;
use ringmsg::sender::{Message, Path, RINGMSG_PATH_REMOTE, RINGMSG_SEND_RESUME, SenderConfig};

use super::{LEFT, allocations_of, ok, succeeds_once_there_is_memory};

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
