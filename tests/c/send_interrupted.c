/* Calls that are interfered with: the thread is cancelled while it waits for room, a signal handler
 * sends on the sender that it interrupted, another thread frees the sender meanwhile. Each call is
 * done or refused as a whole, the sender is nobody's afterwards, and no message goes twice. */
#include "network.h"
#include <signal.h>
#include <sys/time.h>
#include <stdatomic.h>

enum { MANY = 200, LENGTH = 400 };

static struct ringmsg_sender *sender;
static struct ringmsg_message messages[MANY];
static atomic_int inside, rounds;

/* A socket whose buffer holds few of the messages; its network takes some a second. */
static int open_slow(int kbit)
{
    enter_own_network();
    slow_loopback(kbit, 64 << 20);
    int receiver = roomy_udp(AF_INET), fd = sender_to(receiver);
    set_int(fd, SOL_SOCKET, SO_SNDBUF, 8192);
    sender = make_sender(fd);
    messages_on(messages, MANY, NULL, LENGTH, 0);
    return receiver;
}

static void *send_until_cancelled(void *by_columns)
{
    static uint32_t lengths[MANY];
    static int32_t results[MANY];
    for (int i = 0; i < MANY; i++)
        lengths[i] = LENGTH;
    atomic_store(&inside, 1);
    int n;
    do { /* the other thread asks whether this one is inside, and may be inside itself */
        if (by_columns != NULL)
            n = ringmsg_send_columns(sender, messages[0].payload, MANY * LENGTH, NULL, lengths, NULL, NULL, 0, results,
                                     MANY, RINGMSG_SEND_WAIT);
        else
            n = ringmsg_send(sender, messages, MANY, RINGMSG_SEND_WAIT);
    } while (n == -EBUSY);
    EQUAL(n, MANY);
    atomic_store(&inside, 2);
    for (;;)
        pthread_testcancel();
    return NULL;
}

/* The call is whole, then the thread ends; the sender is the next thread's. */
static void a_thread_that_is_cancelled_while_it_waits(void)
{
    int receiver = open_slow(1000);
    for (int by_columns = 0; by_columns < 2; by_columns++) {
        pthread_t thread;
        void *result;
        atomic_store(&inside, 0);
        pthread_create(&thread, NULL, send_until_cancelled, by_columns ? &sender : NULL);
        WAIT_UNTIL(atomic_load(&inside) != 0 && ringmsg_send(sender, messages, 0, 0) == -EBUSY);
        EQUAL(pthread_cancel(thread), 0);
        pthread_join(thread, &result);
        SAME_POINTER(result, PTHREAD_CANCELED);
        EQUAL(atomic_load(&inside), 2);
        EQUAL(sent_by(sender).messages, (by_columns + 1) * MANY);
        expect_datagrams(receiver, messages, MANY);
        expect_nothing(receiver);
    }
    struct ringmsg_message one = message_on(NULL, 10, 1);
    EQUAL(ringmsg_send(sender, &one, 1, RINGMSG_SEND_WAIT), 1);
    OK(ringmsg_sender_free(sender));
}

static volatile sig_atomic_t handled, unexpected;

/* On the thread that may be inside. */
static void send_one(int signal)
{
    struct ringmsg_message message = {.payload = "handler", .payload_length = 7};
    int n = ringmsg_send(sender, &message, 1, 0);
    (void)signal;
    if (n != 1 && n != -EBUSY && n != -EAGAIN && n != -EINVAL)
        unexpected = n;
    handled++;
}

