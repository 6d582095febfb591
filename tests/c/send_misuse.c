/* Senders in the wrong hands: two threads in one, forked children, freed ones, NULL, counts that
 * were errors, arrays that are not there. Each is answered with an error and a sentence, nothing
 * is sent and no result is written; and what is allowed with threads and forks works. */
#include "network.h"
#include <stdatomic.h>
#include <sys/time.h>

static void arguments_that_are_none(void)
{
    int receiver = bound_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(sender_to(receiver));
    struct ringmsg_message messages[2] = {message_on(NULL, 10, 1), message_on(NULL, 10, 2)};
    struct ringmsg_path path = path_to(receiver);
    uint64_t offsets[3] = {0};
    uint32_t lengths[3] = {1, 1, 1}, index[3] = {0};
    int32_t results[3] = {NO_RESULT, NO_RESULT, NO_RESULT};
    uint32_t huge = 1u << 31, eintr = (uint32_t)-EINTR;
    uint8_t *base = make_payload(10, 1);

    REFUSED(ringmsg_send(NULL, messages, 2, 0), EINVAL);
    REFUSED(ringmsg_send(sender, NULL, 2, 0), EINVAL);
    REFUSED(ringmsg_send(sender, messages, huge, 0), EINVAL);
    REFUSED(ringmsg_send(sender, messages, eintr, 0), EINVAL);
    REFUSED(ringmsg_send(sender, messages, 2, 1u << 2), EINVAL);
    REFUSED(ringmsg_send(sender, (void *)((char *)messages + 4), 1, 0), EINVAL);
    REFUSED(ringmsg_send_from(NULL, base, 10, NULL, 0, messages, 2, 0), EINVAL);
    REFUSED(ringmsg_send_from(sender, NULL, 10, NULL, 0, messages, 2, 0), EINVAL);
    REFUSED(ringmsg_send_from(sender, base, SIZE_MAX, NULL, 0, messages, 2, 0), EINVAL);
    REFUSED(ringmsg_send_from(sender, base, 10, NULL, 1, messages, 2, 0), EINVAL);
    REFUSED(ringmsg_send_from(sender, base, 10, &path, huge, messages, 2, 0), EINVAL);
    REFUSED(ringmsg_send_from(sender, base, 10, NULL, 0, NULL, 2, 0), EINVAL);
    REFUSED(ringmsg_send_from(sender, base, 10, NULL, 0, messages, huge, 0), EINVAL);
    REFUSED(ringmsg_send_from(sender, base, 10, NULL, 0, messages, 2, 1u << 31), EINVAL);
    REFUSED(ringmsg_send_columns(NULL, base, 10, offsets, lengths, index, &path, 1, results, 3, 0), EINVAL);
    REFUSED(ringmsg_send_columns(sender, NULL, 10, offsets, lengths, index, &path, 1, results, 3, 0), EINVAL);
    REFUSED(ringmsg_send_columns(sender, base, 10, offsets, NULL, index, &path, 1, results, 3, 0), EINVAL);
    REFUSED(ringmsg_send_columns(sender, base, 10, offsets, lengths, index, &path, 1, NULL, 3, 0), EINVAL);
    REFUSED(ringmsg_send_columns(sender, base, 10, offsets, lengths, index, &path, huge, results, 3, 0), EINVAL);
    REFUSED(ringmsg_send_columns(sender, base, 10, offsets, lengths, NULL, NULL, eintr, results, 3, 0), EINVAL);
    REFUSED(ringmsg_send_columns(sender, base, 10, offsets, lengths, index, &path, 1, results, huge, 0), EINVAL);
    REFUSED(ringmsg_send_columns(sender, base, 10, offsets, lengths, index, &path, 1, results, 3, 4), EINVAL);
    REFUSED(ringmsg_send_columns(sender, base, 10, (void *)((char *)offsets + 2), lengths, index, &path, 1, results, 2, 0), EINVAL);
    EQUAL(messages[0].result, NO_RESULT);
    EQUAL(results[0], NO_RESULT);
    expect_nothing(receiver);
    EQUAL(sent_by(sender).calls, 0);
    EQUAL(sent_by(sender).errors, 0);
    OK(ringmsg_sender_free(NULL));
}

