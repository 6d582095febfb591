struct ringmsg_wait wait = {
    .size = sizeof wait,
    .linger_us = RINGMSG_LINGER_AUTO,
    .timeout_ns = 100000000, /* 100 ms */
};

check(ringmsg_recvmsg_multishot(ring, pool, fd, 0, RINGMSG_RECV_SPLIT, 1));
for (int n = 0; !stopped;) {
    n = ringmsg_next(ring, records, (uint32_t)n, records, metadata, BATCH, &wait);
    if (n < 0 && n != -EINTR) {
        fprintf(stderr, "ringmsg_next: %s\n", ringmsg_strerror(n));
        return 1;
    }
    for (int i = 0; i < n; i++)
        if (records[i].result >= 0)
            printf("%d bytes from port %d\n", records[i].result, metadata[i].source_port);
}
