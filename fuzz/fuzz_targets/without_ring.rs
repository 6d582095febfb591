//! Calls that take a socket and no ring.

use std::ffi::c_char;

use ringmsg::config::PoolConfig;
use ringmsg::record::{Metadata, RINGMSG_POOL_NONE, RINGMSG_RECORD_BUFFER, Record};

use super::{EINVAL, Input, faults, sockets::Sockets};

unsafe extern "C" {
    fn ringmsg_receive(
        fd: i32,
        slab: *mut u8,
        slab_size: usize,
        layout: *const PoolConfig,
        records: *mut Record,
        metadata: *mut Metadata,
        capacity: u32,
        flags: u32,
    ) -> i32;
    fn ringmsg_socket_enable(fd: i32, metadata: u32) -> i32;
    fn ringmsg_socket_disable(fd: i32, metadata: u32) -> i32;
    fn ringmsg_pool_config_for_socket(config: *mut PoolConfig, fd: i32) -> i32;
    fn ringmsg_last_error(buffer: *mut c_char, length: usize) -> usize;
    fn ringmsg_describe_support(buffer: *mut c_char, length: usize) -> i32;
}

pub fn call(input: &mut Input<'_>, sockets: &Sockets) {
    let which = input.byte();
    let fd = sockets.receiver(which);
    match input.byte() % 8 {
        0 => change_options(fd, input),
        1 => sentences(input),
        _ => receive(fd, sockets.brings_descriptors(which), input),
    }
}

/// Arbitrary sets of options, known ones and unknown ones, on any kind of socket.
fn change_options(fd: i32, input: &mut Input<'_>) {
    let set = u32::from_ne_bytes([input.byte(), input.byte(), input.byte() & 1, 0]);
    let mut config = PoolConfig::default();
    // SAFETY: the descriptor is open, the configuration writable.
    unsafe {
        let changed = match input.byte() % 2 {
            0 => ringmsg_socket_enable(fd, set),
            _ => ringmsg_socket_disable(fd, set),
        };
        let reasons = [0, EINVAL, -libc::EOPNOTSUPP, -libc::ENOPROTOOPT, -libc::EAGAIN];
        assert!(reasons.contains(&changed), "options: {changed}");
        assert!(set <= 0xffff || changed == EINVAL, "an unknown bit was taken");
        assert_eq!(ringmsg_pool_config_for_socket(&mut config, fd), 0);
    }
    assert!(config.control_capacity <= 4096 && config.payload_capacity >= 65535);
}

/// Sentences fit into any buffer, and end with NUL.
fn sentences(input: &mut Input<'_>) {
    let mut buffer = [0x5a as c_char; 256];
    let length = usize::from(input.byte());
    // SAFETY: the buffer is longer.
    unsafe {
        match input.byte() % 16 {
            0 => assert!(ringmsg_describe_support(buffer.as_mut_ptr(), length) >= 0 || length == 0),
            _ => _ = ringmsg_last_error(buffer.as_mut_ptr(), length),
        }
    }
    assert!(length == 0 || buffer[..length].contains(&0), "no NUL");
    assert!(buffer[length..].iter().all(|&byte| byte == 0x5a), "written behind the buffer");
}

fn receive(fd: i32, brings_descriptors: bool, input: &mut Input<'_>) {
    let config = PoolConfig {
        buffers: 1 + u32::from(input.byte() % 80),
        payload_capacity: [0, 8, 100, 4096][input.below(4)],
        // Descriptors that there is no room for are closed by the kernel.
        control_capacity: if brings_descriptors { 0 } else { [0, 16, 64, 256][input.below(4)] },
        name_capacity: [0, 4, 16, 128][input.below(4)],
        ..PoolConfig::default()
    };
    let rounded = |capacity: u32| (capacity as usize).next_multiple_of(8);
    let stride = 16
        + rounded(config.payload_capacity)
        + rounded(config.control_capacity)
        + rounded(config.name_capacity);
    // Rarely a byte too few.
    let is_short = input.byte() == 7;
    let size = stride * config.buffers as usize - usize::from(is_short);
    let (mut slab, capacity) = (vec![0u64; size.div_ceil(8)], 1 + input.below(90));
    let (mut records, mut metadata) = (vec![Record::default(); capacity], vec![Metadata::NONE; capacity]);
    let with = if input.byte() & 1 == 0 { metadata.as_mut_ptr() } else { std::ptr::null_mut() };
    let flags = u32::from(input.byte() % 8 == 0);
    // SAFETY: all have the lengths that are passed.
    let count = unsafe {
        let slab = slab.as_mut_ptr().cast();
        ringmsg_receive(fd, slab, size, &config, records.as_mut_ptr(), with, capacity as u32, flags)
    };
    if count < 0 {
        let reasons = [-libc::EAGAIN, -libc::EOPNOTSUPP, -libc::ECONNREFUSED, EINVAL];
        assert!(reasons.contains(&count) || faults::may_cause(count), "receive: {count}");
        return;
    }
    assert!(count >= 1 && count <= capacity as i32 && !is_short, "receive: {count}");
    for record in &records[..count as usize] {
        assert_eq!((record.pool, record.flags & RINGMSG_RECORD_BUFFER), (RINGMSG_POOL_NONE, 0));
        for (offset, length) in [
            (record.payload_offset, record.payload_length),
            (record.control_offset, record.control_length),
            (record.name_offset, record.name_length),
        ] {
            assert!(offset as usize + length as usize <= size, "a slice outside of the slab");
        }
    }
}
