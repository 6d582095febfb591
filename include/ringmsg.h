/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * ringmsg: receive messages with io_uring, as batches of flat records; send answers in batches.
 *
 * The model. A *ring* (an io_uring) holds *pools* of buffers and *requests*. A multishot request
 * is armed once for a socket. From then on every call of ringmsg_next() returns a batch of
 * *records*: 64 bytes each, with offsets into the pool for payload, control messages and source
 * address, and, on request, 128 bytes of decoded metadata. A record holds its buffer until it is
 * released.
 *
 *     struct ringmsg_ring *ring;
 *     struct ringmsg_pool *pool;
 *     struct ringmsg_pool_config config;
 *     struct ringmsg_record records[256];
 *     int n = 0;
 *
 *     ringmsg_ring_new(NULL, &ring);
 *     ringmsg_pool_config_init(&config);
 *     ringmsg_pool_config_for_socket(&config, fd);
 *     ringmsg_pool_new(ring, &config, &pool);
 *     ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, 0);
 *     do {
 *         n = ringmsg_next(ring, records, (uint32_t)n, records, NULL, 256, NULL);
 *         for (int i = 0; i < n; i++)
 *             use(ringmsg_pool_base(pool) + records[i].payload_offset, records[i].payload_length);
 *     } while (n >= 0 || n == -EINTR);
 *     fprintf(stderr, "ringmsg_next: %s\n", ringmsg_strerror(n));
 *
 * Errors. Functions return a value >= 0, or -errno. The errno variable has no meaning after a
 * call, and a call may change it. A call that fails has no effect and writes no output, unless
 * its comment says otherwise. ringmsg_last_error() explains the failure in a sentence.
 *
 * Structs that begin with `size` may grow in later versions. Set `size` (the _init functions do
 * it), and programs and libraries of different versions work together. Unknown flags and nonzero
 * reserved fields are refused with -EINVAL. Records and metadata never change their size.
 *
 * Sending needs no ring. A *sender* is made for a socket and takes arrays of *messages*, each a
 * payload and a *path*: where it goes and how it leaves. ringmsg_path_reply() makes the path of an
 * answer from a record's metadata, ringmsg_path_to() the path to an address. When ringmsg_send()
 * returns, the kernel has taken or refused every message, and each has its own result.
 *
 * Threads. A ring is bound if its granted flags include SINGLE_ISSUER or DEFER_TASKRUN, which
 * AUTO may select. Only the thread that created or enabled a bound ring may call the functions
 * marked [owner]. They return -EPERM in another thread, and -EOWNERDEAD after that thread has
 * exited. Any thread may call any function of other rings, but only one may reap at a time. On
 * every ring any thread may call ringmsg_release(), _wake(), _stats(), _info() and _ring_free().
 * No call holds a lock while it sleeps.
 *
 * Fork. In a child, calls on the parent's ring return -EPERM, except ringmsg_ring_free(). (The
 * library does not notice children of vfork(2) or of clone(2) without libc.) fork(2) may be called
 * in a signal handler. Senders work in a child.
 *
 * pthread_cancel(3) takes effect when a call returns, not during it, so it does not end a thread
 * that sleeps in a reap: call ringmsg_wake() as well.
 *
 * An internal error of the library poisons the ring or the sender: its calls then return
 * -ENOTRECOVERABLE. A panic never unwinds into the caller.
 *
 * Misuse. The library detects these faults and returns an error: NULL; a ring that is freed
 * twice; a pool or a sender that is freed twice or used after it was freed; a pool of another
 * ring; records that are released twice, stale, altered, or of a freed pool (then no record is
 * released); calls from the wrong thread, from two threads in a reap or in one sender, from a
 * forked child, and on a ring that is being freed. (A freed ring, pool or sender is not detected
 * once a new one has its place.)
 *
 * No library can detect these: a ring or pool that is used after its ring was freed; an address
 * that never was a handle; arrays shorter than their count; a msghdr or iovec of
 * ringmsg_recvmsg() that is freed before its record is reaped; a path that is not readable (a
 * payload that is not readable is its message's -EFAULT); a payload that is read after its release
 * (it may show a later message, but never memory of another pool or process).
 */


#ifndef RINGMSG_H
#define RINGMSG_H

/* Generated from src/ by build.rs: edit src/, then run `make header`. */

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#if UINTPTR_MAX != UINT64_MAX
#error "ringmsg is for 64-bit systems: struct ringmsg_message holds two pointers in 16 bytes"
#endif

/* The version of this header. ringmsg_version() returns that of the library. */
#define RINGMSG_VERSION "0.1.0"

/* struct ringmsg_ring_info and ringmsg_ring_info() have one name, as stat(2) and its struct do. */
#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif


/*
 * A kernel thread polls for submissions and runs completions (IORING_SETUP_SQPOLL). Excludes
 * COOP_TASKRUN, TASKRUN_FLAG and DEFER_TASKRUN.
 */
#define RINGMSG_SETUP_SQPOLL (1u << 1)

/*
 * Create the ring disabled: ringmsg_ring_enable() makes its caller the owner
 * (IORING_SETUP_R_DISABLED).
 */
#define RINGMSG_SETUP_R_DISABLED (1u << 6)

/*
 * Completions wait for the arming thread's next kernel entry (IORING_SETUP_COOP_TASKRUN).
 */
#define RINGMSG_SETUP_COOP_TASKRUN (1u << 8)

/*
 * With COOP_TASKRUN: the kernel flags waiting task work, so that a non-blocking reap costs no
 * kernel entry when there is none (IORING_SETUP_TASKRUN_FLAG).
 */
#define RINGMSG_SETUP_TASKRUN_FLAG (1u << 9)

/*
 * Bind the ring to one thread (IORING_SETUP_SINGLE_ISSUER).
 */
#define RINGMSG_SETUP_SINGLE_ISSUER (1u << 12)

/*
 * Completions wait until the owner reaps: the mode for batches. Binds the ring to its thread;
 * SINGLE_ISSUER is added for you (IORING_SETUP_DEFER_TASKRUN).
 */
#define RINGMSG_SETUP_DEFER_TASKRUN (1u << 13)

/*
 * The best mode this kernel offers: DEFER_TASKRUN, else COOP_TASKRUN, else plain. The mode may
 * bind the ring to its thread: ringmsg_ring_info() shows it.
 */
#define RINGMSG_SETUP_AUTO (1u << 31)

/*
 * io_uring where multishot recvmsg works, and where a ring and a pool have memory; else
 * RINGMSG_ENGINE_RECVMMSG, which does not grant setup flags that mean nothing to it.
 * ringmsg_ring_info() says which engine it is, ringmsg_describe_support() why. If io_uring has no
 * memory for a pool (RLIMIT_MEMLOCK) before anything is armed and before ringmsg_ring_fd() was
 * called, the ring changes its engine.
 */
#define RINGMSG_ENGINE_AUTO 0

/*
 * io_uring: kernel 6.0 or later, unless a sandbox forbids it.
 */
#define RINGMSG_ENGINE_IO_URING 1

/*
 * epoll and recvmmsg(2), with the same records: for older kernels (5.10 is the oldest tried) and
 * sandboxes that forbid io_uring. It takes R_DISABLED, SINGLE_ISSUER and AUTO; with another setup
 * flag ringmsg_ring_new() returns -EINVAL.
 */
#define RINGMSG_ENGINE_RECVMMSG 2

/*
 * Multishot requests work (io_uring: kernel 6.0; recvmmsg: always).
 */
#define RINGMSG_FEATURE_MULTISHOT (1u << 0)

/*
 * The kernel can wait a minimum time for a batch (kernel 6.12).
 */
#define RINGMSG_FEATURE_MIN_WAIT (1u << 1)

/*
 * For ringmsg_wait.linger_us: like RINGMSG_LINGER_AUTO, with the caller's bound in microseconds,
 * as in RINGMSG_LINGER_AUTO_WITHIN | 250.
 */
#define RINGMSG_LINGER_AUTO_WITHIN (1u << 31)

/*
 * For ringmsg_wait.linger_us: the library chooses, from 0 to 100 us. In short trials, on the
 * traffic that arrives, it compares the thread's CPU time per datagram with and without lingering,
 * and takes what saves at least 5 %. It does not linger where that lowers the arrival rate, as it
 * does when clients wait for their answers, nor while datagrams arrive alone. Trials take place in
 * reaps that may sleep and do not spin, and not while signals, wakes or changes of the reaping
 * thread keep ending them. ringmsg_ring_stats() shows the choice and the trials. A datagram may
 * be late by the linger: where latency matters more than CPU time, give 0 or a lower bound.
 */
#define RINGMSG_LINGER_AUTO 4294967295u

/*
 * The longest linger, in microseconds. More is -EINVAL.
 */
#define RINGMSG_LINGER_MAX_US 10000

/*
 * The record holds a pool buffer: return it with ringmsg_release().
 */
#define RINGMSG_RECORD_BUFFER (1u << 0)

/*
 * The request is over. The record may carry data as well.
 */
#define RINGMSG_RECORD_FINAL (1u << 1)

/*
 * The payload was cut. wire_length is its length before that; for ringmsg_recvmsg() only if
 * MSG_TRUNC is among its msg_flags.
 */
#define RINGMSG_RECORD_TRUNCATED (1u << 2)

/*
 * Control messages were cut or lost: the control capacity was too small.
 */
#define RINGMSG_RECORD_CONTROL_TRUNCATED (1u << 3)

/*
 * One datagram out of a GRO train.
 */
#define RINGMSG_RECORD_SEGMENT (1u << 4)

/*
 * The source address was cut: the name capacity was too small.
 */
#define RINGMSG_RECORD_NAME_TRUNCATED (1u << 5)

/*
 * The descriptor of a ringmsg_writable() takes data again. The record carries no data.
 */
#define RINGMSG_RECORD_WRITABLE (1u << 6)

/*
 * The `pool` of a record that belongs to no pool (ringmsg_recvmsg(), ringmsg_writable()).
 */
#define RINGMSG_POOL_NONE 65535

/*
 * The source address and port are known.
 */
#define RINGMSG_META_SOURCE (1u << 0)

/*
 * The destination address is known (IP_PKTINFO, IPV6_PKTINFO).
 */
#define RINGMSG_META_DESTINATION (1u << 1)

/*
 * The index of the receiving interface is known.
 */
#define RINGMSG_META_INTERFACE (1u << 2)

/*
 * The traffic class is known (IP_TOS, IPV6_TCLASS); ECN is traffic_class & 3.
 */
#define RINGMSG_META_TRAFFIC_CLASS (1u << 3)

/*
 * The hop limit is known (IP_TTL, IPV6_HOPLIMIT).
 */
#define RINGMSG_META_HOP_LIMIT (1u << 4)

/*
 * The payload is a GRO train of segments of segment_size bytes (UDP_GRO).
 */
#define RINGMSG_META_SEGMENT_SIZE (1u << 5)

/*
 * The socket's drop counter is known (SO_RXQ_OVFL; it appears after the first drop).
 */
#define RINGMSG_META_DROPPED (1u << 6)

/*
 * The software timestamp is known: CLOCK_REALTIME, ns.
 */
#define RINGMSG_META_SOFTWARE_TIMESTAMP (1u << 7)

/*
 * The hardware timestamp is known: the network card's clock, ns.
 */
#define RINGMSG_META_HARDWARE_TIMESTAMP (1u << 8)

/*
 * The destination port is known (IP_RECVORIGDSTADDR, IPV6_RECVORIGDSTADDR).
 */
#define RINGMSG_META_DESTINATION_PORT (1u << 9)

/*
 * The record comes from the socket's error queue (MSG_ERRQUEUE): an error, or a notification about
 * a datagram that was sent (a transmit timestamp, a zero-copy completion). Its name, and so the
 * source in its metadata, is the address to which that datagram was sent.
 */
#define RINGMSG_META_SOCKET_ERROR (1u << 10)

/*
 * The packet's mark is known (SO_RCVMARK).
 */
#define RINGMSG_META_MARK (1u << 11)

/*
 * The IPv6 flow label is known (IPV6_FLOWINFO).
 */
#define RINGMSG_META_FLOW_LABEL (1u << 12)

/*
 * The local IPv4 address to reply from is known (IP_PKTINFO's ipi_spec_dst).
 */
#define RINGMSG_META_LOCAL_V4 (1u << 13)

/*
 * The packet's priority is known (SO_RCVPRIORITY, kernel 6.14).
 */
#define RINGMSG_META_PRIORITY (1u << 14)

/*
 * The router or host that sent the ICMP error is known.
 */
#define RINGMSG_META_OFFENDER (1u << 15)

/*
 * One record per datagram instead of one per GRO train.
 */
#define RINGMSG_RECV_SPLIT (1u << 0)

/*
 * Wait for data before the first attempt: saves a failed attempt when none is expected yet.
 */
#define RINGMSG_RECV_POLL_FIRST (1u << 1)

/*
 * Report every end of a request as FINAL instead of arming it again.
 */
#define RINGMSG_RECV_NO_REARM (1u << 2)

/*
 * For ringmsg_steering.by: the number of the processor that handles the datagram's arrival, modulo
 * the number of sockets.
 */
#define RINGMSG_STEER_CPU 0

/*
 * For ringmsg_steering.by: bytes of the payload.
 */
#define RINGMSG_STEER_PAYLOAD 1

/*
 * For ringmsg_steering.by: bytes of the destination connection id of QUIC packets, with long and
 * short headers.
 */
#define RINGMSG_STEER_QUIC 2

/*
 * remote, remote_port and remote_scope apply. Without it: the connected peer.
 */
#define RINGMSG_PATH_REMOTE (1u << 0)

/*
 * local applies: the source address.
 */
#define RINGMSG_PATH_LOCAL (1u << 1)

/*
 * interface_index applies: the interface to leave through.
 */
#define RINGMSG_PATH_INTERFACE (1u << 2)

/*
 * traffic_class applies.
 */
#define RINGMSG_PATH_TRAFFIC_CLASS (1u << 3)

/*
 * hop_limit applies.
 */
#define RINGMSG_PATH_HOP_LIMIT (1u << 4)

/*
 * flow_label applies.
 */
#define RINGMSG_PATH_FLOW_LABEL (1u << 5)

/*
 * Never in a train with other messages.
 */
#define RINGMSG_MESSAGE_ALONE (1u << 0)

/*
 * Ask for a transmit timestamp. Implies RINGMSG_MESSAGE_ALONE.
 */
#define RINGMSG_MESSAGE_TIMESTAMP (1u << 1)

/*
 * The message's own traffic_class applies, not the path's.
 */
#define RINGMSG_MESSAGE_TRAFFIC_CLASS (1u << 2)

/*
 * Every message leaves as it is given: none are joined into trains.
 */
#define RINGMSG_SENDER_NO_GROUPING (1u << 0)

/*
 * Set the options that bring transmit timestamps back (SO_TIMESTAMPING with SOFTWARE, OPT_ID and
 * OPT_TSONLY), beside those that are on already.
 */
#define RINGMSG_SENDER_TIMESTAMPS (1u << 1)

/*
 * Wait for room in the socket's buffer instead of leaving messages with -EAGAIN.
 */
#define RINGMSG_SEND_WAIT (1u << 0)

/*
 * Take only messages whose result is -EAGAIN.
 */
#define RINGMSG_SEND_RESUME (1u << 1)

/*
 * The binary interface that this header describes.
 */
#define RINGMSG_ABI_VERSION 0

/*
 * A pool of buffers. Opaque to C. The handle outlives the pool itself, so that a stale handle or
 * record gets an error and never reads freed memory.
 */
struct ringmsg_pool;

/*
 * A ring with its pools and requests: an io_uring, or an epoll instance. Opaque to C.
 *
 * A ring whose granted flags hold SINGLE_ISSUER or DEFER_TASKRUN is bound to one thread, its
 * owner: functions marked [owner] return -EPERM in other threads. On other rings every thread may
 * call every function.
 */
struct ringmsg_ring;

/*
 * Sends messages on one socket. Opaque.
 */
struct ringmsg_sender;

/*
 * What this kernel and this sandbox offer.
 */
struct ringmsg_support {
    /*
     * sizeof(struct ringmsg_support), set by the caller.
     */
    uint32_t size;
    /*
     * Bit RINGMSG_ENGINE_x: that engine works here.
     */
    uint32_t engines;
    /*
     * The RINGMSG_SETUP_* flags that ringmsg_ring_new() accepts here.
     */
    uint32_t setup_flags;
    /*
     * RINGMSG_FEATURE_*
     */
    uint32_t features;
    /*
     * 0, or the -errno of io_uring_setup(2), or that of io_uring_enter(2) or io_uring_register(2)
     * if only these are blocked.
     */
    int32_t create_error;
    /*
     * kernel.io_uring_disabled: 0 allowed, 1 for privileged processes, 2 forbidden; -1: this
     * kernel has no such setting, or it cannot be read.
     */
    int32_t io_uring_disabled;
    /*
     * The kernel's version: major << 16 | minor << 8 | patch.
     */
    uint32_t kernel_version;
    /*
     * 0
     */
    uint32_t reserved[9];
};

/*
 * How a ring is to be made. Fill with ringmsg_ring_config_init().
 */
struct ringmsg_ring_config {
    /*
     * sizeof(struct ringmsg_ring_config)
     */
    uint32_t size;
    /*
     * RINGMSG_SETUP_*
     */
    uint32_t flags;
    /*
     * Submission queue entries; 0: a good default. Rounded up to a power of two.
     */
    uint32_t sq_entries;
    /*
     * Completion queue entries; 0: a good default. Rounded up to a power of two.
     */
    uint32_t cq_entries;
    /*
     * SQPOLL: how long the kernel thread polls before it sleeps, in ms; 0: the kernel's default.
     */
    uint32_t sq_thread_idle_ms;
    /*
     * SQPOLL: the processor to poll on; -1: any.
     */
    int32_t sq_thread_cpu;
    /*
     * RINGMSG_ENGINE_*
     */
    uint32_t engine;
    /*
     * 0
     */
    uint32_t reserved[9];
};

/*
 * What a ring was granted.
 */
struct ringmsg_ring_info {
    /*
     * sizeof(struct ringmsg_ring_info), set by the caller.
     */
    uint32_t size;
    /*
     * RINGMSG_ENGINE_*
     */
    uint32_t engine;
    /*
     * The RINGMSG_SETUP_* flags that are in force. If they include DEFER_TASKRUN or SINGLE_ISSUER,
     * the ring is bound to owner_thread.
     */
    uint32_t flags;
    /*
     * RINGMSG_FEATURE_*
     */
    uint32_t features;
    /*
     * Submission queue entries.
     */
    uint32_t sq_entries;
    /*
     * Completion queue entries.
     */
    uint32_t cq_entries;
    /*
     * The owner's thread id (gettid(2)); 0 when the ring is not bound, or not enabled yet.
     */
    int32_t owner_thread;
    /*
     * 0
     */
    uint32_t reserved[9];
};

/*
 * What a ring, or one request, has done so far.
 */
struct ringmsg_stats {
    /*
     * sizeof(struct ringmsg_stats), set by the caller.
     */
    uint32_t size;
    /*
     * 0
     */
    uint32_t reserved;
    /*
     * Records handed out, errors and FINALs included.
     */
    uint64_t records;
    /*
     * Datagrams (or stream chunks) received; a train counts its segments, split or not. An entry
     * of the error queue (MSG_ERRQUEUE) is not a datagram: it counts only as a record.
     */
    uint64_t datagrams;
    /*
     * Payload bytes received.
     */
    uint64_t payload_bytes;
    /*
     * Calls of ringmsg_reap() and ringmsg_next(). Ring only.
     */
    uint64_t reaps;
    /*
     * Kernel entries: io_uring_enter(2); on the recvmmsg engine all its system calls. Ring only.
     */
    uint64_t enters;
    /*
     * Wake-ups: waits that ended before their timeout, and ringmsg_wake() calls that ended a reap
     * before it slept. Ring only.
     */
    uint64_t wakes;
    /*
     * How often a multishot request ended in the kernel and was armed again.
     */
    uint64_t rearms;
    /*
     * How often a request found every buffer of its pool filled: held by the caller, or still
     * to be reaped.
     */
    uint64_t starvations;
    /*
     * How often a request found no published buffer although others were free: the hot window
     * was too narrow, and was widened.
     */
    uint64_t window_misses;
    /*
     * How often the completion queue was found to have overflowed (nothing is lost). Ring only.
     */
    uint64_t cq_overflows;
    /*
     * Records with RINGMSG_RECORD_TRUNCATED.
     */
    uint64_t truncated;
    /*
     * Records with RINGMSG_RECORD_CONTROL_TRUNCATED.
     */
    uint64_t control_truncated;
    /*
     * Zero-length datagrams.
     */
    uint64_t zero_length;
    /*
     * Records whose result is an error other than a requested -ECANCELED.
     */
    uint64_t errors;
    /*
     * Socket buffers the kernel dropped since the request was armed, from SO_MEMINFO; with GRO
     * these are trains. Right even when no datagram followed the last drop.
     */
    uint64_t socket_drops;
    /*
     * Pool buffers that records hold now, of all pools; for a request, those of its pool,
     * including records of other requests.
     */
    uint64_t buffers_held;
    /*
     * Pool buffers that are published to the kernel now; counted in the same way.
     */
    uint64_t buffers_published;
    /*
     * The linger that RINGMSG_LINGER_AUTO uses now outside of trials, in microseconds; 0 also
     * while there is nothing to save. Ring only.
     */
    uint64_t linger_us;
    /*
     * How many trials AUTO has begun: short times in which it compares lingers. Ring only.
     */
    uint64_t linger_trials;
    /*
     * How long the finished trials have lasted, in ns. Ring only.
     */
    uint64_t linger_trial_ns;
};

/*
 * How ringmsg_socket_steer() selects a socket. Zero what is not used.
 */
struct ringmsg_steering {
    /*
     * sizeof(struct ringmsg_steering)
     */
    uint32_t size;
    /*
     * RINGMSG_STEER_*
     */
    uint32_t by;
    /*
     * Where the bytes begin, counted from the beginning of the payload or of the connection id.
     */
    uint32_t offset;
    /*
     * How many bytes, 1 to 4, read as one big-endian number.
     */
    uint32_t length;
    /*
     * 0
     */
    uint32_t reserved[12];
};

/*
 * How a pool is to be made. Fill with ringmsg_pool_config_init().
 */
struct ringmsg_pool_config {
    /*
     * sizeof(struct ringmsg_pool_config)
     */
    uint32_t size;
    /*
     * How many buffers: a power of two, at most 32768.
     */
    uint32_t buffers;
    /*
     * Payload bytes that a buffer holds; a longer payload is cut. GRO needs 65536.
     */
    uint32_t payload_capacity;
    /*
     * Bytes for control messages.
     */
    uint32_t control_capacity;
    /*
     * Bytes for the source address.
     */
    uint32_t name_capacity;
    /*
     * 0
     */
    uint32_t flags;
    /*
     * 0
     */
    uint32_t reserved[10];
};

/*
 * One datagram, one GRO train, one chunk of a stream, or one error: 64 bytes.
 *
 * The three offsets count from ringmsg_pool_base() of the record's pool. For
 * ringmsg_recvmsg() they are 0 and count from the caller's own msg_iov[0], msg_control and
 * msg_name. What a record points to is valid until the record is released.
 */
struct ringmsg_record {
    /*
     * The number that the caller passed when it armed the request.
     */
    uint64_t user_data;
    /*
     * Payload bytes of this record, or -errno.
     */
    int32_t result;
    /*
     * RINGMSG_RECORD_*
     */
    uint32_t flags;
    /*
     * Where the payload starts, in bytes.
     */
    uint32_t payload_offset;
    /*
     * Payload bytes that are there.
     */
    uint32_t payload_length;
    /*
     * Where the control messages start: 8-byte aligned.
     */
    uint32_t control_offset;
    /*
     * Bytes of control messages, as the kernel wrote them.
     */
    uint32_t control_length;
    /*
     * Where the source address (a sockaddr) starts: 8-byte aligned.
     */
    uint32_t name_offset;
    /*
     * Bytes of the source address that are there; 0 when the kernel gave none.
     */
    uint32_t name_length;
    /*
     * Payload bytes before truncation. Of ringmsg_recvmsg() without MSG_TRUNC in msg_flags: the
     * bytes that were copied, as recvmsg(2) returns them.
     */
    uint32_t wire_length;
    /*
     * MSG_TRUNC, MSG_CTRUNC, MSG_ERRQUEUE, ... as the kernel set them.
     */
    uint32_t msg_flags;
    /*
     * GRO segment size in bytes; 0: not a train.
     */
    uint32_t segment_size;
    /*
     * The pool's id; RINGMSG_POOL_NONE for ringmsg_recvmsg() and ringmsg_writable().
     */
    uint16_t pool;
    /*
     * The buffer's number within its pool.
     */
    uint16_t buffer;
    /*
     * Distinguishes this use of the buffer from earlier ones, so that a stale release is refused.
     */
    uint32_t generation;
    /*
     * Which datagram of the train this is, from 0.
     */
    uint16_t segment;
    /*
     * Datagrams in the train as it arrived; 1 when the record is whole.
     */
    uint16_t segments;
};

/*
 * What the control messages and the source address say, decoded: 128 bytes. A field means
 * something only if its bit is set in `valid`; otherwise its value is not defined.
 */
struct ringmsg_metadata {
    /*
     * RINGMSG_META_*
     */
    uint32_t valid;
    /*
     * AF_INET or AF_INET6, of both addresses; 0 when neither is known. IPv4 on an IPv6
     * socket stays AF_INET6, as ::ffff:a.b.c.d.
     */
    uint16_t family;
    /*
     * Host byte order.
     */
    uint16_t source_port;
    /*
     * IPv4 in the first four bytes.
     */
    uint8_t source[16];
    /*
     * The scope (interface index) of a link-local source.
     */
    uint32_t source_scope;
    /*
     * The receiving interface.
     */
    uint32_t interface_index;
    /*
     * IPv4 in the first four bytes.
     */
    uint8_t destination[16];
    /*
     * Host byte order.
     */
    uint16_t destination_port;
    /*
     * The TOS byte or traffic class; ECN is traffic_class & 3.
     */
    uint8_t traffic_class;
    /*
     * TTL or hop limit.
     */
    uint8_t hop_limit;
    /*
     * GRO segment size in bytes.
     */
    uint32_t segment_size;
    /*
     * SO_RXQ_OVFL: socket buffers dropped so far; with GRO these are trains. Wraps.
     */
    uint32_t dropped;
    /*
     * ee_errno of a queued error, positive; 0 for a notification, which is no error.
     */
    int32_t socket_error;
    /*
     * CLOCK_REALTIME, ns.
     */
    int64_t software_timestamp_ns;
    /*
     * The network card's clock, ns.
     */
    int64_t hardware_timestamp_ns;
    /*
     * SO_MARK of the packet.
     */
    uint32_t mark;
    /*
     * IPv6 flow label, 20 bits, host byte order.
     */
    uint32_t flow_label;
    /*
     * ipi_spec_dst: the local IPv4 address to reply from.
     */
    uint8_t local_v4[4];
    /*
     * SO_PRIORITY of the packet.
     */
    uint32_t priority;
    /*
     * ee_info, with SOCKET_ERROR: the next hop's MTU (EMSGSIZE), the first number of a zero-copy
     * range, the kind of a timestamp (SCM_TSTAMP_*).
     */
    uint32_t error_info;
    /*
     * ee_data, with SOCKET_ERROR: the id of a timestamp (SOF_TIMESTAMPING_OPT_ID), the last number
     * of a zero-copy range.
     */
    uint32_t error_data;
    /*
     * ee_origin, with SOCKET_ERROR: SO_EE_ORIGIN_* (linux/errqueue.h).
     */
    uint8_t error_origin;
    /*
     * ee_type, with SOCKET_ERROR: the ICMP type.
     */
    uint8_t error_type;
    /*
     * ee_code, with SOCKET_ERROR: the ICMP code; for a zero-copy notification 1 if the kernel
     * copied the data.
     */
    uint8_t error_code;
    /*
     * 0
     */
    uint8_t reserved8;
    /*
     * With OFFENDER: the sender of the ICMP error. IPv4 in the first four bytes; on an IPv6 socket
     * as ::ffff:a.b.c.d.
     */
    uint8_t offender[16];
    /*
     * 0
     */
    uint32_t reserved;
};

/*
 * How a reap is to wait. Zero it, then set size.
 */
struct ringmsg_wait {
    /*
     * sizeof(struct ringmsg_wait)
     */
    uint32_t size;
    /*
     * How long to wait for a second record once there is reason to expect one, in
     * microseconds: an upper bound, at most 10 ms (RINGMSG_LINGER_MAX_US; more is -EINVAL).
     * RINGMSG_LINGER_AUTO leaves it to the library. Ignored by plain and COOP rings, where
     * lingering wastes CPU.
     */
    uint32_t linger_us;
    /*
     * How long to wait for a first record, in ns; negative: no limit; 0: do not block.
     */
    int64_t timeout_ns;
    /*
     * How long to poll before sleeping, in microseconds, inside the timeout.
     */
    uint32_t spin_us;
    /*
     * 0
     */
    uint32_t reserved;
};

/*
 * One control message of a slice, and the cursor that walks it.
 */
struct ringmsg_cmsg {
    /*
     * cmsg_level: SOL_SOCKET, SOL_IP, ...
     */
    int32_t level;
    /*
     * cmsg_type
     */
    int32_t type;
    /*
     * Where its data starts, counted from the start of the slice, in bytes.
     */
    uint32_t offset;
    /*
     * Bytes of data; fewer than the type promises when the kernel cut it.
     */
    uint32_t length;
};

/*
 * Where a datagram goes, and how it leaves: 64 bytes. Zero what is not used: messages are
 * grouped by comparing all of it.
 */
struct ringmsg_path {
    /*
     * RINGMSG_PATH_*: which of the following apply. Without RINGMSG_PATH_REMOTE the datagram
     * goes to the connected peer, with these settings.
     */
    uint32_t valid;
    /*
     * AF_INET or AF_INET6, of both addresses. IPv4 on an IPv6 socket is AF_INET6, as
     * ::ffff:a.b.c.d.
     */
    uint16_t family;
    /*
     * Host byte order.
     */
    uint16_t remote_port;
    /*
     * IPv4 in the first four bytes.
     */
    uint8_t remote[16];
    /*
     * The scope (interface index) of a link-local remote address.
     */
    uint32_t remote_scope;
    /*
     * The interface to leave through.
     */
    uint32_t interface_index;
    /*
     * The source address; IPv4 in the first four bytes.
     */
    uint8_t local[16];
    /*
     * TOS byte or traffic class, ECN included. A message may have its own.
     */
    uint8_t traffic_class;
    /*
     * TTL or hop limit.
     */
    uint8_t hop_limit;
    /*
     * 0
     */
    uint16_t reserved16;
    /*
     * IPv6 flow label, 20 bits, host byte order. IPv4 has none: ignored there.
     */
    uint32_t flow_label;
    /*
     * 0
     */
    uint32_t reserved[2];
};

/*
 * How a sender is to be made. Fill with ringmsg_sender_config_init().
 */
struct ringmsg_sender_config {
    /*
     * sizeof(struct ringmsg_sender_config)
     */
    uint32_t size;
    /*
     * Messages grouped at once, at most 32768; 0: 1024.
     */
    uint32_t batch;
    /*
     * RINGMSG_SENDER_*
     */
    uint32_t flags;
    /*
     * The clock of transmit times (SO_TXTIME): CLOCK_MONOTONIC for fq, CLOCK_TAI for etf;
     * -1: none.
     */
    int32_t transmit_clock;
    /*
     * 0
     */
    uint32_t reserved[12];
};

/*
 * One datagram to send, or one train of them: 64 bytes. In ringmsg_send_from() `payload` is
 * an offset from the base and `path` an index into the paths, both read as uint64_t.
 */
struct ringmsg_message {
    /*
     * The payload, anywhere in the caller's memory, or in a pool while its record is held; NULL if
     * it is empty.
     */
    const void *payload;
    /*
     * NULL: the connected peer, and the socket's own settings.
     */
    const struct ringmsg_path *path;
    /*
     * Bytes of payload.
     */
    uint32_t payload_length;
    /*
     * 0: one datagram, whatever the socket's own UDP_SEGMENT says; else datagrams of this size,
     * of which the last may be shorter.
     */
    uint32_t segment_size;
    /*
     * RINGMSG_MESSAGE_*
     */
    uint32_t flags;
    /*
     * Out: payload bytes that the socket took, or -errno.
     */
    int32_t result;
    /*
     * When to send it, in the sender's transmit clock (SO_TXTIME), ns; 0: now.
     */
    uint64_t transmit_time_ns;
    /*
     * For the caller; the library does not read it.
     */
    uint64_t user_data;
    /*
     * With RINGMSG_MESSAGE_TIMESTAMP: comes back as error_data in the timestamp's metadata, from
     * Linux 6.13 on (SCM_TS_OPT_ID). On older kernels error_data is the socket's own count, which
     * refused sends and other users of the socket advance.
     */
    uint32_t timestamp_id;
    /*
     * With RINGMSG_MESSAGE_TRAFFIC_CLASS: TOS byte or traffic class, ECN included.
     */
    uint8_t traffic_class;
    /*
     * 0
     */
    uint8_t reserved8[3];
    /*
     * 0
     */
    uint64_t reserved;
};

/*
 * What a sender has done so far.
 */
struct ringmsg_sender_stats {
    /*
     * sizeof(struct ringmsg_sender_stats), set by the caller.
     */
    uint32_t size;
    /*
     * The errno, positive, of the latest pending error that an earlier datagram had caused; 0 if
     * none is known. (If sendmmsg(2) meets such an error after its first message, it returns no
     * errno: the error counts in socket_errors, and changes nothing here.)
     */
    int32_t last_socket_error;
    /*
     * Messages that the socket took, whole or in part.
     */
    uint64_t messages;
    /*
     * Datagrams that it took; a train counts its segments.
     */
    uint64_t datagrams;
    /*
     * Payload bytes that it took.
     */
    uint64_t payload_bytes;
    /*
     * System calls that sent: sendmmsg(2).
     */
    uint64_t calls;
    /*
     * UDP_SEGMENT trains of two datagrams or more.
     */
    uint64_t trains;
    /*
     * Messages that left in a train together with others.
     */
    uint64_t grouped;
    /*
     * Trains that were refused, and whose datagrams were then sent one by one.
     */
    uint64_t fallbacks;
    /*
     * How often the socket was full (-EAGAIN).
     */
    uint64_t would_block;
    /*
     * Messages whose result is an error, other than -EAGAIN.
     */
    uint64_t errors;
    /*
     * Pending errors of earlier datagrams that were taken off the socket.
     */
    uint64_t socket_errors;
};

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------------------------------- */
/* Versions, errors, and what this machine offers                                           */
/* ---------------------------------------------------------------------------------------- */

/*
 * ringmsg_version: the library's version as text, "0.1.0". RINGMSG_VERSION is the header's.
 *
 * Threads: any. Returns: a static string.
 */
const char *ringmsg_version(void);

/*
 * ringmsg_abi_version: the number of the binary interface. It changes only when programs must
 * be compiled again; compare it with RINGMSG_ABI_VERSION.
 *
 * Threads: any.
 */
uint32_t ringmsg_abi_version(void);

/*
 * ringmsg_sizeof_record: sizeof(struct ringmsg_record), for languages that cannot include the
 * header.
 *
 * Threads: any.
 */
size_t ringmsg_sizeof_record(void);

/*
 * ringmsg_sizeof_metadata: sizeof(struct ringmsg_metadata).
 *
 * Threads: any.
 */
size_t ringmsg_sizeof_metadata(void);

/*
 * ringmsg_strerror: the text of a value that the library returned, or of a record's result; its
 * sign does not matter.
 *
 * Threads: any. Returns: a static string, never NULL.
 */
const char *ringmsg_strerror(int error);

/*
 * ringmsg_last_error: copies the sentence that explains the calling thread's last failure, such
 * as "pool: 300 buffers is not a power of two up to 32768". Success does not clear it.
 *
 * Ownership: at most `len` bytes are written to `buf`, always ending in NUL; `buf` may be
 * NULL when `len` is 0.
 * Threads: any; each sees its own failures.
 * Returns: the sentence's full length, without the NUL; 0 when nothing has failed yet.
 */
size_t ringmsg_last_error(char *buf,
                          size_t len);

/*
 * ringmsg_query_support: reports what this kernel and this sandbox offer, by trying: engines,
 * setup flags, features, and the reason if io_uring is refused. It makes and frees some rings,
 * which takes about a millisecond, in a thread that has ended when the call returns.
 *
 * Ownership: `out` is the caller's; its `size` must be set.
 * Threads: any.
 * Returns: 0; -EINVAL (NULL, bad size).
 */
int ringmsg_query_support(struct ringmsg_support *out);

/*
 * ringmsg_describe_support: the same for a person, in a few lines: which engine and mode AUTO
 * takes, and why not a better one.
 *
 * Ownership: at most `len` bytes are written to `buf`, always ending in NUL; `buf` may be
 * NULL when `len` is 0.
 * Threads: any.
 * Returns: the text's full length, without the NUL; -EINVAL (NULL `buf`).
 */
int ringmsg_describe_support(char *buf,
                             size_t len);

/* ---------------------------------------------------------------------------------------- */
/* Rings                                                                                    */
/* ---------------------------------------------------------------------------------------- */

/*
 * ringmsg_ring_config_init: fills in the size and the defaults: the best mode and engine this
 * machine offers.
 *
 * Threads: any.
 */
void ringmsg_ring_config_init(struct ringmsg_ring_config *config);

/*
 * ringmsg_ring_new: makes a ring. `config` NULL means the defaults, RINGMSG_SETUP_AUTO.
 *
 * Ownership: the caller owns `*ring`, and frees it with ringmsg_ring_free(), which also
 * frees its pools.
 * Threads: any. With SINGLE_ISSUER or DEFER_TASKRUN (AUTO may take it) the calling thread
 * becomes the owner; with R_DISABLED the thread that calls ringmsg_ring_enable().
 * Returns: 0; -EINVAL (NULL `ring`, bad size, unknown or contradictory flags, entries out of
 * range, flags that the requested engine does not have); -EPERM, -ENOSYS, -ENOMEM, -EMFILE from
 * io_uring_setup(2): ringmsg_last_error() says what to do about it. Locked memory of rings that
 * were freed less than a quarter of a second ago may still be counted: then the call waits for it,
 * at most that long. On failure `*ring` is left as it was.
 */
int ringmsg_ring_new(const struct ringmsg_ring_config *config,
                     struct ringmsg_ring **ring);

/*
 * ringmsg_ring_enable: starts a ring that was made with RINGMSG_SETUP_R_DISABLED; the calling
 * thread becomes its owner. Until then any thread may make pools and get ring_fd, and arming,
 * reaping and cancelling return -EBADFD.
 *
 * Threads: any, once.
 * Returns: 0; -EINVAL (NULL); -EBADFD (it is enabled already).
 */
int ringmsg_ring_enable(struct ringmsg_ring *ring);

/*
 * ringmsg_ring_info: reports what was granted: engine, setup flags, features, entries, owner.
 * Flags that the library sets for itself are not shown. COOP_TASKRUN beside DEFER_TASKRUN adds
 * nothing and is not shown either.
 *
 * Ownership: `info` is the caller's; its `size` must be set.
 * Threads: any.
 * Returns: 0; -EINVAL (NULL, bad size).
 */
int ringmsg_ring_info(const struct ringmsg_ring *ring,
                      struct ringmsg_ring_info *info);

/*
 * ringmsg_ring_fd: a descriptor for poll(2), epoll(7), asyncio, libuv: readable when a reap would
 * return something. It suits level-triggered and edge-triggered loops that reap with timeout 0. Do
 * not read or write it. (The ring's own descriptor does not become readable in DEFER mode.)
 *
 * The first call in a process on a ring in DEFER mode starts a thread that tests how this kernel
 * notifies an eventfd, and waits until that thread has ended.
 *
 * Ownership: the library's, made on first use; do not close it.
 * Threads: any.
 * Returns: the descriptor; -EINVAL (NULL); -EMFILE, -ENFILE, -ENOMEM.
 */
int ringmsg_ring_fd(struct ringmsg_ring *ring);

/*
 * ringmsg_ring_stats: reports the ring's counters.
 *
 * Ownership: `stats` is the caller's; its `size` must be set.
 * Threads: any.
 * Returns: 0; -EINVAL (NULL, bad size).
 */
int ringmsg_ring_stats(const struct ringmsg_ring *ring, struct ringmsg_stats *stats);

/*
 * ringmsg_request_stats: reports the same counters for one request, until its FINAL record is
 * reaped. Requests that share `user_data` are added up.
 *
 * Ownership: `stats` is the caller's; its `size` must be set.
 * Threads: any.
 * Returns: 0; -EINVAL (NULL, bad size); -ENOENT (no such request).
 */
int ringmsg_request_stats(const struct ringmsg_ring *ring,
                          uint64_t user_data,
                          struct ringmsg_stats *stats);

/*
 * ringmsg_ring_free: ends a ring: wakes a sleeping reap, which returns -ECANCELED, waits for calls
 * inside, cancels every request, and returns when the kernel no longer uses its memory: pools are
 * unmapped, unclaimed descriptors closed, all records void, and every caller's msghdr is the
 * caller's again. From another thread than the owner of a bound ring this takes 30 to 60 ms.
 *
 * Ownership: the ring and its pools are gone, whatever the result. Calls that begin afterwards
 * have undefined behaviour. In a forked child this frees the child's copy, and nothing of the
 * parent's.
 * Threads: any; also after the owner has exited.
 * Returns: 0, also for NULL; -EINVAL (no such ring: it was freed before); -ETIMEDOUT (a call
 * inside did not return within 5 s, or the kernel did not release the ring within 15 s: the memory
 * is leaked, and msghdrs must stay valid).
 */
int ringmsg_ring_free(struct ringmsg_ring *ring);

/* ---------------------------------------------------------------------------------------- */
/* Sockets and pools                                                                        */
/* ---------------------------------------------------------------------------------------- */

/*
 * ringmsg_socket_enable: sets the socket options that make the kernel send `metadata` (a set of
 * RINGMSG_META_*) with every datagram. It works on every kind of socket that can report them: UDP,
 * UDP-Lite, raw and ping sockets of both families; other families report drops, timestamps, mark
 * and priority. On IPv6 sockets it sets the options of both levels, since an IPv4 datagram there
 * reports through those of IPv4; a level that the socket does not have is skipped. SO_TIMESTAMPING
 * keeps what is set already. SEGMENT_SIZE switches GRO on (UDP_GRO): from then on a plain recv(2)
 * sees trains too.
 *
 * Threads: any.
 * Returns: 0; -EINVAL (unknown bits); -EBADF, -ENOTSOCK; -EOPNOTSUPP or -ENOPROTOOPT (this
 * kind of socket has no such option); -EPERM (MARK, on kernels that require CAP_NET_ADMIN for it).
 * On failure nothing is switched on.
 */
int ringmsg_socket_enable(int fd,
                          uint32_t metadata);

/*
 * ringmsg_socket_disable: switches off exactly the socket options behind `metadata`, for all who
 * share the socket through dup(2), fork(2) or SCM_RIGHTS. (DESTINATION, INTERFACE and LOCAL_V4
 * share one option; so do SOCKET_ERROR and OFFENDER.)
 *
 * SEGMENT_SIZE is switched off only while nothing is queued at the socket: a plain recv(2) would
 * see a queued train as one datagram. So receive until -EAGAIN, call this, and repeat both if it
 * returns -EAGAIN.
 *
 * Threads: any.
 * Returns: 0; -EAGAIN (SEGMENT_SIZE while datagrams are queued: it is still on, and so is the
 * rest); -EINVAL (unknown bits); -EBADF, -ENOTSOCK; -EOPNOTSUPP (this kind of socket has no such
 * option).
 */
int ringmsg_socket_disable(int fd,
                           uint32_t metadata);

/*
 * ringmsg_socket_steer: makes the kernel select the socket of a SO_REUSEPORT group that gets a
 * datagram, for servers with a ring and a socket for each processor. `fds` are all `count` sockets
 * of the group, in the order of bind(2). With RINGMSG_STEER_CPU the index of the socket is the
 * number of the processor that takes the datagram in, modulo `count`. With RINGMSG_STEER_PAYLOAD
 * it is the big-endian number of `length` bytes at `offset` of the payload, and with
 * RINGMSG_STEER_QUIC at `offset` of the destination connection id, modulo `count`.
 *
 * A QUIC server writes the index of a socket into the connection ids that it issues. Then a
 * connection keeps its socket while its peer's address changes. Datagrams without such bytes go
 * where they would go without steering: the kernel's hash of addresses and ports selects.
 * Multicast and broadcast datagrams go to every socket.
 *
 * The group has one steering, and a second call replaces it. When a socket has joined the group,
 * call this again: until then it gets nothing. When a socket is closed, the last one takes its
 * index: call this again with that order; until then the hash selects for the index that is gone.
 * The call may come before bind(2), for all sockets or for the last ones. setsockopt(2) with
 * SO_DETACH_REUSEPORT_BPF on a socket of the group ends the steering.
 *
 * A GRO train goes whole to the socket of its first datagram. So with RINGMSG_META_SEGMENT_SIZE
 * connections that have both addresses and ports in common may share one socket.
 *
 * Ownership: both arrays are read during the call only.
 * Threads: any.
 * Returns: 0; -EINVAL (NULL, no socket, more than 65535, one twice; a bad struct; SO_REUSEPORT
 * is off, or was off at bind(2); the sockets differ in family, address, port, interface or
 * IPV6_V6ONLY, or a bound one follows an unbound one); -EISCONN (a connected socket); -EOPNOTSUPP
 * (not UDP or UDP-Lite); -EBADF, -ENOTSOCK; -EPERM (SO_LOCK_FILTER); -ENOMEM. On failure the
 * steering is left as it was.
 */
int ringmsg_socket_steer(const int *fds,
                         uint32_t count,
                         const struct ringmsg_steering *steering);

/*
 * ringmsg_pool_config_init: fills in the size and the defaults: 256 buffers for the longest
 * datagrams and GRO trains, 256 bytes of control messages, any source address. Untouched pages use
 * no memory.
 *
 * Threads: any.
 */
void ringmsg_pool_config_init(struct ringmsg_pool_config *config);

/*
 * ringmsg_pool_config_for_socket: sets the capacities from the options that are on for `fd`:
 * never too little space for control messages, and 64 KiB of payload. Call it after the
 * options are set. `buffers` is left as it is.
 *
 * Ownership: `config` is the caller's; ringmsg_pool_config_init() first.
 * Threads: any.
 * Returns: 0; -EINVAL (NULL, bad size); -EBADF, -ENOTSOCK.
 */
int ringmsg_pool_config_for_socket(struct ringmsg_pool_config *config,
                                   int fd);

/*
 * ringmsg_pool_new: makes a pool: one mapping, zeroed, smaller than 4 GiB, at an address that does
 * not change, not inherited by forked children. Each buffer is [16-byte header][name][control
 * messages][payload]; capacities are rounded up to 8 bytes.
 *
 * Ownership: the pool belongs to its ring, which frees it; ringmsg_pool_free() does so
 * earlier.
 * Threads: [owner]; before ringmsg_ring_enable() any.
 * Returns: 0; -EINVAL (NULL, bad size, buffers not a power of two up to 32768, 4 GiB or
 * more); -ENOMEM (as ringmsg_ring_new(), it waits for memory of freed rings); -ENOSPC (1024
 * pools); -EPERM, -EOWNERDEAD. On failure `*pool` is left as it was.
 */
int ringmsg_pool_new(struct ringmsg_ring *ring,
                     const struct ringmsg_pool_config *config,
                     struct ringmsg_pool **pool);

/*
 * ringmsg_pool_new_in: makes a pool as ringmsg_pool_new() does, in the caller's memory: for huge
 * pages, for memory that is shared, and for languages in which a slice of a payload may outlive
 * its pool. It takes buffers x (16 bytes and the three capacities, each rounded up to 8; the sum
 * rounded up to 64).
 *
 * Ownership: `memory` stays the caller's. It must stay mapped, and nothing else may write to
 * it, until ringmsg_pool_free() or ringmsg_ring_free() has returned 0; neither of them unmaps it.
 * What a forked child inherits is the caller's choice, too (MADV_DONTFORK).
 * Threads: [owner]; before ringmsg_ring_enable() any.
 * Returns: as ringmsg_pool_new(); also -EINVAL for memory that is not aligned to 64 bytes, or
 * is too short.
 */
int ringmsg_pool_new_in(struct ringmsg_ring *ring,
                        const struct ringmsg_pool_config *config,
                        void *memory,
                        size_t length,
                        struct ringmsg_pool **pool);

/*
 * ringmsg_pool_free: unmaps a pool that no request and no record refers to. Its handle stays
 * readable until the ring is freed, so that stale use gets an error.
 *
 * Threads: [owner].
 * Returns: 0; -EINVAL (NULL, freed before); -EBUSY (a request is armed on it, or a record
 * holds a buffer of it); -EPERM, -EOWNERDEAD.
 */
int ringmsg_pool_free(struct ringmsg_pool *pool);

/*
 * ringmsg_ring_pool: returns the pool with this id, such as a record's `pool`.
 *
 * Ownership: the ring's.
 * Threads: any.
 * Returns: the pool; NULL if there is none.
 */
struct ringmsg_pool *ringmsg_ring_pool(const struct ringmsg_ring *ring, uint16_t id);

/*
 * ringmsg_pool_id: returns the pool's id, as it is in records. The ids of freed pools are reused.
 *
 * Threads: any. Returns: the id; RINGMSG_POOL_NONE for NULL.
 */
uint16_t ringmsg_pool_id(const struct ringmsg_pool *pool);

/*
 * ringmsg_pool_base: returns the address from which the offsets in records count. It does not
 * change.
 *
 * Ownership: the library's: read only the slices of records that you hold; other bytes may
 * change.
 * Threads: any. Returns: the address; NULL for NULL, when the pool is freed, and after
 * fork.
 */
const uint8_t *ringmsg_pool_base(const struct ringmsg_pool *pool);

/*
 * ringmsg_pool_size: returns the size of the mapping, in bytes.
 *
 * Threads: any. Returns: the size; 0 for NULL, when the pool is freed, and after fork.
 */
size_t ringmsg_pool_size(const struct ringmsg_pool *pool);

/* ---------------------------------------------------------------------------------------- */
/* Submitting                                                                               */
/* ---------------------------------------------------------------------------------------- */

/*
 * ringmsg_recvmsg: receives one message into the caller's own msghdr, as recvmsg(2) does: the
 * kernel fills payload, name, control messages and flags by the time the FINAL record is reaped.
 * The library adds no flag to `msg_flags`. As with recvmsg(2), MSG_WAITALL has no effect on a
 * socket that keeps message boundaries (SOCK_SEQPACKET). On a stream with MSG_WAITALL the record
 * comes when the payload is full or, if `msg` has room for control messages, with the first data,
 * as io_uring behaves. The request is queued: ringmsg_submit() or the next reap submits it to the
 * kernel.
 *
 * The request refers to the socket, not to the number `fd`, which may be closed and used again.
 *
 * Ownership: `msg` and all it points to stay the caller's and must live, unmoved, until the
 * record is reaped or ringmsg_ring_free() has returned 0. Descriptors in it are the caller's.
 * (Languages whose objects move in memory use ringmsg_recvmsg_once().)
 * Threads: [owner].
 * Returns: 0; -EINVAL (NULL, unknown flags: POLL_FIRST and NO_REARM are known; MSG_WAITALL
 * with MSG_PEEK on a stream: the kernel's io_uring repeats the first bytes); -EBADF, -ENOTSOCK;
 * -EMFILE, -ENFILE; -EAGAIN, -EBUSY, -ENOMEM (the submission queue is full, and the kernel cannot
 * take it now); -EBADFD (not enabled); -EPERM, -EOWNERDEAD.
 */
int ringmsg_recvmsg(struct ringmsg_ring *ring,
                    int fd,
                    struct msghdr *msg,
                    int msg_flags,
                    uint32_t flags,
                    uint64_t user_data);

/*
 * ringmsg_recvmsg_once: receives one message into a buffer of `pool`; its record reads like one of
 * a multishot. It takes a buffer that is not published. A busy multishot may have all of them, so
 * give single-shots a pool of their own. Queued like ringmsg_recvmsg().
 *
 * `flags`: RINGMSG_RECV_SPLIT, _POLL_FIRST, _NO_REARM. `msg_flags`: those of recvmsg(2);
 * MSG_TRUNC (not on streams) and MSG_CMSG_CLOEXEC are added, and not shown. MSG_WAITALL as in
 * ringmsg_recvmsg(), where room for control messages is the pool's control_capacity.
 *
 * Threads: [owner].
 * Returns: 0; -ENOBUFS (no unpublished buffer); -EINVAL (NULL, unknown flags, a pool of
 * another ring, SPLIT without space for the segment size, MSG_TRUNC on a stream, MSG_WAITALL with
 * MSG_PEEK on a stream); -EBADF, -ENOTSOCK; -EMFILE, -ENFILE; -EAGAIN, -EBUSY, -ENOMEM (the
 * submission queue is full, and the kernel cannot take it now); -EBADFD (not enabled); -EPERM,
 * -EOWNERDEAD.
 */
int ringmsg_recvmsg_once(struct ringmsg_ring *ring,
                         const struct ringmsg_pool *pool,
                         int fd,
                         int msg_flags,
                         uint32_t flags,
                         uint64_t user_data);

/*
 * ringmsg_recvmsg_multishot: receives until cancelled: every message lands in a buffer of `pool`
 * and becomes a record, or, with RINGMSG_RECV_SPLIT, a record for each datagram of a GRO train.
 * The call submits the request.
 *
 * The request never stops without a record that says so. When the kernel ends it (buffers used up,
 * a zero-length datagram, an ICMP error, a full completion queue) it is armed again, at once or as
 * soon as a buffer is released. On datagram sockets errors are records and the request goes on,
 * except after ENOTSOCK, EFAULT, EINVAL, and sixteen failures without data within 10 ms. ICMP
 * errors never end it. Sixteen EACCES or EOPNOTSUPP, which may come from a peer's ICMP errors or
 * from a security module, make it try once a millisecond. On stream and seqpacket sockets result 0
 * is the end, and so is any error. Closing `fd` does not end it: ringmsg_cancel() does.
 *
 * On a socket that other rings or processes receive from, too, cancel before the thread stops
 * reaping: in plain and COOP mode and with SQPOLL the kernel receives for whatever is armed, and
 * no other receiver gets those datagrams. In DEFER mode and on the recvmmsg engine the kernel
 * receives only during a reap.
 *
 * `flags`: RINGMSG_RECV_SPLIT, _POLL_FIRST, _NO_REARM. `msg_flags`: MSG_ERRQUEUE,
 * MSG_CMSG_CLOEXEC, MSG_TRUNC; the library adds the latter two where they apply, and does not show
 * them.
 *
 * Threads: [owner]. In plain and COOP mode completions run in the thread that armed.
 * Returns: 0; -EINVAL (NULL, unknown flags or msg_flags, a pool of another ring, SPLIT
 * without space for the segment size); -EBADF, -ENOTSOCK; -EMFILE, -ENFILE; -EAGAIN, -EBUSY,
 * -ENOMEM (the submission queue is full, and the kernel cannot take it now); -EBADFD (not
 * enabled); -EPERM, -EOWNERDEAD.
 */
int ringmsg_recvmsg_multishot(struct ringmsg_ring *ring,
                              const struct ringmsg_pool *pool,
                              int fd,
                              int msg_flags,
                              uint32_t flags,
                              uint64_t user_data);

/*
 * ringmsg_writable: waits until `fd` takes data again, for a program that found its socket full
 * (-EAGAIN): one record, RINGMSG_RECORD_WRITABLE | RINGMSG_RECORD_FINAL with result 0 and no
 * buffer, as soon as the socket has room; at once if it has room already. The call submits the
 * request. An unread error queue (transmit timestamps, ICMP errors) does not end the wait, and
 * costs no processor time. The end of the connection does: the next send returns the reason.
 *
 * After the record, send what was left with RINGMSG_SEND_RESUME, and call this again if that
 * leaves messages with -EAGAIN. Any number of requests may wait on one socket.
 *
 * Ownership: the request refers to the socket, not to the number `fd`, which may be closed and
 * used again.
 * Threads: [owner]. In plain and COOP mode the wait belongs to the thread that called: if that
 * thread exits, the one that reaps continues the wait.
 * Returns: 0; -EOPNOTSUPP (an AF_UNIX socket that is not connected, which the kernel always
 * reports as writable); -EINVAL (NULL); -EBADF, -ENOTSOCK; -EMFILE, -ENFILE; -EAGAIN, -EBUSY,
 * -ENOMEM (the submission queue is full, and the kernel cannot take it now); -EBADFD (not
 * enabled); -EPERM, -EOWNERDEAD.
 */
int ringmsg_writable(struct ringmsg_ring *ring,
                     int fd,
                     uint64_t user_data);

/*
 * ringmsg_cancel: ends every request with `user_data`. Each ends with exactly one FINAL record:
 * its own result if that came first, else -ECANCELED. Datagrams that are still in the socket stay
 * there. With the last request of a socket the ring closes its reference, in the reap that returns
 * the record: if `fd` is closed by then, that is the last close, which waits on a TCP socket with
 * SO_LINGER.
 *
 * Threads: [owner].
 * Returns: 0: the FINAL records will follow; -ENOENT (no such request); -EINVAL (NULL);
 * -EBADFD (not enabled); -EPERM, -EOWNERDEAD.
 */
int ringmsg_cancel(struct ringmsg_ring *ring,
                   uint64_t user_data);

/*
 * ringmsg_submit: submits queued single-shots to the kernel now. A reap does so, too.
 *
 * Threads: [owner].
 * Returns: 0; -EINVAL (NULL); -EBUSY, -EAGAIN (the kernel cannot take them now; they stay
 * queued); -EBADFD (not enabled); -EPERM, -EOWNERDEAD.
 */
int ringmsg_submit(struct ringmsg_ring *ring);

/*
 * ringmsg_wake: makes the current or, if there is none, the next reap return; makes ring_fd
 * readable. Several wakes before that count as one. A reap that lingers may return late by up to
 * the linger time.
 *
 * Threads: any; also from a signal handler. Leaves no sentence for ringmsg_last_error().
 * Returns: 0; -EINVAL (NULL); -EPERM (after fork); -ECANCELED (being freed).
 */
int ringmsg_wake(const struct ringmsg_ring *ring);

/* ---------------------------------------------------------------------------------------- */
/* Reaping                                                                                  */
/* ---------------------------------------------------------------------------------------- */

/*
 * ringmsg_reap: submits what is queued, and returns records as soon as there are any: at most
 * `capacity`, written to the front of `records`, and of `metadata` unless that is NULL (then
 * nothing is decoded). A train that does not fit continues in the next reap.
 *
 * `wait` NULL: no time limit, linger AUTO, no spin. See struct ringmsg_wait.
 *
 * Ownership: the arrays are the caller's. Records with RINGMSG_RECORD_BUFFER hold a pool
 * buffer until they are released, across any number of reaps.
 * Threads: [owner], one at a time.
 * Returns: how many records; 0 after the timeout or a wake; -EINTR on a signal; -ECANCELED
 * when the ring is being freed; -EBADR (the kernel had no memory for completions and dropped some:
 * datagrams are lost, requests may have ended without a record, and later reaps return it again:
 * free the ring); -EBUSY (another thread is in reap); -EINVAL (NULL `records`, capacity 0 or from
 * 2^31 on, bad `wait`, a linger above 10 ms); -EBADFD (not enabled); -EPERM, -EOWNERDEAD; the
 * errno with which the kernel refuses to wait or to submit (-EPERM of a seccomp filter that was
 * installed later; -EIO instead of those above). If there are records, they are returned before
 * any other result.
 */
int ringmsg_reap(struct ringmsg_ring *ring,
                 struct ringmsg_record *records,
                 struct ringmsg_metadata *metadata,
                 uint32_t capacity,
                 const struct ringmsg_wait *wait);

/*
 * ringmsg_release: gives the buffers of `records` back, so that the kernel can fill them again.
 * Records of one train share a buffer, which goes back with the last of them. Records without
 * RINGMSG_RECORD_BUFFER are skipped, so a whole batch can be released as it is. A request that
 * waits for a buffer is armed again.
 *
 * Ownership: what the records point to is no longer the caller's, and descriptors that were
 * not taken are closed.
 * Threads: any, on every ring. From another thread than the one that reaps it costs no
 * system call unless a request waits for a buffer.
 * Returns: 0; -EINVAL (NULL; a count from 2^31 on; a record that is not held: released before,
 * twice in this array, of a freed pool; then none is released); -EPERM (after fork); -ECANCELED.
 */
int ringmsg_release(struct ringmsg_ring *ring,
                    const struct ringmsg_record *records,
                    uint32_t count);

/*
 * ringmsg_next: releases `done`, then reaps, in one call: the loop of a receiver. `done` may be
 * the front of `records`, and `done_count` the result of the call before, also a negative one:
 * from 2^31 on it is taken as 0.
 *
 * Ownership, Threads: as ringmsg_release() and ringmsg_reap().
 * Returns: as ringmsg_reap(); -EINVAL also when a record of `done` is not held. On success,
 * with -EINTR, -ECANCELED and -EBADR, and when the kernel refuses to wait, `done` is released;
 * with every other error nothing was done.
 */
int ringmsg_next(struct ringmsg_ring *ring,
                 const struct ringmsg_record *done,
                 uint32_t done_count,
                 struct ringmsg_record *records,
                 struct ringmsg_metadata *metadata,
                 uint32_t capacity,
                 const struct ringmsg_wait *wait);

/*
 * ringmsg_receive: takes the messages that a socket holds now, by recvmmsg(2), into memory of the
 * caller: no ring, no pool, no state. The records are those of a reap, with user_data 0, pool
 * RINGMSG_POOL_NONE and without RINGMSG_RECORD_BUFFER: there is nothing to release. Their offsets
 * count from `slab`.
 *
 * `layout` says how the slab is divided: `buffers`, any number of them, of [16-byte header][name]
 * [control messages][payload], back to back, each capacity rounded up to 8 bytes. The slab has at
 * least `buffers` x (16 + name + control + payload) bytes, in all below 4 GiB.
 * ringmsg_pool_config_for_socket() sizes a layout.
 *
 * At most as many messages are taken as the layout has buffers, and as `records` has room. With
 * RINGMSG_RECV_SPLIT a GRO train becomes one record for each datagram; one that does not fit into
 * what the other messages leave of `records` stays whole, as one record with its segment_size.
 *
 * It never blocks, whatever the socket's O_NONBLOCK says. A pending error of the socket (such as
 * -ECONNREFUSED) is returned once, by the first call that meets it. If it comes after data, the
 * kernel keeps it for the next call; where the kernel does not, a record with this result follows
 * the data. The end of a seqpacket socket is one empty record, together with empty messages right
 * before it.
 *
 * Ownership: slab and arrays are the caller's; the next call with the same slab overwrites
 * what records point to. Descriptors in control messages (SCM_RIGHTS, SCM_PIDFD) are the
 * caller's, as in the system call, and are close-on-exec.
 * Threads: any, also in a forked child. Allocates nothing.
 * Returns: how many records, at least 1; -EAGAIN (the socket holds nothing); -EINVAL (NULL
 * `slab`, `layout` or `records`; bad `layout`; a slab that is too small; unknown flags; SPLIT
 * without control space for a segment size; `capacity` or `buffers` 0 or from 2^31 on);
 * -EOPNOTSUPP (a stream); -EBADF, -ENOTSOCK; the socket's own error.
 */
int ringmsg_receive(int fd,
                    void *slab,
                    size_t slab_size,
                    const struct ringmsg_pool_config *layout,
                    struct ringmsg_record *records,
                    struct ringmsg_metadata *metadata,
                    uint32_t capacity,
                    uint32_t flags);

/*
 * ringmsg_take_fds: hands over descriptors that arrived with `record` (SCM_RIGHTS, SCM_PIDFD),
 * in the order in which they came, close-on-exec. The control slice shows -1 in their place.
 * What is not taken is closed on release. (With ringmsg_recvmsg() they are in the caller's
 * msg_control, and the caller's.)
 *
 * Ownership: the descriptors are the caller's.
 * Threads: any.
 * Returns: how many were written to `fds`, at most `capacity`; 0 when none remain; -EINVAL
 * (NULL; the record is not held); -EPERM (after fork); -ECANCELED.
 */
int ringmsg_take_fds(struct ringmsg_ring *ring,
                     const struct ringmsg_record *record,
                     int *fds,
                     uint32_t capacity);

/* ---------------------------------------------------------------------------------------- */
/* Control messages                                                                         */
/* ---------------------------------------------------------------------------------------- */

/*
 * ringmsg_control_next: steps to the next control message of a slice. Start with a zeroed
 * cursor. Needs no alignment.
 *
 * Ownership: reads `length` bytes; keeps nothing.
 * Threads: any.
 * Returns: 1: the cursor describes a message; 0: there is none left; -EBADMSG: the next bytes
 * are no control message; -EINVAL (NULL). On 0 and errors the cursor stays as it was.
 */
int ringmsg_control_next(const void *control,
                         size_t length,
                         struct ringmsg_cmsg *cursor);

/*
 * ringmsg_control_decode: decodes a whole slice, as ringmsg_reap() does for its metadata. (The
 * source address is not in it: that is the record's name.) Unknown messages, and those that the
 * kernel cut, are skipped.
 *
 * Ownership: reads `length` bytes; fills `out`.
 * Threads: any.
 * Returns: 0; -EBADMSG (malformed: `out` is left as it was); -EINVAL (NULL).
 */
int ringmsg_control_decode(const void *control,
                           size_t length,
                           struct ringmsg_metadata *out);

/* ---------------------------------------------------------------------------------------- */
/* Sending                                                                                  */
/* ---------------------------------------------------------------------------------------- */

/*
 * ringmsg_path_reply: makes the path of an answer to a received datagram: back to its source, from
 * the address that it was sent to. Over IPv4, mapped or not, that is LOCAL_V4, which is right for
 * unicast, aliases, broadcast and multicast; without it the kernel chooses. Over IPv6 it is the
 * destination, unless that is multicast. The interface is set where an address is ambiguous
 * without it: fe80::/10, 169.254/16, multicast. The traffic class is not copied, because the
 * protocol decides about the ECN bits of an answer.
 *
 * Ownership: `received` is read, and all of `path` is written. Metadata have what this needs
 * once ringmsg_socket_enable() has switched on RINGMSG_META_DESTINATION.
 * Threads: any.
 * Returns: 0; -EADDRNOTAVAIL (the metadata have no source); -EINVAL (NULL). On failure
 * `path` is left as it was.
 */
int ringmsg_path_reply(struct ringmsg_path *path,
                       const struct ringmsg_metadata *received);

/*
 * ringmsg_path_to: makes the path to an address, as getaddrinfo(3) and recvfrom(2) return it. The
 * kernel chooses the source address, the interface, the traffic class and the hop limit; set
 * fields of `path`, and their bits in `valid`, to choose them. (A flow label in sin6_flowinfo is
 * not taken over.)
 *
 * Ownership: `length` bytes at `to` are read, which need no alignment; all of `path` is
 * written.
 * Threads: any.
 * Returns: 0; -EAFNOSUPPORT (neither AF_INET nor AF_INET6); -EINVAL (NULL; too short for its
 * family). On failure `path` is left as it was.
 */
int ringmsg_path_to(struct ringmsg_path *path,
                    const struct sockaddr *to,
                    socklen_t length);

/*
 * ringmsg_sender_config_init: writes the size and the defaults: batches of 1024 messages, grouped,
 * without a transmit clock.
 *
 * Threads: any.
 */
void ringmsg_sender_config_init(struct ringmsg_sender_config *config);

/*
 * ringmsg_sender_new: makes a sender for the socket behind `fd`, a datagram or seqpacket socket.
 * It needs no ring. One socket may have any number of senders: each thread that sends makes its
 * own. Set the socket's options first. UDP_CORK must stay off, and MSG_MORE must not be used: both
 * would put datagrams of several peers into one.
 *
 * With RINGMSG_SENDER_TIMESTAMPS, make the sender before the pool that receives the timestamps,
 * so that ringmsg_pool_config_for_socket() counts their control messages.
 *
 * Ownership: the sender holds its own reference to the socket: `fd` may be closed. It is the
 * caller's, until ringmsg_sender_free(). A forked child may use its copy.
 * Threads: any.
 * Returns: 0; -EINVAL (NULL, bad size, unknown flags, a batch above 32768, no such clock);
 * -EOPNOTSUPP (a stream; transmit times or timestamps on a socket that is not IP); -EBUSY
 * (UDP_CORK is on; another transmit clock is set); -EPERM (a transmit clock other than
 * CLOCK_MONOTONIC needs CAP_NET_ADMIN); -EBADF, -ENOTSOCK; -EMFILE, -ENOMEM. On failure
 * `*sender` is left as it was.
 */
int ringmsg_sender_new(int fd,
                       const struct ringmsg_sender_config *config,
                       struct ringmsg_sender **sender);

/*
 * ringmsg_send: sends a batch of messages on the sender's socket, with one system call for up to
 * 1024 trains. When it returns, the kernel has taken or refused every message, and every payload
 * is the caller's again.
 *
 * Every message has its `result` when the call returns >= 0, -EAGAIN or -EINTR: the payload bytes
 * that the socket took, or -errno. -EAGAIN, at any place in the array, means that the message was
 * not sent for lack of room: pass the unchanged array again, with RINGMSG_SEND_RESUME. A result
 * says what the socket took: without IP_RECVERR a full queueing discipline drops datagrams without
 * an error.
 *
 * With RINGMSG_SEND_WAIT the call waits for room instead, whether the socket is non-blocking or
 * not: for as long as it takes, or until nothing was taken for the time that SO_SNDTIMEO sets.
 *
 * Messages with equal path, length, traffic class, flags and transmit time leave as one
 * UDP_SEGMENT train; a shorter one may end it. Messages to one peer (family, remote, remote_port
 * and remote_scope) leave in the order in which they are given; among peers the order is free.
 *
 * Ownership: payloads and paths are read, and results written, during the call only.
 * Threads: any, one at a time for each sender.
 * Returns: how many messages it settled in this call, errors included; 0 when RESUME finds
 * none; -EAGAIN (it could settle none: the socket's buffer is full, and if the call waited,
 * SO_SNDTIMEO has expired); -EINTR (a signal came while RINGMSG_SEND_WAIT waited; the messages
 * that are left have -EAGAIN). Refused, with no result written: -EINVAL (NULL, unknown flags, 2^31
 * messages or more, a freed sender); -EBUSY (another thread is in a call on this sender); -ENOMEM
 * (no memory for the thread's scratch space, at its first call or a larger batch);
 * -ENOTRECOVERABLE (an internal error has poisoned the sender).
 */
int ringmsg_send(struct ringmsg_sender *sender,
                 struct ringmsg_message *messages,
                 uint32_t count,
                 uint32_t flags);

/*
 * ringmsg_send_from: does what ringmsg_send() does, without a pointer in any array. `payload` is
 * read as a uint64_t: an offset from `base`; so is `path`: an index into `paths`, or UINT64_MAX
 * for none. It is for languages that may not pass pointers to pointers, or that build arrays of
 * numbers faster.
 *
 * Ownership, Threads: as for ringmsg_send().
 * Returns: as ringmsg_send(). A message whose payload or path is out of bounds has the result
 * -EFAULT.
 */
int ringmsg_send_from(struct ringmsg_sender *sender,
                      const void *base,
                      size_t base_length,
                      const struct ringmsg_path *paths,
                      uint32_t path_count,
                      struct ringmsg_message *messages,
                      uint32_t count,
                      uint32_t flags);

/*
 * ringmsg_send_columns: does what ringmsg_send() does, with an array for each field. Message i is
 * the `lengths[i]` bytes at `offsets[i]` from `base`, on the path `paths[path_index[i]]`. Where
 * `offsets` is NULL, payloads lie back to back. Where `path_index` is NULL, message i takes path
 * i; UINT32_MAX in it means no path. Where `paths` is NULL, no message has one.
 *
 * Ownership, Threads: as for ringmsg_send().
 * Returns: as ringmsg_send(), with the results in `results`. A message whose payload or path
 * is out of bounds has the result -EFAULT.
 */
int ringmsg_send_columns(struct ringmsg_sender *sender,
                         const void *base,
                         size_t base_length,
                         const uint64_t *offsets,
                         const uint32_t *lengths,
                         const uint32_t *path_index,
                         const struct ringmsg_path *paths,
                         uint32_t path_count,
                         int32_t *results,
                         uint32_t count,
                         uint32_t flags);

/*
 * ringmsg_sender_stats: reports what the sender has done so far, also while another thread sends.
 *
 * Ownership: `stats` is the caller's; its `size` must be set.
 * Threads: any.
 * Returns: 0; -EINVAL (NULL, bad size, a freed sender).
 */
int ringmsg_sender_stats(const struct ringmsg_sender *sender,
                         struct ringmsg_sender_stats *stats);

/*
 * ringmsg_sender_free: frees a sender and its reference to the socket. Socket options that it has
 * set stay on.
 *
 * Ownership: the handle is invalid afterwards. NULL is allowed.
 * Threads: any.
 * Returns: 0; -EBUSY (another thread is in a call on it: nothing is freed); -EINVAL (freed
 * before, unless a new sender has its place by now).
 */
int ringmsg_sender_free(struct ringmsg_sender *sender);

#ifdef __cplusplus
}
#endif