static void configs_that_are_none(void)
{
    int fd = unbound_udp(AF_INET);
    struct ringmsg_sender_config good, bad;
    struct ringmsg_sender *sender = NULL;
    ringmsg_sender_config_init(NULL);
    ringmsg_sender_config_init(&good);
    EQUAL(good.size, sizeof good);
    REFUSED(ringmsg_sender_new(fd, &good, NULL), EINVAL);
    bad = good, bad.size = 0;
    REFUSED(ringmsg_sender_new(fd, &bad, &sender), EINVAL);
    bad = good, bad.flags = 1u << 2;
    REFUSED(ringmsg_sender_new(fd, &bad, &sender), EINVAL);
    bad = good, bad.batch = 32769;
    REFUSED(ringmsg_sender_new(fd, &bad, &sender), EINVAL);
    bad = good, bad.reserved[11] = 1;
    REFUSED(ringmsg_sender_new(fd, &bad, &sender), EINVAL);
    if (sender != NULL)
        FAIL("a refused call has written its output");

    /* The rule by which structs may grow: shorter ones are extended, longer ones have a zero
     * tail. */
    struct {
        struct ringmsg_sender_config config;
        uint32_t more[4];
    } longer = {good, {0}};
    longer.config.size = sizeof longer;
    OK(ringmsg_sender_new(fd, &longer.config, &sender));
    OK(ringmsg_sender_free(sender));
    longer.more[3] = 1;
    REFUSED(ringmsg_sender_new(fd, &longer.config, &sender), EINVAL);
    uint32_t shorter[4] = {16, 0, 0, (uint32_t)-1};
    sender = make_sender_of(fd, (const struct ringmsg_sender_config *)(void *)shorter);

    struct {
        struct ringmsg_sender_stats stats;
        uint64_t more;
    } grown;
    memset(&grown, 0x55, sizeof grown);
    grown.stats.size = sizeof grown;
    OK(ringmsg_sender_stats(sender, &grown.stats));
    EQUAL(grown.more, 0);
    EQUAL(grown.stats.size, sizeof grown);
    grown.more = 7;
    grown.stats.size = 16; /* as many bytes are written */
    grown.stats.datagrams = 7;
    OK(ringmsg_sender_stats(sender, &grown.stats));
    EQUAL(grown.stats.messages, 0);
    EQUAL(grown.stats.datagrams, 7);
    grown.stats.size = 3;
    REFUSED(ringmsg_sender_stats(sender, &grown.stats), EINVAL);
    REFUSED(ringmsg_sender_stats(sender, NULL), EINVAL);
    REFUSED(ringmsg_sender_stats(NULL, &grown.stats), EINVAL);
}

static void freed_senders_answer(void)
{
    int receiver = bound_udp(AF_INET), fd = sender_to(receiver), before = open_descriptors();
    struct ringmsg_sender *sender = make_sender(fd);
    struct ringmsg_message message = message_on(NULL, 10, 1);
    struct ringmsg_sender_stats stats = {.size = sizeof stats};
    send_whole(sender, &message, 1);
    drain(receiver);
    message.result = NO_RESULT;
    OK(ringmsg_sender_free(sender));
    EQUAL(open_descriptors(), before);
    REFUSED(ringmsg_send(sender, &message, 1, 0), EINVAL);
    REFUSED(ringmsg_sender_stats(sender, &stats), EINVAL);
    REFUSED(ringmsg_sender_free(sender), EINVAL);
    EQUAL(message.result, NO_RESULT);
    expect_nothing(receiver);
    /* Places are used again, the oldest first, with fresh counters. */
    struct ringmsg_sender *senders[100];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++) {
            senders[i] = make_sender(fd);
            EQUAL(sent_by(senders[i]).messages, 0);
            send_whole(senders[i], &message, 1);
        }
        for (int i = 0; i < 100; i++)
            OK(ringmsg_sender_free(senders[i]));
        for (int i = 0; i < 100; i++)
            REFUSED(ringmsg_sender_free(senders[i]), EINVAL);
    }
    EQUAL(open_descriptors(), before);
}

/* --- threads ------------------------------------------------------------------------------ */

static struct ringmsg_sender *shared;
static atomic_int inside;

static void *send_waiting(void *socket)
{
    struct ringmsg_message *messages = socket;
    atomic_store(&inside, 1);
    int n;
    do { /* the other thread asks whether this one is inside, and may be inside itself */
        n = ringmsg_send(shared, messages, 200, RINGMSG_SEND_WAIT);
    } while (n == -EBUSY);
    return (void *)(intptr_t)n;
}

