/* Descriptors that arrive in control messages: taken, or closed; never leaked, never confused. */
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

/* Sends `count` descriptors: those of `files`, again and again. */
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

/* Sockets to pass descriptors over, files to pass, a ring that receives. */
struct scene {
    struct ringmsg_ring *ring;
    struct ringmsg_pool *pool;
    int pair[2], files[4], descriptors;
};

static void set_up(struct scene *scene, int type, uint32_t cq_entries, uint32_t control)
{
    struct ringmsg_ring_config config;
    struct ringmsg_pool_config pool_config;
    scene->descriptors = open_descriptors();
    SYS(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, scene->pair));
    SYS(pipe2(scene->files, O_CLOEXEC));
    SYS(pipe2(scene->files + 2, O_CLOEXEC));
    ringmsg_ring_config_init(&config);
    config.flags = test_mode;
    config.engine = test_engine;
    config.sq_entries = config.cq_entries = cq_entries;
    OK(ringmsg_ring_new(&config, &scene->ring));
    ringmsg_pool_config_init(&pool_config);
    OK(ringmsg_pool_config_for_socket(&pool_config, scene->pair[0]));
    pool_config.buffers = 16;
    pool_config.payload_capacity = 64;
    if (control != 0)
        pool_config.control_capacity = control;
    OK(ringmsg_pool_new(scene->ring, &pool_config, &scene->pool));
}

static void close_files(struct scene *scene)
{
    for (int i = 0; i < 4; i++)
        SYS(close(scene->files[i]));
    SYS(close(scene->pair[0]));
    SYS(close(scene->pair[1]));
}

/* Nothing is left of a scene. */
static void tear_down(struct scene *scene)
{
    OK(ringmsg_ring_free(scene->ring));
    close_files(scene);
    EQUAL(open_descriptors(), scene->descriptors);
}

static uint8_t *control_of(const struct scene *scene, const struct ringmsg_record *record)
{
    return (uint8_t *)(uintptr_t)ringmsg_pool_base(scene->pool) + record->control_offset;
}