#endif  /* RINGMSG_H */

/* The layout, checked in every program that includes this header. */
#if defined(__cplusplus) && __cplusplus >= 201103L
#define RINGMSG_ASSERT_(what) static_assert(what, #what)
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define RINGMSG_ASSERT_(what) _Static_assert(what, #what)
#endif
#ifdef RINGMSG_ASSERT_
RINGMSG_ASSERT_(sizeof(struct ringmsg_record) == 64);
RINGMSG_ASSERT_(offsetof(struct ringmsg_record, payload_offset) == 16);
RINGMSG_ASSERT_(offsetof(struct ringmsg_record, wire_length) == 40);
RINGMSG_ASSERT_(offsetof(struct ringmsg_record, pool) == 52);
RINGMSG_ASSERT_(offsetof(struct ringmsg_record, segments) == 62);
RINGMSG_ASSERT_(sizeof(struct ringmsg_metadata) == 128);
RINGMSG_ASSERT_(offsetof(struct ringmsg_metadata, source) == 8);
RINGMSG_ASSERT_(offsetof(struct ringmsg_metadata, destination_port) == 48);
RINGMSG_ASSERT_(offsetof(struct ringmsg_metadata, software_timestamp_ns) == 64);
RINGMSG_ASSERT_(offsetof(struct ringmsg_metadata, error_info) == 96);
RINGMSG_ASSERT_(offsetof(struct ringmsg_metadata, offender) == 108);
RINGMSG_ASSERT_(offsetof(struct ringmsg_metadata, reserved) == 124);
RINGMSG_ASSERT_(sizeof(struct ringmsg_ring_config) == 64);
RINGMSG_ASSERT_(sizeof(struct ringmsg_ring_info) == 64);
RINGMSG_ASSERT_(sizeof(struct ringmsg_support) == 64);
RINGMSG_ASSERT_(sizeof(struct ringmsg_pool_config) == 64);
RINGMSG_ASSERT_(sizeof(struct ringmsg_steering) == 64);
RINGMSG_ASSERT_(sizeof(struct ringmsg_wait) == 24);
RINGMSG_ASSERT_(sizeof(struct ringmsg_stats) == 168);
RINGMSG_ASSERT_(sizeof(struct ringmsg_cmsg) == 16);
RINGMSG_ASSERT_(sizeof(struct ringmsg_path) == 64);
RINGMSG_ASSERT_(offsetof(struct ringmsg_path, remote) == 8);
RINGMSG_ASSERT_(offsetof(struct ringmsg_path, local) == 32);
RINGMSG_ASSERT_(offsetof(struct ringmsg_path, traffic_class) == 48);
RINGMSG_ASSERT_(offsetof(struct ringmsg_path, flow_label) == 52);
RINGMSG_ASSERT_(sizeof(struct ringmsg_message) == 64);
RINGMSG_ASSERT_(offsetof(struct ringmsg_message, payload_length) == 16);
RINGMSG_ASSERT_(offsetof(struct ringmsg_message, result) == 28);
RINGMSG_ASSERT_(offsetof(struct ringmsg_message, timestamp_id) == 48);
RINGMSG_ASSERT_(offsetof(struct ringmsg_message, traffic_class) == 52);
RINGMSG_ASSERT_(sizeof(struct ringmsg_sender_config) == 64);
RINGMSG_ASSERT_(offsetof(struct ringmsg_sender_config, transmit_clock) == 12);
RINGMSG_ASSERT_(sizeof(struct ringmsg_sender_stats) == 88);
RINGMSG_ASSERT_(offsetof(struct ringmsg_sender_stats, messages) == 8);
#undef RINGMSG_ASSERT_
#endif

#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
