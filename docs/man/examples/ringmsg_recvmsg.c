char payload[1500], control[256];
struct iovec part = {.iov_base = payload, .iov_len = sizeof payload};
struct msghdr message = {
    .msg_iov = &part,
    .msg_iovlen = 1,
    .msg_control = control,
    .msg_controllen = sizeof control,
};

check(ringmsg_recvmsg(ring, fd, &message, 0, 0, 1));
check(ringmsg_submit(ring)); /* the next reap would do it as well */
/* message and what it points to stay until its record has come */
if (check(ringmsg_reap(ring, records, NULL, 1, NULL)) == 1 && records[0].result >= 0)
    printf("%d bytes, flags %#x\n", records[0].result, message.msg_flags);
