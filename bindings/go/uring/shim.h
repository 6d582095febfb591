// What the Go files call instead of the library itself: each function returns the library's
// sentence about a failure together with the value, since a goroutine may be on another thread
// by the time it could ask.
#ifndef RINGMSG_GO_SHIM_H
#define RINGMSG_GO_SHIM_H

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <ringmsg.h>

#pragma GCC diagnostic ignored "-Wunused-function"

// What a call returned, and the library's sentence about a failure, fetched before the goroutine
// can change threads. The sentence is the caller's to free.
struct rm_result { int value; char *why; };

static struct rm_result rm_explain(int value)
{
	struct rm_result result = {value, NULL};
	if (value < 0) {
		size_t length = ringmsg_last_error(NULL, 0) + 1;
		result.why = malloc(length);
		if (result.why != NULL)
			ringmsg_last_error(result.why, length);
	}
	return result;
}

static struct rm_result rm_new(const struct ringmsg_ring_config *given, struct ringmsg_ring **ring)
{
	struct ringmsg_ring_config config;
	ringmsg_ring_config_init(&config);
	if (given != NULL) {
		config.flags = given->flags;
		config.engine = given->engine;
		config.sq_entries = given->sq_entries;
		config.cq_entries = given->cq_entries;
		config.sq_thread_idle_ms = given->sq_thread_idle_ms;
		config.sq_thread_cpu = given->sq_thread_cpu;
	}
	return rm_explain(ringmsg_ring_new(&config, ring));
}

static struct rm_result rm_enable(struct ringmsg_ring *ring) { return rm_explain(ringmsg_ring_enable(ring)); }
static struct rm_result rm_free(struct ringmsg_ring *ring) { return rm_explain(ringmsg_ring_free(ring)); }
static struct rm_result rm_fd(struct ringmsg_ring *ring) { return rm_explain(ringmsg_ring_fd(ring)); }
static struct rm_result rm_cancel(struct ringmsg_ring *ring, uint64_t user_data) { return rm_explain(ringmsg_cancel(ring, user_data)); }
static struct rm_result rm_submit(struct ringmsg_ring *ring) { return rm_explain(ringmsg_submit(ring)); }
static struct rm_result rm_wake(struct ringmsg_ring *ring) { struct rm_result r = {ringmsg_wake(ring), NULL}; return r; }

static struct rm_result rm_info(struct ringmsg_ring *ring, struct ringmsg_ring_info *info)
{
	info->size = sizeof *info;
	return rm_explain(ringmsg_ring_info(ring, info));
}

// user_data NULL: the whole ring's.
static struct rm_result rm_stats(struct ringmsg_ring *ring, const uint64_t *user_data, struct ringmsg_stats *stats)
{
	stats->size = sizeof *stats;
	return rm_explain(user_data ? ringmsg_request_stats(ring, *user_data, stats) : ringmsg_ring_stats(ring, stats));
}

static struct rm_result rm_recv(struct ringmsg_ring *ring, struct ringmsg_pool *pool, int fd, int msg_flags,
	uint32_t flags, uint64_t user_data, int once)
{
	return rm_explain(once ? ringmsg_recvmsg_once(ring, pool, fd, msg_flags, flags, user_data)
	                       : ringmsg_recvmsg_multishot(ring, pool, fd, msg_flags, flags, user_data));
}

static struct rm_result rm_next(struct ringmsg_ring *ring, uint32_t done, void *records, void *metadata,
	uint32_t capacity, int64_t timeout_ns, uint32_t linger_us, uint32_t spin_us)
{
	struct ringmsg_wait wait = {sizeof wait, linger_us, timeout_ns, spin_us, 0};
	return rm_explain(ringmsg_next(ring, records, done, records, metadata, capacity, &wait));
}

static struct rm_result rm_release(struct ringmsg_ring *ring, const void *records, uint32_t count)
{
	return rm_explain(ringmsg_release(ring, records, count));
}

static struct rm_result rm_take_fds(struct ringmsg_ring *ring, const void *record, int *fds, uint32_t capacity)
{
	return rm_explain(ringmsg_take_fds(ring, record, fds, capacity));
}

static struct rm_result rm_socket_enable(int fd, uint32_t metadata) { return rm_explain(ringmsg_socket_enable(fd, metadata)); }
static struct rm_result rm_pool_free(struct ringmsg_pool *pool) { return rm_explain(ringmsg_pool_free(pool)); }

