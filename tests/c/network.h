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

/* From here on this process is in a network of its own, with loopback up. */
__attribute__((unused)) static void enter_own_network(void)
{
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        skip_test("no network namespaces: they take root, or user namespaces");
    need_tool("ip", "iproute2");
    if (shell("ip link set lo up") != 0)
        FAIL("loopback does not come up");
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
