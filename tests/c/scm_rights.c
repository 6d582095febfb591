/* Descriptors that arrive in control messages (SCM_RIGHTS, SCM_PIDFD) are handed out once by
 * ringmsg_take_fds or closed with the record. None leaks, and none is closed twice. */
#include "test.h"
#include <sys/stat.h>

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 4
#endif

enum { MOST = 253 }; /* SCM_MAX_FD */

static const int types[] = {SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM};
enum { TYPES = 3 };

/* Sends `count` descriptors, cycling through those of `files`. */
static void send_descriptors(int to, const int *files, int file_count, int count, size_t payload)
{
    union {
        char space[CMSG_SPACE(MOST * sizeof(int))];
        struct cmsghdr align;
    } control;
    char data[64] = "descriptors";
    struct iovec part = {data, payload};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    memset(&control, 0, sizeof control);
    message.msg_control = control.space;
    message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
    for (int i = 0; i < count; i++)
        memcpy(CMSG_DATA(cmsg) + (size_t)i * sizeof(int), &files[i % file_count], sizeof(int));
    EQUAL(SYS(sendmsg(to, &message, MSG_NOSIGNAL)), payload);
}

static int same_file(int a, int b)
{
    struct stat of_a, of_b;
    SYS(fstat(a, &of_a));
    SYS(fstat(b, &of_b));
    return of_a.st_dev == of_b.st_dev && of_a.st_ino == of_b.st_ino;
}

/* A socket pair that passes descriptors, files to pass, and a ring that receives. */
struct fixture {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    int pair[2], files[4], descriptors;
};

static void set_up(struct fixture *fixture, int type, uint32_t cq_entries, uint32_t control)
{
    struct ringmsg_ring_config config;
    struct ringmsg_pool_config pool_config;
    fixture->descriptors = open_descriptors();
    SYS(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fixture->pair));
    SYS(pipe2(fixture->files, O_CLOEXEC));
    SYS(pipe2(fixture->files + 2, O_CLOEXEC));
    ringmsg_ring_config_init(&config);
    config.flags = test_mode;
    config.engine = test_engine;
    config.sq_entries = config.cq_entries = cq_entries;
    OK(ringmsg_ring_new(&config, &fixture->ring));
    ringmsg_pool_config_init(&pool_config);
    OK(ringmsg_pool_config_for_socket(&pool_config, fixture->pair[0]));
    pool_config.buffers = 16;
    pool_config.payload_capacity = 64;
    if (control != 0)
        pool_config.control_capacity = control;
    OK(ringmsg_pool_new(fixture->ring, &pool_config, &fixture->pool));
}

static void close_files(struct fixture *fixture)
{
    for (int i = 0; i < 4; i++)
        SYS(close(fixture->files[i]));
    SYS(close(fixture->pair[0]));
    SYS(close(fixture->pair[1]));
}

/* Frees the ring, closes the files, and checks that no descriptor is left. */
static void tear_down(struct fixture *fixture)
{
    OK(ringmsg_ring_free(fixture->ring));
    close_files(fixture);
    EQUAL(open_descriptors(), fixture->descriptors);
}

static uint8_t *control_of(const struct fixture *fixture, const struct ringmsg_record *record)
{
    return (uint8_t *)(uintptr_t)ringmsg_pool_base(fixture->pool) + record->control_offset;
}

/* Checks that every descriptor in the control slice has been replaced by -1. Returns how many there
 * are. */
static int cleared_descriptors_in(const struct fixture *fixture, const struct ringmsg_record *record)
{
    const uint8_t *control = control_of(fixture, record);
    struct ringmsg_cmsg cursor = {0};
    int places = 0;
    while (OK(ringmsg_control_next(control, record->control_length, &cursor)) == 1) {
        if (cursor.level != SOL_SOCKET || (cursor.type != SCM_RIGHTS && cursor.type != SCM_PIDFD))
            continue;
        for (uint32_t at = 0; at < cursor.length; at += sizeof(int)) {
            int fd;
            memcpy(&fd, control + cursor.offset + at, sizeof fd);
            EQUAL(fd, -1);
            places++;
        }
    }
    return places;
}