static void a_second_thread_is_refused_while_one_is_inside(void)
{
    enter_own_network();
    slow_loopback(500, 64 << 20);
    int receiver = roomy_udp(AF_INET), fd = sender_to(receiver);
    set_int(fd, SOL_SOCKET, SO_SNDBUF, 8192);
    static struct ringmsg_message messages[200];
    struct ringmsg_message mine = message_on(NULL, 10, 1);
    pthread_t thread;
    void *result;
    messages_on(messages, 200, NULL, 400, 0);
    shared = make_sender(fd);
    pthread_create(&thread, NULL, send_waiting, messages);
    WAIT_UNTIL(atomic_load(&inside));
    WAIT_UNTIL(sent_by(shared).size != 0 && ringmsg_send(shared, &mine, 0, 0) == -EBUSY);
    REFUSED(ringmsg_send(shared, &mine, 1, 0), EBUSY);
    REFUSED(ringmsg_sender_free(shared), EBUSY);
    EQUAL(mine.result, NO_RESULT);
    sent_by(shared); /* may be asked meanwhile */
    /* A sender of one's own, on the same socket. */
    struct ringmsg_sender *own = make_sender(fd);
    EQUAL(ringmsg_send(own, &mine, 1, RINGMSG_SEND_WAIT), 1);
    EQUAL(mine.result, 10);
    pthread_join(thread, &result);
    EQUAL((intptr_t)result, 200);
    expect_taken(messages, 200);
    /* Then it is anybody's again. */
    EQUAL(ringmsg_send(shared, &mine, 1, RINGMSG_SEND_WAIT), 1);
    OK(ringmsg_sender_free(shared));
}

enum { THREADS = 4, ROUNDS = 200, BATCH = 50 };
static int thread_receivers[THREADS], thread_socket;

static void *send_rounds(void *number)
{
    int n = (int)(intptr_t)number;
    struct ringmsg_sender *sender = make_sender(thread_socket);
    struct ringmsg_path path = path_to(thread_receivers[n]);
    struct ringmsg_message messages[BATCH];
    uint8_t payload[BATCH][64];
    for (int i = 0; i < BATCH; i++) {
        messages[i] = (struct ringmsg_message){.payload = payload[i], .payload_length = 64, .path = &path};
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < BATCH; i++)
            fill(payload[i], 64, (uint32_t)(n * 1000000 + round * BATCH + i));
        EQUAL(ringmsg_send(sender, messages, BATCH, RINGMSG_SEND_WAIT), BATCH);
        expect_taken(messages, BATCH);
    }
    OK(ringmsg_sender_free(sender));
    return NULL;
}

/* Any number of senders on one socket: each thread's messages arrive, in order. */
static void every_thread_has_a_sender_of_its_own(void)
{
    pthread_t threads[THREADS];
    uint8_t wanted[64];
    thread_socket = unbound_udp(AF_INET);
    for (int n = 0; n < THREADS; n++)
        thread_receivers[n] = very_roomy_udp(AF_INET);
    for (int n = 0; n < THREADS; n++)
        pthread_create(&threads[n], NULL, send_rounds, (void *)(intptr_t)n);
    for (int n = 0; n < THREADS; n++)
        pthread_join(threads[n], NULL);
    for (int n = 0; n < THREADS; n++) {
        for (int i = 0; i < ROUNDS * BATCH; i++) {
            fill(wanted, 64, (uint32_t)(n * 1000000 + i));
            expect_bytes(thread_receivers[n], wanted, 64);
        }
        expect_nothing(thread_receivers[n]);
    }
}

static void *send_again(void *sender)
{
    struct ringmsg_message message = {.payload = "x", .payload_length = 1};
    for (int i = 0; i < 20000; i++) {
        int n = ringmsg_send(sender, &message, 1, 0);
        if (n != 1 && n != -EBUSY && n != -EAGAIN)
            FAIL("%d", n);
    }
    return NULL;
}

