struct ringmsg_cmsg cmsg = {0};
int segment_size;

check(ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, 1));
int n = check(ringmsg_reap(ring, records, NULL, BATCH, NULL));
const unsigned char *control = ringmsg_pool_base(pool) + records[0].control_offset;
while (ringmsg_control_next(control, records[0].control_length, &cmsg) == 1)
    if (cmsg.level == IPPROTO_UDP && cmsg.type == 104) { /* UDP_GRO */
        memcpy(&segment_size, control + cmsg.offset, sizeof segment_size);
        printf("a train of datagrams of %d bytes\n", segment_size);
    }
check(ringmsg_release(ring, records, (uint32_t)n));
