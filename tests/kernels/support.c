/* Prints what the library finds on this kernel, for the first rows of the table. init runs it. */
#include <stdio.h>

#include <ringmsg.h>

static const char *mode_of(uint32_t flags)
{
    return flags & RINGMSG_SETUP_DEFER_TASKRUN  ? "DEFER"
           : flags & RINGMSG_SETUP_COOP_TASKRUN ? "COOP"
                                                : "plain";
}

int main(void)
{
    char text[2048];
    struct ringmsg_ring *ring;
    struct ringmsg_ring_info info = {.size = sizeof info};
    struct ringmsg_support support = {.size = sizeof support};
    ringmsg_query_support(&support);
    ringmsg_describe_support(text, sizeof text);
    printf("%s\n", text);
    int error = ringmsg_ring_new(NULL, &ring);
    if (error < 0) {
        ringmsg_last_error(text, sizeof text);
        printf("ring_new: %s\n", text);
        printf("@ found engine none\n");
    } else {
        ringmsg_ring_info(ring, &info);
        printf("@ found engine %s\n", info.engine == RINGMSG_ENGINE_IO_URING ? "io_uring" : "recvmmsg");
        printf("@ found mode %s\n", info.engine == RINGMSG_ENGINE_IO_URING ? mode_of(info.flags) : "-");
        ringmsg_ring_free(ring);
    }
    printf("@ found io_uring_setup %s\n",
           support.create_error == 0 ? "ok" : ringmsg_strerror(support.create_error));
    printf("@ found multishot %s\n", support.features & RINGMSG_FEATURE_MULTISHOT ? "yes" : "no");
    printf("@ found min_wait %s\n", support.features & RINGMSG_FEATURE_MIN_WAIT ? "yes" : "no");
    return 0;
}
