/* Networks of a test's own: a namespace that nothing else is in and that goes with the process, and
 * the tools that configure it. What cannot be had is a skip that is counted. */
#ifndef RINGMSG_TEST_NETWORK_H
#define RINGMSG_TEST_NETWORK_H

#include "send.h"
#include <net/if.h>
#include <sched.h>
#include <stdarg.h>

/* Runs a command of the shell; its exit status. */
__attribute__((format(printf, 1, 2), unused)) static int shell(const char *format, ...)
{
    char command[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(command, sizeof command - 16, format, list);
    va_end(list);
    strcat(command, " 2>&1");
    fflush(NULL);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

__attribute__((unused)) static void need_tool(const char *tool, const char *package)
{
    if (shell("command -v %s >/dev/null", tool) != 0) {
        char why[128];
        snprintf(why, sizeof why, "no %s(8); apt-get install %s provides it", tool, package);
        skip_test(why);
    }
}

static void write_line(const char *file, const char *line)
{
    int fd = (int)SYS(open(file, O_WRONLY | O_CLOEXEC));
    EQUAL(SYS(write(fd, line, strlen(line))), (ssize_t)strlen(line));
    close(fd);
}

/* Becomes root of a user namespace, with a network that it may configure. Without the maps ip(8)
 * would have no capability there. */
static int enter_network_of_own_user(void)
{
    char users[64], groups[64];
    snprintf(users, sizeof users, "0 %u 1", geteuid());
    snprintf(groups, sizeof groups, "0 %u 1", getegid());
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        return -1;
    write_line("/proc/self/setgroups", "deny");
    write_line("/proc/self/uid_map", users);
    write_line("/proc/self/gid_map", groups);
    return 0;
}

/* From here on this process is in a network of its own, with loopback up. */
__attribute__((unused)) static void enter_own_network(void)
{
    if (unshare(CLONE_NEWNET) != 0 && enter_network_of_own_user() != 0)
        skip_test("no network namespaces: they take root, or user namespaces");
    char path[4096];
    snprintf(path, sizeof path, "%s:/usr/sbin:/sbin", getenv("PATH"));
    SYS(setenv("PATH", path, 1)); /* where an ordinary user's does not look for tc and nft */
    need_tool("ip", "iproute2");
    if (shell("ip -V >/dev/null") != 0)
        skip_test("ip(8) is not iproute2's, which alone knows every option used here");
    if (shell("ip link set lo up") != 0)
        FAIL("loopback does not come up");
}

/* Whether a file under /proc that lists IPv6 addresses or routes has a line with `address`, as 32
 * hexadecimal digits, and its flags in that column with `flag`. */
static int is_listed(const char *file, const char *address, int column, unsigned long flag)
{
    char line[256];
    FILE *list = fopen(file, "re");
    int found = 0;
    while (list != NULL && !found && fgets(line, sizeof line, list) != NULL) {
        char *rest = line, *word = strtok_r(line, " ", &rest);
        int is_address = strcmp(word, address) == 0;
        for (int i = 1; i < column && word != NULL; i++)
            word = strtok_r(NULL, " ", &rest);
        found = is_address && word != NULL && (strtoul(word, NULL, 16) & flag) == flag;
    }
    if (list != NULL)
        fclose(list);
    return found;
}

/* Waits until an IPv6 address that was added is local. The kernel makes its route in the
 * background, even with `nodad`. What is sent to the address until then goes nowhere, without an
 * error. */
__attribute__((unused)) static void await_address(const char *text)
{
    enum { FLAGS_OF_ROUTE = 9 };
    const unsigned long local = 0x80000000; /* RTF_LOCAL */
    unsigned char bytes[16];
    char address[33];
    EQUAL(inet_pton(AF_INET6, text, bytes), 1);
    for (int i = 0; i < 16; i++)
        snprintf(address + 2 * i, 3, "%02x", bytes[i]);
    for (int64_t until = now_ns() + 20000000000 * TEST_TIME_FACTOR; now_ns() < until; sleep_ms(1))
        if (is_listed("/proc/thread-self/net/ipv6_route", address, FLAGS_OF_ROUTE, local))
            return;
    FAIL("%s does not become a local address", text);
}

/* What loopback sends waits here, `kbit` of it a second, in a queue of this many bytes. */
__attribute__((unused)) static void slow_loopback(int kbit, int queue_bytes)
{
    need_tool("tc", "iproute2");
    if (shell("ip link set lo mtu 1500") != 0 ||
        shell("tc qdisc replace dev lo root tbf rate %dkbit burst 3000 limit %d", kbit, queue_bytes) != 0)
        skip_test("this kernel has no tbf queueing discipline");
}

/* Loads a ruleset of nft(8). */
__attribute__((unused)) static void firewall(const char *rules)
{
    need_tool("nft", "nftables");
    if (shell("nft add table inet t") != 0)
        skip_test("this kernel takes no nft rules");
    if (shell("echo '%s' | nft -f -", rules) != 0)
        FAIL("nft refuses: %s", rules);
}

/* Packets that a named counter of the table `inet t` has seen. */
__attribute__((unused)) static int firewall_count(const char *counter)
{
    char line[256];
    int packets = -1;
    snprintf(line, sizeof line, "nft list counter inet t %s", counter);
    FILE *out = popen(line, "r");
    while (out != NULL && fgets(line, sizeof line, out) != NULL)
        sscanf(line, " packets %d", &packets);
    if (out == NULL || pclose(out) != 0 || packets < 0)
        FAIL("nft does not tell the counter %s", counter);
    return packets;
}

#endif
