/* examples-c/dns_responder.c on recvmmsg(2) and sendmmsg(2), as an expert writes it: a batch of
 * what is queued (MSG_WAITFORONE), one call that sends its answers, and arrays that are used again,
 * of which only the lengths that the kernel has changed are set. */
#include "responder.h"

#include <sys/uio.h>

enum { BATCH = 64 };

static struct sockaddr_storage sources[BATCH];
static struct mmsghdr in[BATCH], out[BATCH];
static struct iovec in_parts[BATCH], out_parts[BATCH];
static uint8_t queries[BATCH][QUERY_MAX], responses[BATCH][EDNS_MAX];

static void set_up(void)
{
    for (int i = 0; i < BATCH; i++) {
        in_parts[i] = (struct iovec){queries[i], QUERY_MAX};
        out_parts[i].iov_base = responses[i];
        in[i].msg_hdr = (struct msghdr){
            .msg_name = &sources[i], .msg_namelen = sizeof *sources,
            .msg_iov = &in_parts[i], .msg_iovlen = 1};
        out[i].msg_hdr = (struct msghdr){.msg_iov = &out_parts[i], .msg_iovlen = 1};
    }
}

/* Writes the answers to the first n queries; how many there are. */
static unsigned respond_to_all(int n)
{
    unsigned answers = 0;
    for (int i = 0; i < n; i++) {
        uint32_t length = respond(queries[i], in[i].msg_len, responses[answers]);
        if (length > 0) {
            out_parts[answers].iov_len = length;
            out[answers].msg_hdr.msg_name = &sources[i];
            out[answers].msg_hdr.msg_namelen = in[i].msg_hdr.msg_namelen;
            answers++;
        }
        in[i].msg_hdr.msg_namelen = sizeof *sources;
    }
    return answers;
}

/* Sends answers; how many the socket did not take. */
static unsigned send_answers(int fd, unsigned answers)
{
    unsigned unsent = 0;
    for (unsigned done = 0; done < answers;) {
        int sent = sendmmsg(fd, out + done, answers - done, 0);
        if (sent < 0 && errno == EINTR)
            continue;
        unsent += sent < 0; /* the first one of the rest; the others are tried */
        done += sent < 0 ? 1 : (unsigned)sent;
    }
    return unsent;
}

int main(int argc, char **argv)
{
    unsigned long long packets = 0, answered = 0, unsent = 0;
    int fd = open_responder(argc, argv);
    set_up();
    while (!stopped) {
        int n = recvmmsg(fd, in, BATCH, MSG_WAITFORONE, NULL);
        if (n < 0 && errno == EINTR)
            continue;
        check("recvmmsg", n);
        unsigned answers = respond_to_all(n);
        packets += (unsigned)n;
        answered += answers;
        unsent += send_answers(fd, answers);
    }
    return report(packets, answered, unsent);
}