static struct ringmsg_pool_config rm_pool_config(const struct ringmsg_pool_config *given)
{
	struct ringmsg_pool_config config;
	ringmsg_pool_config_init(&config);
	if (given->buffers != 0)
		config.buffers = given->buffers;
	if (given->payload_capacity != 0)
		config.payload_capacity = given->payload_capacity;
	if (given->control_capacity != 0)
		config.control_capacity = given->control_capacity;
	if (given->name_capacity != 0)
		config.name_capacity = given->name_capacity;
	return config;
}

static uint64_t rm_round_up(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

// How much memory a pool takes.
static uint64_t rm_pool_size(const struct ringmsg_pool_config *given)
{
	struct ringmsg_pool_config config = rm_pool_config(given);
	uint64_t buffer = 16 + rm_round_up(config.name_capacity, 8) + rm_round_up(config.control_capacity, 8)
		+ rm_round_up(config.payload_capacity, 8);
	return rm_round_up(buffer, 64) * config.buffers;
}

static struct rm_result rm_pool_new(struct ringmsg_ring *ring, const struct ringmsg_pool_config *given, void *memory,
	size_t length, struct ringmsg_pool **pool)
{
	struct ringmsg_pool_config config = rm_pool_config(given);
	return rm_explain(ringmsg_pool_new_in(ring, &config, memory, length, pool));
}

static struct rm_result rm_pool_config_for_socket(struct ringmsg_pool_config *config, int fd)
{
	ringmsg_pool_config_init(config);
	return rm_explain(ringmsg_pool_config_for_socket(config, fd));
}

static struct rm_result rm_recvmsg(struct ringmsg_ring *ring, int fd, struct msghdr *msg, int msg_flags,
	uint32_t flags, uint64_t user_data)
{
	return rm_explain(ringmsg_recvmsg(ring, fd, msg, msg_flags, flags, user_data));
}

static struct rm_result rm_sender_new(int fd, uint32_t batch, uint32_t flags, int transmit_clock,
	struct ringmsg_sender **sender)
{
	struct ringmsg_sender_config config;
	ringmsg_sender_config_init(&config);
	config.flags = flags;
	config.transmit_clock = transmit_clock;
	if (batch != 0)
		config.batch = batch;
	return rm_explain(ringmsg_sender_new(fd, &config, sender));
}

static struct rm_result rm_sender_free(struct ringmsg_sender *sender) { return rm_explain(ringmsg_sender_free(sender)); }

static struct rm_result rm_sender_stats(struct ringmsg_sender *sender, struct ringmsg_sender_stats *stats)
{
	stats->size = sizeof *stats;
	return rm_explain(ringmsg_sender_stats(sender, stats));
}

static int rm_path_reply(void *path, const void *metadata) { return ringmsg_path_reply(path, metadata); }

// What sending returned. socket_errors counts the pending errors that the sender took off the
// socket so far, and socket_error is the latest.
struct rm_sent { struct rm_result result; int socket_error; uint64_t socket_errors; };

static struct rm_sent rm_sent(struct ringmsg_sender *sender, int value)
{
	struct rm_sent sent = {{value, NULL}, 0, 0};
	struct ringmsg_sender_stats stats = {.size = sizeof stats};
	if (value != -EAGAIN && value != -EINTR)
		sent.result = rm_explain(value);
	ringmsg_sender_stats(sender, &stats);
	sent.socket_errors = stats.socket_errors;
	sent.socket_error = stats.last_socket_error;
	return sent;
}

static struct rm_sent rm_send_from(struct ringmsg_sender *sender, const void *base, size_t base_length,
	const void *paths, uint32_t path_count, void *messages, uint32_t count, uint32_t flags)
{
	return rm_sent(sender, ringmsg_send_from(sender, base, base_length, paths, path_count, messages, count, flags));
}

static struct rm_sent rm_send(struct ringmsg_sender *sender, struct ringmsg_message *messages, uint32_t count, uint32_t flags)
{
	return rm_sent(sender, ringmsg_send(sender, messages, count, flags));
}

static struct rm_result rm_control_next(const void *control, size_t length, struct ringmsg_cmsg *cursor)
{
	return rm_explain(ringmsg_control_next(control, length, cursor));
}

static struct rm_result rm_control_decode(const void *control, size_t length, void *out)
{
	return rm_explain(ringmsg_control_decode(control, length, out));
}

#endif
