/* Shows what valgrind gets wrong without a ring of the library, for the reasons in
 * tests/valgrind/skip.
 *
 *   cc itself.c -o itself
 *   ./itself fork; valgrind ./itself fork
 *   ./itself descriptors; valgrind ./itself descriptors
 *
 * Without valgrind each run prints "right". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096 };

static void *map_a_ring(void)
{
    struct io_uring_params params;
    memset(&params, 0, sizeof params);
    int fd = (int)syscall(SYS_io_uring_setup, 8, &params);
    return mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING);
}

/* A child maps memory at an address that it did not inherit, and then a ring of its own. */
static int after_fork(void)
{
    int status, right = 1;
    void *ring = map_a_ring();
    void *memory = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(ring, PAGE, MADV_DONTFORK);
    madvise(memory, PAGE, MADV_DONTFORK);
    if (fork() == 0) {
        void *mine = mmap(memory, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        _exit(mine != memory);
    }
    wait(&status);
    right &= status == 0;
    if (fork() == 0)
        _exit(map_a_ring() == MAP_FAILED);
    wait(&status);
    return right & (status == 0);
}

/* With no descriptor left, socketpair must fail or return two open descriptors. */
static int no_descriptors_left(void)
{
    int pair[2] = {-1, -1};
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 4;
    setrlimit(RLIMIT_NOFILE, &limit);
    return socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0 || fcntl(pair[0], F_GETFD) != -1;
}

int main(int argc, char **argv)
{
    int fork_it = argc > 1 && strcmp(argv[1], "fork") == 0;
    int right = fork_it ? after_fork() : no_descriptors_left();
    puts(right ? "right" : "wrong");
    return !right;
}
