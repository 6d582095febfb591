/* The values and offsets that programs are compiled against. They never change: a difference here
 * breaks every existing program. Add lines, and never change one. */
#include <ringmsg.h>

#define VALUE(name, value) _Static_assert((name) == (value), #name)
#define PLACE(type, field, at, length)                                                \
    _Static_assert(offsetof(struct type, field) == (at) &&                            \
                       sizeof(((struct type *)0)->field) == (length),                 \
                   #type "." #field)
#define WHOLE(type, length) _Static_assert(sizeof(struct type) == (length), #type)

VALUE(RINGMSG_SETUP_SQPOLL, 1u << 1);
VALUE(RINGMSG_SETUP_R_DISABLED, 1u << 6);
VALUE(RINGMSG_SETUP_COOP_TASKRUN, 1u << 8);
VALUE(RINGMSG_SETUP_TASKRUN_FLAG, 1u << 9);
VALUE(RINGMSG_SETUP_SINGLE_ISSUER, 1u << 12);
VALUE(RINGMSG_SETUP_DEFER_TASKRUN, 1u << 13);
VALUE(RINGMSG_SETUP_AUTO, 1u << 31);
VALUE(RINGMSG_ENGINE_AUTO, 0);
VALUE(RINGMSG_ENGINE_IO_URING, 1);
VALUE(RINGMSG_ENGINE_RECVMMSG, 2);
VALUE(RINGMSG_META_SOURCE, 1u << 0);
VALUE(RINGMSG_META_DESTINATION, 1u << 1);
VALUE(RINGMSG_META_INTERFACE, 1u << 2);
VALUE(RINGMSG_META_TRAFFIC_CLASS, 1u << 3);
VALUE(RINGMSG_META_HOP_LIMIT, 1u << 4);
VALUE(RINGMSG_META_SEGMENT_SIZE, 1u << 5);
VALUE(RINGMSG_META_DROPPED, 1u << 6);
VALUE(RINGMSG_META_SOFTWARE_TIMESTAMP, 1u << 7);
VALUE(RINGMSG_META_HARDWARE_TIMESTAMP, 1u << 8);
VALUE(RINGMSG_META_DESTINATION_PORT, 1u << 9);
VALUE(RINGMSG_META_SOCKET_ERROR, 1u << 10);
VALUE(RINGMSG_META_MARK, 1u << 11);
VALUE(RINGMSG_META_FLOW_LABEL, 1u << 12);
VALUE(RINGMSG_META_LOCAL_V4, 1u << 13);
VALUE(RINGMSG_META_PRIORITY, 1u << 14);
VALUE(RINGMSG_META_OFFENDER, 1u << 15);
VALUE(RINGMSG_RECV_SPLIT, 1u << 0);
VALUE(RINGMSG_RECV_POLL_FIRST, 1u << 1);
VALUE(RINGMSG_RECV_NO_REARM, 1u << 2);
VALUE(RINGMSG_RECORD_BUFFER, 1u << 0);
VALUE(RINGMSG_RECORD_FINAL, 1u << 1);
VALUE(RINGMSG_RECORD_TRUNCATED, 1u << 2);
VALUE(RINGMSG_RECORD_CONTROL_TRUNCATED, 1u << 3);
VALUE(RINGMSG_RECORD_SEGMENT, 1u << 4);
VALUE(RINGMSG_RECORD_NAME_TRUNCATED, 1u << 5);
VALUE(RINGMSG_STEER_CPU, 0);
VALUE(RINGMSG_STEER_PAYLOAD, 1);
VALUE(RINGMSG_STEER_QUIC, 2);
VALUE(RINGMSG_LINGER_AUTO, 0xffffffffu);
VALUE(RINGMSG_LINGER_MAX_US, 10000);
VALUE(RINGMSG_POOL_NONE, 0xffff);
VALUE(RINGMSG_FEATURE_MULTISHOT, 1u << 0);
VALUE(RINGMSG_FEATURE_MIN_WAIT, 1u << 1);
VALUE(RINGMSG_ABI_VERSION, 0);
VALUE(RINGMSG_PATH_REMOTE, 1u << 0);
VALUE(RINGMSG_PATH_LOCAL, 1u << 1);
VALUE(RINGMSG_PATH_INTERFACE, 1u << 2);
VALUE(RINGMSG_PATH_TRAFFIC_CLASS, 1u << 3);
VALUE(RINGMSG_PATH_HOP_LIMIT, 1u << 4);
VALUE(RINGMSG_PATH_FLOW_LABEL, 1u << 5);
VALUE(RINGMSG_MESSAGE_ALONE, 1u << 0);
VALUE(RINGMSG_MESSAGE_TIMESTAMP, 1u << 1);
VALUE(RINGMSG_MESSAGE_TRAFFIC_CLASS, 1u << 2);
VALUE(RINGMSG_SENDER_NO_GROUPING, 1u << 0);
VALUE(RINGMSG_SENDER_TIMESTAMPS, 1u << 1);
VALUE(RINGMSG_SEND_WAIT, 1u << 0);
VALUE(RINGMSG_SEND_RESUME, 1u << 1);

PLACE(ringmsg_support, size, 0, 4);
PLACE(ringmsg_support, engines, 4, 4);
PLACE(ringmsg_support, setup_flags, 8, 4);
PLACE(ringmsg_support, features, 12, 4);
PLACE(ringmsg_support, create_error, 16, 4);
PLACE(ringmsg_support, io_uring_disabled, 20, 4);
PLACE(ringmsg_support, kernel_version, 24, 4);
PLACE(ringmsg_support, reserved, 28, 36);
WHOLE(ringmsg_support, 64);

PLACE(ringmsg_ring_config, size, 0, 4);
PLACE(ringmsg_ring_config, flags, 4, 4);
PLACE(ringmsg_ring_config, sq_entries, 8, 4);
PLACE(ringmsg_ring_config, cq_entries, 12, 4);
PLACE(ringmsg_ring_config, sq_thread_idle_ms, 16, 4);
PLACE(ringmsg_ring_config, sq_thread_cpu, 20, 4);
PLACE(ringmsg_ring_config, engine, 24, 4);
PLACE(ringmsg_ring_config, reserved, 28, 36);
WHOLE(ringmsg_ring_config, 64);

PLACE(ringmsg_ring_info, size, 0, 4);
PLACE(ringmsg_ring_info, engine, 4, 4);
PLACE(ringmsg_ring_info, flags, 8, 4);
PLACE(ringmsg_ring_info, features, 12, 4);
PLACE(ringmsg_ring_info, sq_entries, 16, 4);
PLACE(ringmsg_ring_info, cq_entries, 20, 4);
PLACE(ringmsg_ring_info, owner_thread, 24, 4);
PLACE(ringmsg_ring_info, reserved, 28, 36);
WHOLE(ringmsg_ring_info, 64);

PLACE(ringmsg_stats, size, 0, 4);
PLACE(ringmsg_stats, reserved, 4, 4);
PLACE(ringmsg_stats, records, 8, 8);
PLACE(ringmsg_stats, datagrams, 16, 8);
PLACE(ringmsg_stats, payload_bytes, 24, 8);
PLACE(ringmsg_stats, reaps, 32, 8);
PLACE(ringmsg_stats, enters, 40, 8);
PLACE(ringmsg_stats, wakes, 48, 8);
PLACE(ringmsg_stats, rearms, 56, 8);
PLACE(ringmsg_stats, starvations, 64, 8);
PLACE(ringmsg_stats, window_misses, 72, 8);
PLACE(ringmsg_stats, cq_overflows, 80, 8);
PLACE(ringmsg_stats, truncated, 88, 8);
PLACE(ringmsg_stats, control_truncated, 96, 8);
PLACE(ringmsg_stats, zero_length, 104, 8);
PLACE(ringmsg_stats, errors, 112, 8);
PLACE(ringmsg_stats, socket_drops, 120, 8);
PLACE(ringmsg_stats, buffers_held, 128, 8);
PLACE(ringmsg_stats, buffers_published, 136, 8);
PLACE(ringmsg_stats, linger_us, 144, 8);
PLACE(ringmsg_stats, linger_trials, 152, 8);
PLACE(ringmsg_stats, linger_trial_ns, 160, 8);
WHOLE(ringmsg_stats, 168);

PLACE(ringmsg_steering, size, 0, 4);
PLACE(ringmsg_steering, by, 4, 4);
PLACE(ringmsg_steering, offset, 8, 4);
PLACE(ringmsg_steering, length, 12, 4);
PLACE(ringmsg_steering, reserved, 16, 48);
WHOLE(ringmsg_steering, 64);

PLACE(ringmsg_pool_config, size, 0, 4);
PLACE(ringmsg_pool_config, buffers, 4, 4);
PLACE(ringmsg_pool_config, payload_capacity, 8, 4);
PLACE(ringmsg_pool_config, control_capacity, 12, 4);
PLACE(ringmsg_pool_config, name_capacity, 16, 4);
PLACE(ringmsg_pool_config, flags, 20, 4);
PLACE(ringmsg_pool_config, reserved, 24, 40);
WHOLE(ringmsg_pool_config, 64);

PLACE(ringmsg_record, user_data, 0, 8);
PLACE(ringmsg_record, result, 8, 4);
PLACE(ringmsg_record, flags, 12, 4);
PLACE(ringmsg_record, payload_offset, 16, 4);
PLACE(ringmsg_record, payload_length, 20, 4);
PLACE(ringmsg_record, control_offset, 24, 4);
PLACE(ringmsg_record, control_length, 28, 4);
PLACE(ringmsg_record, name_offset, 32, 4);
PLACE(ringmsg_record, name_length, 36, 4);
PLACE(ringmsg_record, wire_length, 40, 4);
PLACE(ringmsg_record, msg_flags, 44, 4);
PLACE(ringmsg_record, segment_size, 48, 4);
PLACE(ringmsg_record, pool, 52, 2);
PLACE(ringmsg_record, buffer, 54, 2);
PLACE(ringmsg_record, generation, 56, 4);
PLACE(ringmsg_record, segment, 60, 2);
PLACE(ringmsg_record, segments, 62, 2);
WHOLE(ringmsg_record, 64);

PLACE(ringmsg_metadata, valid, 0, 4);
PLACE(ringmsg_metadata, family, 4, 2);
PLACE(ringmsg_metadata, source_port, 6, 2);
PLACE(ringmsg_metadata, source, 8, 16);
PLACE(ringmsg_metadata, source_scope, 24, 4);
PLACE(ringmsg_metadata, interface_index, 28, 4);
PLACE(ringmsg_metadata, destination, 32, 16);
PLACE(ringmsg_metadata, destination_port, 48, 2);
PLACE(ringmsg_metadata, traffic_class, 50, 1);
PLACE(ringmsg_metadata, hop_limit, 51, 1);
PLACE(ringmsg_metadata, segment_size, 52, 4);
PLACE(ringmsg_metadata, dropped, 56, 4);
PLACE(ringmsg_metadata, socket_error, 60, 4);
PLACE(ringmsg_metadata, software_timestamp_ns, 64, 8);
PLACE(ringmsg_metadata, hardware_timestamp_ns, 72, 8);
PLACE(ringmsg_metadata, mark, 80, 4);
PLACE(ringmsg_metadata, flow_label, 84, 4);
PLACE(ringmsg_metadata, local_v4, 88, 4);
PLACE(ringmsg_metadata, priority, 92, 4);
PLACE(ringmsg_metadata, error_info, 96, 4);
PLACE(ringmsg_metadata, error_data, 100, 4);
PLACE(ringmsg_metadata, error_origin, 104, 1);
PLACE(ringmsg_metadata, error_type, 105, 1);
PLACE(ringmsg_metadata, error_code, 106, 1);
PLACE(ringmsg_metadata, reserved8, 107, 1);
PLACE(ringmsg_metadata, offender, 108, 16);
PLACE(ringmsg_metadata, reserved, 124, 4);
WHOLE(ringmsg_metadata, 128);

PLACE(ringmsg_wait, size, 0, 4);
PLACE(ringmsg_wait, linger_us, 4, 4);
PLACE(ringmsg_wait, timeout_ns, 8, 8);
PLACE(ringmsg_wait, spin_us, 16, 4);
PLACE(ringmsg_wait, reserved, 20, 4);
WHOLE(ringmsg_wait, 24);

PLACE(ringmsg_cmsg, level, 0, 4);
PLACE(ringmsg_cmsg, type, 4, 4);
PLACE(ringmsg_cmsg, offset, 8, 4);
PLACE(ringmsg_cmsg, length, 12, 4);
WHOLE(ringmsg_cmsg, 16);

PLACE(ringmsg_path, valid, 0, 4);
PLACE(ringmsg_path, family, 4, 2);
PLACE(ringmsg_path, remote_port, 6, 2);
PLACE(ringmsg_path, remote, 8, 16);
PLACE(ringmsg_path, remote_scope, 24, 4);
PLACE(ringmsg_path, interface_index, 28, 4);
PLACE(ringmsg_path, local, 32, 16);
PLACE(ringmsg_path, traffic_class, 48, 1);
PLACE(ringmsg_path, hop_limit, 49, 1);
PLACE(ringmsg_path, reserved16, 50, 2);
PLACE(ringmsg_path, flow_label, 52, 4);
PLACE(ringmsg_path, reserved, 56, 8);
WHOLE(ringmsg_path, 64);

PLACE(ringmsg_message, payload, 0, 8);
PLACE(ringmsg_message, path, 8, 8);
PLACE(ringmsg_message, payload_length, 16, 4);
PLACE(ringmsg_message, segment_size, 20, 4);
PLACE(ringmsg_message, flags, 24, 4);
PLACE(ringmsg_message, result, 28, 4);
PLACE(ringmsg_message, transmit_time_ns, 32, 8);
PLACE(ringmsg_message, user_data, 40, 8);
PLACE(ringmsg_message, timestamp_id, 48, 4);
PLACE(ringmsg_message, traffic_class, 52, 1);
PLACE(ringmsg_message, reserved8, 53, 3);
PLACE(ringmsg_message, reserved, 56, 8);
WHOLE(ringmsg_message, 64);

PLACE(ringmsg_sender_config, size, 0, 4);
PLACE(ringmsg_sender_config, batch, 4, 4);
PLACE(ringmsg_sender_config, flags, 8, 4);
PLACE(ringmsg_sender_config, transmit_clock, 12, 4);
PLACE(ringmsg_sender_config, reserved, 16, 48);
WHOLE(ringmsg_sender_config, 64);

PLACE(ringmsg_sender_stats, size, 0, 4);
PLACE(ringmsg_sender_stats, last_socket_error, 4, 4);
PLACE(ringmsg_sender_stats, messages, 8, 8);
PLACE(ringmsg_sender_stats, datagrams, 16, 8);
PLACE(ringmsg_sender_stats, payload_bytes, 24, 8);
PLACE(ringmsg_sender_stats, calls, 32, 8);
PLACE(ringmsg_sender_stats, trains, 40, 8);
PLACE(ringmsg_sender_stats, grouped, 48, 8);
PLACE(ringmsg_sender_stats, fallbacks, 56, 8);
PLACE(ringmsg_sender_stats, would_block, 64, 8);
PLACE(ringmsg_sender_stats, errors, 72, 8);
PLACE(ringmsg_sender_stats, socket_errors, 80, 8);
WHOLE(ringmsg_sender_stats, 88);

/* The types of the functions: each is assigned to a pointer of the declared type, or this does not
 * compile. */
#define TYPE(result, name, ...)                     \
    extern result (*const check_##name)(__VA_ARGS__); \
    result (*const check_##name)(__VA_ARGS__) = ringmsg_##name

TYPE(const char *, version, void);
TYPE(uint32_t, abi_version, void);
TYPE(size_t, sizeof_record, void);
TYPE(size_t, sizeof_metadata, void);
TYPE(const char *, strerror, int);
TYPE(size_t, last_error, char *, size_t);
TYPE(int, query_support, struct ringmsg_support *);
TYPE(int, describe_support, char *, size_t);
TYPE(void, ring_config_init, struct ringmsg_ring_config *);
TYPE(int, ring_new, const struct ringmsg_ring_config *, struct ringmsg_ring **);
TYPE(int, ring_enable, struct ringmsg_ring *);
TYPE(int, ring_info, const struct ringmsg_ring *, struct ringmsg_ring_info *);
TYPE(int, ring_fd, struct ringmsg_ring *);
TYPE(int, ring_stats, const struct ringmsg_ring *, struct ringmsg_stats *);
TYPE(int, request_stats, const struct ringmsg_ring *, uint64_t, struct ringmsg_stats *);
TYPE(int, ring_free, struct ringmsg_ring *);
TYPE(int, socket_enable, int, uint32_t);
TYPE(int, socket_steer, const int *, uint32_t, const struct ringmsg_steering *);
TYPE(void, pool_config_init, struct ringmsg_pool_config *);
TYPE(int, pool_config_for_socket, struct ringmsg_pool_config *, int);
TYPE(int, pool_new, struct ringmsg_ring *, const struct ringmsg_pool_config *, struct ringmsg_pool **);
TYPE(int, pool_new_in, struct ringmsg_ring *, const struct ringmsg_pool_config *, void *, size_t, struct ringmsg_pool **);
TYPE(struct ringmsg_pool *, ring_pool, const struct ringmsg_ring *, uint16_t);
TYPE(uint16_t, pool_id, const struct ringmsg_pool *);
TYPE(const uint8_t *, pool_base, const struct ringmsg_pool *);
TYPE(size_t, pool_size, const struct ringmsg_pool *);
TYPE(int, pool_free, struct ringmsg_pool *);
TYPE(int, recvmsg, struct ringmsg_ring *, int, struct msghdr *, int, uint32_t, uint64_t);
TYPE(int, cancel, struct ringmsg_ring *, uint64_t);
TYPE(int, submit, struct ringmsg_ring *);
TYPE(int, wake, const struct ringmsg_ring *);
TYPE(int, reap, struct ringmsg_ring *, struct ringmsg_record *, struct ringmsg_metadata *,
     uint32_t, const struct ringmsg_wait *);
TYPE(int, release, struct ringmsg_ring *, const struct ringmsg_record *, uint32_t);
TYPE(int, next, struct ringmsg_ring *, const struct ringmsg_record *, uint32_t,
     struct ringmsg_record *, struct ringmsg_metadata *, uint32_t, const struct ringmsg_wait *);
TYPE(int, take_fds, struct ringmsg_ring *, const struct ringmsg_record *, int *, uint32_t);
TYPE(int, control_next, const void *, size_t, struct ringmsg_cmsg *);
TYPE(int, control_decode, const void *, size_t, struct ringmsg_metadata *);
TYPE(int, recvmsg_once, struct ringmsg_ring *, const struct ringmsg_pool *, int, int, uint32_t,
     uint64_t);
TYPE(int, recvmsg_multishot, struct ringmsg_ring *, const struct ringmsg_pool *, int, int,
     uint32_t, uint64_t);
TYPE(int, path_reply, struct ringmsg_path *, const struct ringmsg_metadata *);
TYPE(int, path_to, struct ringmsg_path *, const struct sockaddr *, socklen_t);
TYPE(void, sender_config_init, struct ringmsg_sender_config *);
TYPE(int, sender_new, int, const struct ringmsg_sender_config *, struct ringmsg_sender **);
TYPE(int, send, struct ringmsg_sender *, struct ringmsg_message *, uint32_t, uint32_t);
TYPE(int, send_from, struct ringmsg_sender *, const void *, size_t, const struct ringmsg_path *,
     uint32_t, struct ringmsg_message *, uint32_t, uint32_t);
TYPE(int, send_columns, struct ringmsg_sender *, const void *, size_t, const uint64_t *,
     const uint32_t *, const uint32_t *, const struct ringmsg_path *, uint32_t, int32_t *, uint32_t,
     uint32_t);
TYPE(int, sender_stats, const struct ringmsg_sender *, struct ringmsg_sender_stats *);
TYPE(int, sender_free, struct ringmsg_sender *);
