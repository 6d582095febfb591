/* The program `ringmsg`: what its files share. It uses only the public interface of the library, so
 * that its files may be copied from like the other examples. */
#ifndef TOOL_H
#define TOOL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <ringmsg.h>

/* The exit statuses. */
enum { FINE = 0, PROBLEM = 1, USAGE = 2 };

/* The commands: argv[0] is the command's name. Each returns an exit status. */
int support_command(int argc, char **argv);
int listen_command(int argc, char **argv);
int doctor_command(int argc, char **argv);

/* Returns the value of a library call. A failure ends the program with the library's
 * explanation. */
int check(const char *what, int value);

/* Parses a number between two bounds; anything else ends the program with status USAGE. */
long number(const char *what, const char *text, long least, long most);

/* Whether an argument, which may be NULL, is -h or --help. */
int is_help(const char *argument);

/* Replaces what is not printable ASCII, which a terminal might obey and JSON would have to escape.
 * Returns `text`. */
const char *printable(char *text);

/* Writes the name of an engine and a task-work mode, as in "io_uring, DEFER_TASKRUN". */
const char *engine_name(const struct ringmsg_ring_info *info);

/* Escape sequences for bold, green, red and normal text; empty unless `stream` is a terminal, and
 * if NO_COLOR is set. */
struct colours {
    const char *bold, *good, *bad, *plain;
};
struct colours colours_for(FILE *stream);

/* Returns a socket that is bound to a numeric address, which may have `%DEVICE` behind it, or, if
 * `address` is NULL, to every address. A failure ends the program. */
int bound_socket(const char *address, const char *port);

/* --- what was received (row.c, pcapng.c) ---------------------------------------------------- */

/* A datagram, with its addresses as text. IPv4 that arrived on an IPv6 socket is shown as IPv4. */
struct datagram {
    const struct ringmsg_record *record;
    const struct ringmsg_metadata *metadata;
    const uint8_t *payload;
    int family;                          /* AF_INET or AF_INET6 */
    const uint8_t *source, *destination; /* 4 or 16 bytes; NULL if unknown */
    uint16_t port;                       /* the port that the socket is bound to */
};

struct datagram datagram_of(const struct ringmsg_record *record, const struct ringmsg_metadata *metadata,
                            const uint8_t *base, uint16_t port);
void print_heading(const struct colours *colours);
void print_row(const struct datagram *datagram);
void print_json(const struct datagram *datagram);

void pcapng_begin(FILE *file, uint16_t port);
void pcapng_write(FILE *file, const struct datagram *datagram);

/* --- sockets of this network namespace (sockets.c) ------------------------------------------- */

struct bound_socket {
    const char *protocol; /* "udp" or "udp6" */
    char address[64];     /* the local address, as text */
    unsigned port, uid;
    unsigned long inode, queued_bytes;
    unsigned long long drops;
    pid_t pid; /* 0: no process was found, or this user may not see it */
    int fd;    /* its number in that process */
    char command[32];
};

enum { SOCKETS_MAX = 256 };
/* Finds the UDP sockets that are bound to a port, and stores the first SOCKETS_MAX. Returns the
 * number of all, or -1 with errno if /proc/net/udp cannot be read. */
int sockets_at(unsigned port, struct bound_socket *found);

/* Duplicates a socket of another process into this one. Returns it, or -1 with errno. */
int borrow_socket(const struct bound_socket *socket);

/* Reads a whole number from a file such as /proc/sys/net/core/rmem_max. Returns -1 without it. */
long number_in_file(const char *path);

#endif
