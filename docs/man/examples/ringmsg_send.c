check(ringmsg_recvmsg_multishot(ring, pool, fd, 0, 0, 1));
int n = check(ringmsg_reap(ring, records, metadata, BATCH, NULL));
uint32_t count = 0;
for (int i = 0; i < n; i++)
    if (records[i].result >= 0 && ringmsg_path_reply(&paths[count], &metadata[i]) == 0)
        messages[count] = (struct ringmsg_message){
            .payload = "answer",
            .payload_length = 6,
            .path = &paths[count],
        }, count++;
if (ringmsg_send(sender, messages, count, RINGMSG_SEND_WAIT) >= 0)
    for (uint32_t i = 0; i < count; i++)
        if (messages[i].result < 0)
            fprintf(stderr, "%u: %s\n", i, ringmsg_strerror(messages[i].result));
check(ringmsg_release(ring, records, (uint32_t)n));