/* Threads that do not keep the rule: each call is done, or refused as a whole. */
static void threads_that_race_do_no_harm(void)
{
    int pair[2];
    SYS(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
    struct ringmsg_sender *sender = make_sender(pair[0]);
    pthread_t threads[THREADS];
    for (int n = 0; n < THREADS; n++)
        pthread_create(&threads[n], NULL, send_again, sender);
    int received = 0;
    for (int n = 0; n < THREADS; n++)
        while (pthread_tryjoin_np(threads[n], NULL) != 0)
            received += drain(pair[1]);
    received += drain(pair[1]);
    EQUAL(sent_by(sender).messages, received);
}

/* --- forks -------------------------------------------------------------------------------- */

static int status_of(pid_t child)
{
    int status;
    EQUAL(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void a_child_may_send(void)
{
    int receiver = bound_udp(AF_INET);
    struct ringmsg_sender *sender = make_sender(sender_to(receiver));
    struct ringmsg_message messages[4];
    messages_on(messages, 4, NULL, 100, 0);
    send_whole(sender, messages, 1);
    pid_t child = fork();
    if (child == 0) {
        send_whole(sender, messages + 1, 2);
        OK(ringmsg_sender_free(sender)); /* its own reference: the parent's stays */
        _exit(0);
    }
    EQUAL(status_of(child), 0);
    send_whole(sender, messages + 3, 1);
    expect_datagrams(receiver, messages, 4);
    EQUAL(sent_by(sender).messages, 2);
}

/* A thread was inside when its process was forked: in the child no thread is. */
static void a_child_of_a_process_with_a_thread_inside(void)
{
    enter_own_network();
    slow_loopback(100, 64 << 20);
    int receiver = roomy_udp(AF_INET), fd = sender_to(receiver);
    set_int(fd, SOL_SOCKET, SO_SNDBUF, 8192);
    static struct ringmsg_message messages[200];
    struct ringmsg_message mine = message_on(NULL, 10, 1);
    pthread_t thread;
    messages_on(messages, 200, NULL, 400, 0);
    shared = make_sender(fd);
    /* fork(3) blocks signals in its thread. If the child ends before it returns, SIGCHLD is not
     * ignored but interrupts the other thread. */
    sigset_t child_signal;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    EQUAL(pthread_sigmask(SIG_BLOCK, &child_signal, NULL), 0);
    pthread_create(&thread, NULL, send_waiting, messages);
    WAIT_UNTIL(atomic_load(&inside) && ringmsg_send(shared, &mine, 0, 0) == -EBUSY);
    pid_t child = fork();
    if (child == 0) {
        int n = ringmsg_send(shared, &mine, 1, 0);
        _exit(n == 1 || n == -EAGAIN ? 0 : 1);
    }
    EQUAL(status_of(child), 0);
    REFUSED(ringmsg_send(shared, &mine, 1, 0), EBUSY);
}

/* Both wait at once, each on its own epoll instance: neither takes the other's edge. */
static void parent_and_child_wait_each_for_themselves(void)
{
    enter_own_network();
    slow_loopback(2000, 64 << 20);
    int receiver = very_roomy_udp(AF_INET), fd = sender_to(receiver);
    set_int(fd, SOL_SOCKET, SO_SNDBUF, 8192);
    static struct ringmsg_message messages[200];
    messages_on(messages, 200, NULL, 400, 0);
    struct ringmsg_sender *sender = make_sender(fd);
    int before = open_descriptors();
    EQUAL(ringmsg_send(sender, messages, 200, RINGMSG_SEND_WAIT), 200);
    EQUAL(open_descriptors(), before + 1); /* made when it first waited */
    pid_t child = fork();
    EQUAL(ringmsg_send(sender, messages, 200, RINGMSG_SEND_WAIT), 200);
    expect_taken(messages, 200);
    EQUAL(open_descriptors(), before + 1);
    if (child == 0)
        _exit(0);
    EQUAL(status_of(child), 0);
    for (int count = 0; count < 600; count++)
        if (receive_within(receiver, 2000) != 400)
            FAIL("datagram %d of 600 is missing", count);
    expect_nothing(receiver);
}

static volatile int interrupted_result;
static struct ringmsg_sender *of_handler;
static struct ringmsg_message in_handler;

static void send_in_handler(int signal)
{
    (void)signal;
    interrupted_result = ringmsg_send(of_handler, &in_handler, 1, 0);
}

/* A signal handler that interrupts a call, on the same thread, has scratch space of its own. */
static void a_handler_that_interrupts_a_call_may_send(void)
{
    enter_own_network();
    slow_loopback(300, 64 << 20);
    int receiver = roomy_udp(AF_INET), other = bound_udp(AF_INET), fd = sender_to(receiver);
    set_int(fd, SOL_SOCKET, SO_SNDBUF, 8192);
    static struct ringmsg_message messages[200];
    struct sigaction action = {.sa_handler = send_in_handler};
    messages_on(messages, 200, NULL, 400, 0);
    in_handler = message_on(NULL, 77, 1);
    of_handler = make_sender(sender_to(other));
    shared = make_sender(fd);
    SYS(sigaction(SIGALRM, &action, NULL));
    SYS(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 200000}}, NULL));
    EQUAL(ringmsg_send(shared, messages, 200, RINGMSG_SEND_WAIT), -EINTR);
    EQUAL(interrupted_result, 1);
    signal(SIGALRM, SIG_DFL);
    int n = ringmsg_send(shared, messages, 200, RINGMSG_SEND_WAIT | RINGMSG_SEND_RESUME);
    OK(n);
    expect_taken(messages, 200);
    expect_datagrams(receiver, messages, 200);
    expect_datagrams(other, &in_handler, 1);
}

SEND_TESTS(TEST(arguments_that_are_none), TEST(configs_that_are_none), TEST(freed_senders_answer),
           TEST(a_second_thread_is_refused_while_one_is_inside), TEST(every_thread_has_a_sender_of_its_own),
           TEST(threads_that_race_do_no_harm), TEST(a_child_may_send),
           TEST(a_child_of_a_process_with_a_thread_inside), TEST(parent_and_child_wait_each_for_themselves),
           TEST(a_handler_that_interrupts_a_call_may_send))
