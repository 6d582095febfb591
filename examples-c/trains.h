/* The traffic of the demo: numbered trains of numbered datagrams, so that the receiver can
 * determine exactly which are missing. A train is what one sendmsg(2) with UDP_SEGMENT sends. Its
 * number determines how many datagrams it has. */
#ifndef TRAINS_H
#define TRAINS_H

#include "example.h"

#define TRAINS_MAGIC 0x54524e53u /* TRNS */
#define TRAINS_MAX 1000000u
#define TRAIN_SEGMENTS_MAX 50u
#define END_MARKERS_MAX 50u

/* The head of every datagram's payload, in host byte order, because the traffic stays on this
 * machine. */
struct stamp {
    uint32_t magic;
    uint32_t train;             /* from 0 */
    uint32_t end;               /* 0; in an end marker, how many trains were sent before the first one */
    uint16_t segment, segments; /* the datagram's index in the train; the number of datagrams */
    uint32_t length;            /* the length of this datagram's payload */
    uint32_t reserved;
    uint64_t datagrams;         /* datagrams sent up to the end of this train */
};

static inline unsigned train_segments(uint32_t train)
{
    return 2 + train * 7 % (TRAIN_SEGMENTS_MAX - 1);
}

/* What the receiver has received. */
struct ledger {
    /* Datagrams received of each train; an end marker is a train, too. */
    uint16_t seen[TRAINS_MAX + END_MARKERS_MAX];
    uint32_t trains, end;                      /* trains sent as far as known; the first end marker */
    uint64_t sent, received, invalid;            /* datagrams */
};

/* Accounts for one datagram. Returns 1 if it is an end marker, which must be answered. */
static inline int ledger_add(struct ledger *ledger, const void *payload, uint32_t length)
{
    struct stamp stamp = {.magic = 0};
    if (length >= sizeof stamp)
        memcpy(&stamp, payload, sizeof stamp);
    if (stamp.magic != TRAINS_MAGIC || stamp.train >= TRAINS_MAX + END_MARKERS_MAX ||
        stamp.length != length || ledger->seen[stamp.train] >= stamp.segments) {
        ledger->invalid++;
        return 0;
    }
    ledger->seen[stamp.train]++;
    ledger->received++;
    if (stamp.train >= ledger->trains) {
        ledger->trains = stamp.train + 1;
        ledger->sent = stamp.datagrams;
    }
    if (stamp.end != 0)
        ledger->end = stamp.end;
    return stamp.end != 0;
}

/* Prints what is missing. Returns whether everything is accounted for: the missing trains are those
 * that the kernel dropped, and the missing datagrams are the datagrams of those trains. */
static inline int ledger_is_complete(const struct ledger *ledger, uint64_t drops)
{
    uint64_t trains = 0, datagrams = 0, incomplete = 0, missing = ledger->sent - ledger->received;
    if (ledger->end == 0) {
        printf("%-12s no end marker has arrived\n", "sent");
        return 0;
    }
    for (uint32_t train = 0; train < ledger->trains; train++) {
        unsigned segments = train < ledger->end ? train_segments(train) : 1;
        incomplete += ledger->seen[train] > 0 && ledger->seen[train] < segments;
        if (ledger->seen[train] == 0) {
            trains++;
            datagrams += segments;
        }
    }
    printf("%-12s %8llu datagrams in %u trains\n", "sent", (unsigned long long)ledger->sent, ledger->trains);
    printf("%-12s %8llu datagrams; %llu whole trains, of %llu datagrams; %llu incomplete trains\n", "missing",
           (unsigned long long)missing, (unsigned long long)trains, (unsigned long long)datagrams,
           (unsigned long long)incomplete);
    return ledger->invalid == 0 && incomplete == 0 && trains == drops && datagrams == missing;
}

/* Starts a sender as `COMMAND... ADDRESS PORT`. */
static inline pid_t start_sender(char **command, int count, char *address, unsigned port)
{
    char number[8], *arguments[32];
    snprintf(number, sizeof number, "%u", port);
    if (count > 29)
        exit(2);
    memcpy(arguments, command, (size_t)count * sizeof *command);
    arguments[count] = address;
    arguments[count + 1] = number;
    arguments[count + 2] = NULL;
    pid_t child = check_sys("fork", fork());
    if (child == 0) {
        execv(arguments[0], arguments);
        perror(arguments[0]);
        _exit(127);
    }
    return child;
}

#endif
