//! Without memory each call of a ring is -ENOMEM or needs none, and one that failed has done
//! nothing.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::ptr::{NonNull, null_mut};

use ringmsg::capi::{pool::*, reap::*, ring::*, submit::*, support::*};
use ringmsg::config::{PoolConfig, RINGMSG_ENGINE_IO_URING, RINGMSG_ENGINE_RECVMMSG, RingConfig, Wait};
use ringmsg::record::Record;
use ringmsg::stats::Stats;

use super::{LEFT, succeeds_once_there_is_memory, udp_pair};

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