/* The wait ends with -EINTR, as it does for a handler that does nothing. */
static void a_handler_that_sends_on_the_interrupted_sender(void)
{
    int receiver = open_slow(600);
    struct sigaction action = {.sa_handler = send_one};
    SYS(sigaction(SIGALRM, &action, NULL));
    SYS(setitimer(ITIMER_REAL, &(struct itimerval){{0, 20000}, {0, 100000}}, NULL));
    int n = ringmsg_send(sender, messages, MANY, RINGMSG_SEND_WAIT), interruptions = 0;
    for (; n == -EINTR; interruptions++)
        n = ringmsg_send(sender, messages, MANY, RINGMSG_SEND_WAIT | RINGMSG_SEND_RESUME);
    SYS(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL));
    OK(n);
    EQUAL(unexpected, 0);
    if (interruptions == 0 || handled < interruptions)
        FAIL("%d interruptions, %d handled", interruptions, (int)handled);
    expect_taken(messages, MANY);
    /* In order, with none twice; the handler's are in between where it was not refused. */
    for (int i = 0; i < MANY;) {
        if (receive_within(receiver, 20000 * TEST_TIME_FACTOR) < 0)
            FAIL("message %d is missing", i);
        if (memcmp(inbox, "handler", 7) == 0)
            continue;
        if (memcmp(inbox, messages[i].payload, LENGTH) != 0)
            FAIL("message %d: other bytes", i);
        i++;
    }
}

/* Sends until the sender is freed: every call before that is done, or refused as a whole. */
static void *send_until_freed(void *unused)
{
    struct ringmsg_message message = {.payload = "x", .payload_length = 1};
    int n = 0;
    while (n != -EINVAL) {
        message.result = NO_RESULT;
        n = ringmsg_send(sender, &message, 1, 0);
        if (n == 1)
            EQUAL(message.result, 1);
        else if (n == -EINVAL || n == -EBUSY)
            EQUAL(message.result, NO_RESULT);
        else
            EQUAL(n, -EAGAIN);
        atomic_fetch_add(&rounds, 1);
    }
    return unused;
}

static void a_sender_that_another_thread_frees(void)
{
    struct sigaction action = {.sa_handler = send_one, .sa_flags = SA_RESTART};
    SYS(sigaction(SIGUSR1, &action, NULL));
    int pair[2];
    SYS(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair));
    int before = open_descriptors();
    for (int round = 0; round < 50; round++) {
        pthread_t thread;
        int n;
        sender = make_sender(pair[0]);
        atomic_store(&rounds, 0);
        pthread_create(&thread, NULL, send_until_freed, NULL);
        while (atomic_load(&rounds) < round % 10)
            drain(pair[1]);
        for (int i = 0; i < 5; i++)
            pthread_kill(thread, SIGUSR1);
        do {
            n = ringmsg_sender_free(sender);
            if (n == -EBUSY)
                sched_yield();
        } while (n == -EBUSY);
        OK(n);
        pthread_join(thread, NULL);
        REFUSED(ringmsg_sender_free(sender), EINVAL);
        EQUAL(open_descriptors(), before);
    }
    EQUAL(unexpected, 0);
    EQUAL(handled > 0, 1);
}

/* Two threads free one sender: it is freed once. */
static void *free_it(void *unused)
{
    (void)unused;
    atomic_fetch_add(&inside, 1);
    while (atomic_load(&inside) < 2)
        ;
    return (void *)(intptr_t)ringmsg_sender_free(sender);
}

static void two_threads_that_free_one_sender(void)
{
    int fd = unbound_udp(AF_INET);
    for (int round = 0; round < 200; round++) {
        pthread_t threads[2];
        void *results[2];
        sender = make_sender(fd);
        atomic_store(&inside, 0);
        for (int i = 0; i < 2; i++)
            pthread_create(&threads[i], NULL, free_it, NULL);
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], &results[i]);
        int refused = (int)(intptr_t)(results[0] == NULL ? results[1] : results[0]);
        EQUAL(results[0] == NULL || results[1] == NULL, 1);
        if (refused != -EINVAL && refused != -EBUSY)
            FAIL("%d", refused);
    }
}

SEND_TESTS(TEST(a_thread_that_is_cancelled_while_it_waits),
           TEST(a_handler_that_sends_on_the_interrupted_sender), TEST(a_sender_that_another_thread_frees),
           TEST(two_threads_that_free_one_sender))
