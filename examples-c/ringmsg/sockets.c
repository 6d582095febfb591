/* The UDP sockets of this network namespace: /proc/net/udp and udp6, and the processes that own
 * them. */
#include "tool.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

long number_in_file(const char *path)
{
    long value = -1;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return -1;
    if (fscanf(file, "%ld", &value) != 1)
        value = -1;
    fclose(file);
    return value;
}

/* Turns the kernel's hexadecimal address, 32-bit words in host byte order, into text. */
static void address_text(const char *hex, char *text, socklen_t size)
{
    uint32_t words[4] = {0};
    size_t count = strlen(hex) / 8;
    for (size_t i = 0; i < count && i < 4; i++) {
        char word[9] = {0};
        memcpy(word, hex + 8 * i, 8);
        words[i] = (uint32_t)strtoul(word, NULL, 16);
    }
    inet_ntop(count == 4 ? AF_INET6 : AF_INET, words, text, size);
}

/* Reads one of the two files. Stores the sockets at the port from number `count` on, while there is
 * room. Returns the number of all, or -1 if there is no such file. */
static int read_table(const char *path, const char *protocol, unsigned port, struct bound_socket *found,
                      int count)
{
    char line[512], local[64];
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return -1;
    while (fgets(line, sizeof line, file) != NULL) {
        struct bound_socket socket = {.protocol = protocol};
        if (sscanf(
                line,
                " %*d: %63[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %*x %*x:%lx %*x:%*x %*x %u %*d %lu %*d %*s %llu",
                local, &socket.port, &socket.queued_bytes, &socket.uid, &socket.inode,
                &socket.drops) != 6 ||
            socket.port != port)
            continue;
        address_text(local, socket.address, sizeof socket.address);
        if (count < SOCKETS_MAX)
            found[count] = socket;
        count++;
    }
    fclose(file);
    return count;
}

/* Notes in which process, and as which descriptor, the sockets are open. */
static void look_into(const char *process, struct bound_socket *found, int count)
{
    char path[300], target[64], *bracket;
    struct dirent *entry;
    snprintf(path, sizeof path, "/proc/%s/fd", process);
    DIR *descriptors = opendir(path);
    if (descriptors == NULL)
        return;
    while ((entry = readdir(descriptors)) != NULL) {
        snprintf(path, sizeof path, "/proc/%s/fd/%s", process, entry->d_name);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length < 0)
            continue;
        target[length] = '\0';
        if (strncmp(target, "socket:[", 8) != 0 || (bracket = strchr(target, ']')) == NULL)
            continue;
        *bracket = '\0';
        for (int i = 0; i < count; i++) {
            if (found[i].pid != 0 || found[i].inode != strtoul(target + 8, NULL, 10))
                continue;
            found[i].pid = (pid_t)atoi(process);
            found[i].fd = atoi(entry->d_name);
            snprintf(path, sizeof path, "/proc/%s/comm", process);
            FILE *name = fopen(path, "r");
            if (name == NULL || fgets(found[i].command, sizeof found[i].command, name) == NULL)
                found[i].command[0] = '\0';
            found[i].command[strcspn(found[i].command, "\n")] = '\0';
            printable(found[i].command); /* its owner chooses it */
            if (name != NULL)
                fclose(name);
        }
    }
    closedir(descriptors);
}

int sockets_at(unsigned port, struct bound_socket *found)
{
    struct dirent *entry;
    int count = read_table("/proc/net/udp", "udp", port, found, 0);
    if (count < 0)
        return -1;
    int with_ipv6 = read_table("/proc/net/udp6", "udp6", port, found, count);
    count = with_ipv6 < 0 ? count : with_ipv6; /* IPv6 may be unavailable */
    DIR *processes = opendir("/proc");
    while (processes != NULL && (entry = readdir(processes)) != NULL)
        if (isdigit((unsigned char)entry->d_name[0]))
            look_into(entry->d_name, found, count < SOCKETS_MAX ? count : SOCKETS_MAX);
    if (processes != NULL)
        closedir(processes);
    return count;
}

int borrow_socket(const struct bound_socket *socket)
{
    if (socket->pid == 0) {
        errno = EPERM;
        return -1;
    }
    int process = (int)syscall(SYS_pidfd_open, socket->pid, 0);
    if (process < 0)
        return -1;
    int fd = (int)syscall(SYS_pidfd_getfd, process, socket->fd, 0);
    int error = errno;
    close(process);
    errno = error;
    return fd;
}