/* Every descriptor in the control slice reads -1. Returns how many there are. */
static int places_in(const struct scene *scene, const struct ringmsg_record *record)
{
    const uint8_t *control = control_of(scene, record);
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

static void check_taken(const struct scene *scene, const int *fds, int count, int first)
{
    for (int i = 0; i < count; i++) {
        CHECK(same_file(fds[i], scene->files[(first + i) % 4]));
        EQUAL(SYS(fcntl(fds[i], F_GETFD)), FD_CLOEXEC);
        SYS(close(fds[i]));
    }
}

static struct ringmsg_record reap_descriptors(struct scene *scene, int count)
{
    struct ringmsg_record record = reap_one(scene->ring);
    EQUAL(record.flags & RINGMSG_RECORD_CONTROL_TRUNCATED, 0);
    EQUAL(places_in(scene, &record), count);
    return record;
}

static void arm(struct scene *scene, int once)
{
    if (once)
        OK(ringmsg_recvmsg_once(scene->ring, scene->pool, scene->pair[0], 0, 0, 1));
    else
        OK(ringmsg_recvmsg_multishot(scene->ring, scene->pool, scene->pair[0], 0, 0, 1));
}

static void they_are_taken_in_order_or_closed(void)
{
    const int counts[] = {1, 2, 100, MOST};
    for (int t = 0; t < TYPES * 2; t++) {
        struct scene scene;
        int fds[MOST + 1], once = t >= TYPES;
        set_up(&scene, types[t % TYPES], 0, 0);
        if (!once)
            arm(&scene, 0);
        for (int c = 0; c < 4; c++) {
            int count = counts[c], before = 0;
            for (int way = 0; way < 3; way++) {
                if (once)
                    arm(&scene, 1);
                send_descriptors(scene.pair[1], scene.files, 4, count, 11);
                struct ringmsg_record record = reap_descriptors(&scene, count);
                EQUAL(record.result, 11);
                if (way == 0) { /* all */
                    EQUAL(ringmsg_take_fds(scene.ring, &record, fds, MOST + 1), count);
                    EQUAL(ringmsg_take_fds(scene.ring, &record, fds, MOST + 1), 0);
                } else if (way == 1) { /* some, and then some */
                    EQUAL(ringmsg_take_fds(scene.ring, &record, NULL, 0), 0);
                    int half = count / 2;
                    EQUAL(ringmsg_take_fds(scene.ring, &record, fds, (uint32_t)half), half);
                    EQUAL(ringmsg_take_fds(scene.ring, &record, fds + half, 1), 1);
                    check_taken(&scene, fds, half + 1, 0);
                }
                OK(ringmsg_release(scene.ring, &record, 1));
                REFUSED(ringmsg_take_fds(scene.ring, &record, fds, MOST), EINVAL);
                if (way == 0)
                    check_taken(&scene, fds, count, 0);
                if (before == 0) /* the first arming made a duplicate of the socket */
                    before = open_descriptors();
                EQUAL(open_descriptors(), before);
            }
        }
        tear_down(&scene);
    }
}

static void a_message_without_any_has_none(void)
{
    struct scene scene;
    int fd;
    set_up(&scene, SOCK_DGRAM, 0, 0);
    arm(&scene, 0);
    for (int i = 0; i < 20; i++) { /* also in buffers that have carried some */
        if (i % 2)
            send_descriptors(scene.pair[1], scene.files, 4, 4, i % 4 == 1 ? 0 : 5);
        else
            SYS(send(scene.pair[1], "plain", 5, 0));
        struct ringmsg_record record = reap_one(scene.ring);
        EQUAL(places_in(&scene, &record), i % 2 ? 4 : 0);
        if (i % 2 == 0)
            EQUAL(ringmsg_take_fds(scene.ring, &record, &fd, 1), 0);
        REFUSED(ringmsg_take_fds(scene.ring, NULL, &fd, 1), EINVAL);
        REFUSED(ringmsg_take_fds(scene.ring, &record, NULL, 1), EINVAL);
        OK(ringmsg_release(scene.ring, &record, 1));
    }
    tear_down(&scene);
}

static void *free_ring(void *ring)
{
    OK(ringmsg_ring_free(ring));
    return NULL;
}

/* What a caller writes over the control slice names nothing that would be closed: not by a
 * release, not when the ring is freed while the record is held, nor after it was released, when
 * another thread frees and looks for what the kernel may have left in the buffers. */
static void overwriting_the_control_slice_closes_nothing(void)
{
    for (int way = 0; way < 6; way++) {
        struct scene scene;
        pthread_t thread;
        const int once = way % 2, releases = way >= 2, from_elsewhere = way >= 4;
        set_up(&scene, SOCK_SEQPACKET, 0, 0);
        arm(&scene, once);
        send_descriptors(scene.pair[1], scene.files, 4, 8, 4);
        struct ringmsg_record record = reap_descriptors(&scene, 8);
        uint8_t *data = control_of(&scene, &record) + CMSG_LEN(0);
        for (size_t i = 0; i < 8; i++)
            memcpy(data + i * sizeof(int), &scene.files[i % 4], sizeof(int));
        if (releases)
            OK(ringmsg_release(scene.ring, &record, 1));
        if (from_elsewhere) {
            EQUAL(pthread_create(&thread, NULL, free_ring, scene.ring), 0);
            pthread_join(thread, NULL);
            scene.ring = NULL;
        }
        tear_down(&scene); /* closes each of them once */
    }
}

/* The kernel installs only what fits. */
static void too_little_room_leaks_nothing(void)
{
    for (uint32_t control = 8; control <= 64; control += 8) {
        struct scene scene;
        set_up(&scene, SOCK_DGRAM, 0, control);
        for (int once = 0; once < 2; once++) {
            arm(&scene, once);
            send_descriptors(scene.pair[1], scene.files, 4, 16, 4);
            struct ringmsg_record record = reap_one(scene.ring);
            int fds[16], fit = control > 16 ? (int)(control - 16) / 4 : 0;
            CHECK(record.flags & RINGMSG_RECORD_CONTROL_TRUNCATED);
            EQUAL(places_in(&scene, &record), fit);
            EQUAL(ringmsg_take_fds(scene.ring, &record, fds, 1), fit > 0);
            check_taken(&scene, fds, fit > 0, 0);
            OK(ringmsg_release(scene.ring, &record, 1));
            if (once == 0) {
                OK(ringmsg_cancel(scene.ring, 1));
                EQUAL(reap_one(scene.ring).flags, RINGMSG_RECORD_FINAL);
            }
        }
        tear_down(&scene);
    }
}

static void a_pidfd_comes_beside_them(void)
{
    for (int t = 0; t < TYPES; t++) {
        struct scene scene;
        int fds[8], on = 1;
        scene.descriptors = open_descriptors();
        set_up(&scene, types[t], 0, 0);
        if (setsockopt(scene.pair[0], SOL_SOCKET, SO_PASSPIDFD, &on, sizeof on) != 0) {
            EQUAL(errno, ENOPROTOOPT); /* before Linux 6.5 */
            return;
        }
        set_int(scene.pair[0], SOL_SOCKET, SO_PASSCRED, 1);
        arm(&scene, 0);
        for (int i = 0; i < 3; i++) {
            send_descriptors(scene.pair[1], scene.files, 4, 4, 4);
            struct ringmsg_record record = reap_descriptors(&scene, 5);
            if (i < 2) { /* the third one's are closed */
                EQUAL(ringmsg_take_fds(scene.ring, &record, fds, 8), 5);
                /* The pidfd is the one that is none of ours; and it is close-on-exec too. */
                int at = same_file(fds[0], scene.files[0]) ? 4 : 0;
                EQUAL(SYS(fcntl(fds[at], F_GETFD)), FD_CLOEXEC);
                CHECK(!same_file(fds[at], scene.files[0]));
                SYS(close(fds[at]));
                check_taken(&scene, at == 0 ? fds + 1 : fds, 4, 0);
            }
            OK(ringmsg_release(scene.ring, &record, 1));
        }
        tear_down(&scene);
    }
}

/* As with the system call: they are where the kernel put them, and the caller's. */
static void recvmsg_leaves_them_to_the_caller(void)
{
    struct scene scene;
    set_up(&scene, SOCK_DGRAM, 0, 0);
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
        send_descriptors(scene.pair[1], scene.files, 4, 4, 4);
        OK(ringmsg_recvmsg(scene.ring, scene.pair[0], &message, cloexec ? MSG_CMSG_CLOEXEC : 0, 0, 1));
        struct ringmsg_record record = reap_one(scene.ring);
        EQUAL(record.result, 4);
        REFUSED(ringmsg_take_fds(scene.ring, &record, fds, 4), EINVAL); /* nothing of it is held */
        OK(ringmsg_release(scene.ring, &record, 1));
        struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
        EQUAL(cmsg->cmsg_len, CMSG_LEN(4 * sizeof(int)));
        memcpy(fds, CMSG_DATA(cmsg), sizeof fds);
        for (int i = 0; i < 4; i++) {
            CHECK(same_file(fds[i], scene.files[i]));
            EQUAL(SYS(fcntl(fds[i], F_GETFD)), cloexec ? FD_CLOEXEC : 0);
            SYS(close(fds[i]));
        }
    }
    tear_down(&scene);
}

