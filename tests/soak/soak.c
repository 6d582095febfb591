/* The soak receives on several sockets with one ring after another, and injects faults at random.
 *
 *   soak SECONDS [SEED [MODE]]
 *   MODE: plain, coop, coop_flag, defer, sqpoll, recvmmsg; otherwise all of them in turn
 *
 * Every datagram is numbered, and its bytes follow from its number. When a socket is closed, sent =
 * received + dropped by the kernel, no datagram arrived twice, and none was altered. Segments that
 * truncation cut off are counted separately. So are socket buffers lost with a ring that was freed
 * without cancelling; the ring's buffers limit their number. What is received is answered, and
 * accounted for on its way back: see answers.c. Exit status: 0, 1, or 77 without
 * io_uring. */
#include "soak.h"

#include <signal.h>
#include <stdarg.h>

struct tally tally;
atomic_int stopping, sender_paused;
pthread_t receiver_thread;
uint64_t seed = 1;
const char *only_mode;
int uses_link;
_Atomic int64_t no_fault_since_ns;

void soak_fail(const char *file, int line, const char *format, ...)
{
    char why[256];
    va_list arguments;
    fprintf(stderr, "\n%s:%d: ", file, line);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (ringmsg_last_error(why, sizeof why) != 0)
        fprintf(stderr, "\n  (last error in this thread: %s)", why);
    fprintf(stderr, "\n  to repeat: seed %llu\n", (unsigned long long)seed);
    abort();
}

static void on_signal(int number)
{
    (void)number;
}

#define SHOW(counter) (unsigned long long)atomic_load(&tally.counter)

static void show_progress(double seconds, double rate)
{
    printf("%5.0f s %8.0f/s | sent %llu received %llu dropped %llu | "
           "rings %llu flows %llu holds %llu icmp %llu signals %llu\n",
           seconds, rate, SHOW(sent), SHOW(received), SHOW(dropped), SHOW(rings), SHOW(flows),
           SHOW(holds), SHOW(icmp), SHOW(signals));
    fflush(stdout);
}

static void show_end(double seconds)
{
    printf("\n%.0f s, seed %llu, modes %s: no datagram lost, duplicated or altered, no request stalled\n",
           seconds, (unsigned long long)seed, only_mode ? only_mode : "all");
    printf("  datagrams  sent %llu (%llu empty), received %llu (%llu as segments), "
           "cut off by truncation %llu, truncated %llu\n",
           SHOW(sent), SHOW(empty), SHOW(received), SHOW(segments), SHOW(skipped), SHOW(truncated));
    printf("  buffers    dropped by the kernel %llu, lost with a freed ring %llu, "
           "read from the socket after a cancel %llu\n",
           SHOW(dropped), SHOW(lost), SHOW(drained));
    printf("  answers    taken by the socket %llu, in %llu trains, came back %llu, dropped by the kernel %llu, "
           "left as the socket was full %llu, pending errors of others %llu\n",
           SHOW(answered), SHOW(answer_trains), SHOW(came_back), SHOW(answers_dropped), SHOW(unanswered),
           SHOW(pending_errors));
    printf("  faults     rings %llu (freed without cancelling %llu, by another thread %llu), "
           "flows %llu, FINAL records %llu, holds %llu, pauses %llu\n",
           SHOW(rings), SHOW(abrupt), SHOW(other_thread), SHOW(flows), SHOW(finals), SHOW(holds),
           SHOW(pauses));
    printf("             ICMP errors %llu, signals %llu (-EINTR %llu), wakes %llu, "
           "stale releases refused %llu, arming threads that exited %llu\n",
           SHOW(icmp), SHOW(signals), SHOW(interrupted), SHOW(wakes), SHOW(stale), SHOW(exited_armers));
    printf("  recovery   re-armed %llu, starved %llu, window missed %llu, "
           "completion queue overflowed %llu, all sockets ran empty %llu times\n",
           SHOW(rearms), SHOW(starvations), SHOW(misses), SHOW(overflows), SHOW(drain_checks));
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 10;
    seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    only_mode = argc > 3 && strcmp(argv[3], "all") != 0 ? argv[3] : NULL;
    uses_link = getenv("RINGMSG_SOAK_LINK") != NULL;
    struct ringmsg_support support = {.size = sizeof support};
    ringmsg_query_support(&support);
    if (support.create_error != 0) {
        fprintf(stderr, "the soak needs io_uring\n");
        return 77;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    for (int i = 0; i < SOCKETS; i++) {
        pthread_mutex_init(&flows[i].lock, NULL);
        flows[i].receiver = flows[i].sender = -1;
    }
    pthread_t threads[5];
    pthread_create(&receiver_thread, NULL, receive_all, NULL);
    pthread_create(&threads[0], NULL, send_all, NULL);
    pthread_create(&threads[1], NULL, release_all, (void *)1);
    pthread_create(&threads[2], NULL, release_all, (void *)2);
    pthread_create(&threads[3], NULL, interrupt_all, NULL);
    pthread_create(&threads[4], NULL, monitor_all, NULL);

    int64_t start = now_ns(), last = start;
    unsigned long long received = 0;
    while (now_ns() - start < (int64_t)(seconds * 1e9)) {
        sleep_us(1000000);
        unsigned long long now = SHOW(received);
        show_progress((double)(now_ns() - start) / 1e9,
                      (double)(now - received) * 1e9 / (double)(now_ns() - last));
        last = now_ns();
        received = now;
    }
    stopping = 1;
    pthread_join(receiver_thread, NULL);
    stopping = 2;
    for (int i = 0; i < 5; i++)
        pthread_join(threads[i], NULL);
    show_end((double)(now_ns() - start) / 1e9);
    return 0;
}