static void check_taken(const struct fixture *fixture, const int *fds, int count, int first)
{
    for (int i = 0; i < count; i++) {
        CHECK(same_file(fds[i], fixture->files[(first + i) % 4]));
        EQUAL(SYS(fcntl(fds[i], F_GETFD)), FD_CLOEXEC);
        SYS(close(fds[i]));
    }
}

static struct ringmsg_record reap_descriptors(struct fixture *fixture, int count)
{
    struct ringmsg_record record = reap_one(fixture->ring);
    EQUAL(record.flags & RINGMSG_RECORD_CONTROL_TRUNCATED, 0);
    EQUAL(cleared_descriptors_in(fixture, &record), count);
    return record;
}

static void arm(struct fixture *fixture, int once)
{
    if (once)
        OK(ringmsg_recvmsg_once(fixture->ring, fixture->pool, fixture->pair[0], 0, 0, 1));
    else
        OK(ringmsg_recvmsg_multishot(fixture->ring, fixture->pool, fixture->pair[0], 0, 0, 1));
}

static void descriptors_are_taken_in_order_or_closed(void)
{
    const int counts[] = {1, 2, 100, MOST};
    for (int t = 0; t < TYPES * 2; t++) {
        struct fixture fixture;
        int fds[MOST + 1], once = t >= TYPES;
        set_up(&fixture, types[t % TYPES], 0, 0);
        if (!once)
            arm(&fixture, 0);
        for (int c = 0; c < 4; c++) {
            int count = counts[c], before = 0;
            for (int way = 0; way < 3; way++) {
                if (once)
                    arm(&fixture, 1);
                send_descriptors(fixture.pair[1], fixture.files, 4, count, 11);
                struct ringmsg_record record = reap_descriptors(&fixture, count);
                EQUAL(record.result, 11);
                if (way == 0) { /* take all at once */
                    EQUAL(ringmsg_take_fds(fixture.ring, &record, fds, MOST + 1), count);
                    EQUAL(ringmsg_take_fds(fixture.ring, &record, fds, MOST + 1), 0);
                } else if (way == 1) { /* take half of them, then one more */
                    EQUAL(ringmsg_take_fds(fixture.ring, &record, NULL, 0), 0);
                    int half = count / 2;
                    EQUAL(ringmsg_take_fds(fixture.ring, &record, fds, (uint32_t)half), half);
                    EQUAL(ringmsg_take_fds(fixture.ring, &record, fds + half, 1), 1);
                    check_taken(&fixture, fds, half + 1, 0);
                }
                OK(ringmsg_release(fixture.ring, &record, 1));
                REFUSED(ringmsg_take_fds(fixture.ring, &record, fds, MOST), EINVAL);
                if (way == 0)
                    check_taken(&fixture, fds, count, 0);
                if (before == 0) /* the first arming duplicates the socket */
                    before = open_descriptors();
                EQUAL(open_descriptors(), before);
            }
        }
        tear_down(&fixture);
    }
}

static void a_message_without_descriptors_yields_none(void)
{
    struct fixture fixture;
    int fd;
    set_up(&fixture, SOCK_DGRAM, 0, 0);
    arm(&fixture, 0);
    for (int i = 0; i < 20; i++) { /* also in buffers that have carried descriptors */
        if (i % 2)
            send_descriptors(fixture.pair[1], fixture.files, 4, 4, i % 4 == 1 ? 0 : 5);
        else
            SYS(send(fixture.pair[1], "plain", 5, 0));
        struct ringmsg_record record = reap_one(fixture.ring);
        EQUAL(cleared_descriptors_in(&fixture, &record), i % 2 ? 4 : 0);
        if (i % 2 == 0)
            EQUAL(ringmsg_take_fds(fixture.ring, &record, &fd, 1), 0);
        REFUSED(ringmsg_take_fds(fixture.ring, NULL, &fd, 1), EINVAL);
        REFUSED(ringmsg_take_fds(fixture.ring, &record, NULL, 1), EINVAL);
        OK(ringmsg_release(fixture.ring, &record, 1));
    }
    tear_down(&fixture);
}

static void *free_ring(void *ring)
{
    OK(ringmsg_ring_free(ring));
    return NULL;
}

/* The caller overwrites the control slice with open descriptors. None of them is closed: not by a
 * release, not by ring_free while the record is held, and not by ring_free in another thread after
 * the release, when the library looks for messages that the kernel has left in the buffers. */