/* --- ring_free ------------------------------------------------------------------------------- */

enum { MESSAGES = 12, EACH = 5 };

/* Some messages reaped and held, some posted and not reaped, some still in the socket. */
static void leave_a_mess(struct scene *scene, int once)
{
    int fd;
    for (int i = 0; i < (once ? MESSAGES : 1); i++)
        arm(scene, once);
    OK(ringmsg_submit(scene->ring));
    for (int i = 0; i < MESSAGES; i++)
        send_descriptors(scene->pair[1], scene->files, 4, EACH, 4);
    for (int i = 0; i < 3; i++) {
        struct ringmsg_record record = reap_descriptors(scene, EACH);
        if (i == 0) {
            EQUAL(ringmsg_take_fds(scene->ring, &record, &fd, 1), 1);
            check_taken(scene, &fd, 1, 0);
        }
    }
}

struct mess {
    struct scene *scene;
    int once;
    uint32_t cq_entries;
};

static void *make_and_leave_a_mess(void *argument)
{
    struct mess *mess = argument;
    set_up(mess->scene, types[0], mess->cq_entries, 0);
    leave_a_mess(mess->scene, mess->once);
    return NULL;
}

/* By the owner, by another thread while the owner lives, and after it has exited; also with a
 * completion queue that has overflowed. */
static void ring_free_closes_them_wherever_they_are(void)
{
    for (int variant = 0; variant < 12; variant++) {
        struct scene scene;
        struct mess mess = {&scene, variant % 2, variant / 2 % 2 ? 4 : 0};
        pthread_t thread;
        if (variant < 8)
            make_and_leave_a_mess(&mess);
        else {
            EQUAL(pthread_create(&thread, NULL, make_and_leave_a_mess, &mess), 0);
            pthread_join(thread, NULL);
        }
        if (variant < 4 || variant >= 8)
            free_ring(scene.ring);
        else {
            EQUAL(pthread_create(&thread, NULL, free_ring, scene.ring), 0);
            pthread_join(thread, NULL);
        }
        close_files(&scene);
        int left = open_descriptors() - scene.descriptors;
        if (left != 0)
            FAIL("%d descriptors leaked; single-shots %d, %s completion queue, freed by %s", left, mess.once,
                 mess.cq_entries ? "small" : "large",
                 variant < 4 ? "its owner" : variant < 8 ? "another thread" : "another thread after its owner's exit");
    }
}

TESTS(TEST(they_are_taken_in_order_or_closed), TEST(a_message_without_any_has_none),
      TEST(overwriting_the_control_slice_closes_nothing), TEST(too_little_room_leaks_nothing),
      TEST(a_pidfd_comes_beside_them), TEST(recvmsg_leaves_them_to_the_caller),
      TEST(ring_free_closes_them_wherever_they_are))