static void overwriting_the_control_slice_closes_nothing(void)
{
    for (int way = 0; way < 6; way++) {
        struct fixture fixture;
        pthread_t thread;
        const int once = way % 2, releases = way >= 2, from_elsewhere = way >= 4;
        set_up(&fixture, SOCK_SEQPACKET, 0, 0);
        arm(&fixture, once);
        send_descriptors(fixture.pair[1], fixture.files, 4, 8, 4);
        struct ringmsg_record record = reap_descriptors(&fixture, 8);
        uint8_t *data = control_of(&fixture, &record) + CMSG_LEN(0);
        for (size_t i = 0; i < 8; i++)
            memcpy(data + i * sizeof(int), &fixture.files[i % 4], sizeof(int));
        if (releases)
            OK(ringmsg_release(fixture.ring, &record, 1));
        if (from_elsewhere) {
            EQUAL(pthread_create(&thread, NULL, free_ring, fixture.ring), 0);
            pthread_join(thread, NULL);
            fixture.ring = NULL;
        }
        tear_down(&fixture); /* closes each file once */
    }
}

/* The kernel installs only the descriptors that fit. */
static void truncated_control_space_leaks_no_descriptor(void)
{
    for (uint32_t control = 8; control <= 64; control += 8) {
        struct fixture fixture;
        set_up(&fixture, SOCK_DGRAM, 0, control);
        for (int once = 0; once < 2; once++) {
            arm(&fixture, once);
            send_descriptors(fixture.pair[1], fixture.files, 4, 16, 4);
            struct ringmsg_record record = reap_one(fixture.ring);
            int fds[16], fit = control > 16 ? (int)(control - 16) / 4 : 0;
            HAS_FLAG(record.flags, RINGMSG_RECORD_CONTROL_TRUNCATED);
            EQUAL(cleared_descriptors_in(&fixture, &record), fit);
            EQUAL(ringmsg_take_fds(fixture.ring, &record, fds, 1), fit > 0);
            check_taken(&fixture, fds, fit > 0, 0);
            OK(ringmsg_release(fixture.ring, &record, 1));
            if (once == 0) {
                OK(ringmsg_cancel(fixture.ring, 1));
                EQUAL(reap_one(fixture.ring).flags, RINGMSG_RECORD_FINAL);
            }
        }
        tear_down(&fixture);
    }
}

static void a_pidfd_is_taken_like_a_passed_descriptor(void)
{
    for (int t = 0; t < TYPES; t++) {
        struct fixture fixture;
        int fds[8], on = 1;
        fixture.descriptors = open_descriptors();
        set_up(&fixture, types[t], 0, 0);
        if (setsockopt(fixture.pair[0], SOL_SOCKET, SO_PASSPIDFD, &on, sizeof on) != 0) {
            EQUAL(errno, ENOPROTOOPT); /* Linux 6.5 added it */
            return;
        }
        set_int(fixture.pair[0], SOL_SOCKET, SO_PASSCRED, 1);
        arm(&fixture, 0);
        for (int i = 0; i < 3; i++) {
            send_descriptors(fixture.pair[1], fixture.files, 4, 4, 4);
            struct ringmsg_record record = reap_descriptors(&fixture, 5);
            if (i < 2) { /* those of the third message are closed */
                EQUAL(ringmsg_take_fds(fixture.ring, &record, fds, 8), 5);
                /* The pidfd is the descriptor that names no passed file. It is close-on-exec as
                 * well. */
                int at = same_file(fds[0], fixture.files[0]) ? 4 : 0;
                EQUAL(SYS(fcntl(fds[at], F_GETFD)), FD_CLOEXEC);
                CHECK(!same_file(fds[at], fixture.files[0]));
                SYS(close(fds[at]));
                check_taken(&fixture, at == 0 ? fds + 1 : fds, 4, 0);
            }
            OK(ringmsg_release(fixture.ring, &record, 1));
        }
        tear_down(&fixture);
    }
}

/* As with the system call, the descriptors are in the caller's control buffer, and the caller owns
 * them. */
static void recvmsg_leaves_descriptors_to_the_caller(void)
{
    struct fixture fixture;
    set_up(&fixture, SOCK_DGRAM, 0, 0);
    for (int cloexec = 0; cloexec < 2; cloexec++) {
        union {
            char space[CMSG_SPACE(4 * sizeof(int))];
            struct cmsghdr align;
        } control = {.space = {0}};
        char data[16];
        int fds[4];
        struct iovec part = {data, sizeof data};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        message.msg_control = control.space;
        message.msg_controllen = sizeof control.space;
        send_descriptors(fixture.pair[1], fixture.files, 4, 4, 4);
        OK(ringmsg_recvmsg(fixture.ring, fixture.pair[0], &message, cloexec ? MSG_CMSG_CLOEXEC : 0, 0, 1));
        struct ringmsg_record record = reap_one(fixture.ring);
        EQUAL(record.result, 4);
        REFUSED(ringmsg_take_fds(fixture.ring, &record, fds, 4), EINVAL); /* the record holds no buffer */
        OK(ringmsg_release(fixture.ring, &record, 1));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
        EQUAL(cmsg->cmsg_len, CMSG_LEN(4 * sizeof(int)));
        memcpy(fds, CMSG_DATA(cmsg), sizeof fds);
        for (int i = 0; i < 4; i++) {
            CHECK(same_file(fds[i], fixture.files[i]));
            EQUAL(SYS(fcntl(fds[i], F_GETFD)), cloexec ? FD_CLOEXEC : 0);
            SYS(close(fds[i]));
        }
    }
    tear_down(&fixture);
}

/* --- ring_free ------------------------------------------------------------------------------- */

enum { MESSAGES = 12, EACH = 5 };

/* Some messages are reaped and held, some posted and not reaped, some still in the socket. */
static void leave_descriptors_everywhere(struct fixture *fixture, int once)
{
    int fd;
    for (int i = 0; i < (once ? MESSAGES : 1); i++)
        arm(fixture, once);
    OK(ringmsg_submit(fixture->ring));
    for (int i = 0; i < MESSAGES; i++)
        send_descriptors(fixture->pair[1], fixture->files, 4, EACH, 4);
    for (int i = 0; i < 3; i++) {
        struct ringmsg_record record = reap_descriptors(fixture, EACH);
        if (i == 0) {
            EQUAL(ringmsg_take_fds(fixture->ring, &record, &fd, 1), 1);
            check_taken(fixture, &fd, 1, 0);
        }
    }
}

struct leftovers {
    struct fixture *fixture;
    int once;
    uint32_t cq_entries;
};

static void *set_up_and_leave_descriptors(void *argument)
{
    struct leftovers *leftovers = argument;
    set_up(leftovers->fixture, types[0], leftovers->cq_entries, 0);
    leave_descriptors_everywhere(leftovers->fixture, leftovers->once);
    return NULL;
}

/* The owner frees the ring, or another thread does while the owner lives or after it has exited;
 * also with a completion queue that has overflowed. */
static void ring_free_closes_descriptors_that_nobody_took(void)
{
    for (int variant = 0; variant < 12; variant++) {
        struct fixture fixture;
        struct leftovers leftovers = {&fixture, variant % 2, variant / 2 % 2 ? 4 : 0};
        pthread_t thread;
        if (variant < 8)
            set_up_and_leave_descriptors(&leftovers);
        else {
            EQUAL(pthread_create(&thread, NULL, set_up_and_leave_descriptors, &leftovers), 0);
            pthread_join(thread, NULL);
        }
        if (variant < 4 || variant >= 8)
            free_ring(fixture.ring);
        else {
            EQUAL(pthread_create(&thread, NULL, free_ring, fixture.ring), 0);
            pthread_join(thread, NULL);
        }
        close_files(&fixture);
        int left = open_descriptors() - fixture.descriptors;
        if (left != 0)
            FAIL("%d descriptors leaked; single-shots %d, %s completion queue, freed by %s", left,
                 leftovers.once, leftovers.cq_entries ? "small" : "large",
                 variant < 4   ? "its owner"
                 : variant < 8 ? "another thread"
                               : "another thread after its owner's exit");
    }
}

TESTS(TEST(descriptors_are_taken_in_order_or_closed),
      TEST(a_message_without_descriptors_yields_none),
      TEST(overwriting_the_control_slice_closes_nothing),
      TEST(truncated_control_space_leaks_no_descriptor),
      TEST(a_pidfd_is_taken_like_a_passed_descriptor),
      TEST(recvmsg_leaves_descriptors_to_the_caller),
      TEST(ring_free_closes_descriptors_that_nobody_took))
