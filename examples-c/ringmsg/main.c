/* ringmsg: shows what a machine offers, what a port receives, and what is wrong with a socket.
 * ringmsg(1) describes it. */
#include "tool.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name, *what;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"support", "shows what this machine offers, and why not more", support_command},
    {"listen", "prints the datagrams that arrive at a port, with their metadata", listen_command},
    {"doctor", "says what is wrong with the sockets at a port", doctor_command},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

int check(const char *what, int value)
{
    char why[512];
    if (value >= 0)
        return value;
    ringmsg_last_error(why, sizeof why);
    fprintf(stderr, "ringmsg: %s: %s (%s)\n", what, why, ringmsg_strerror(value));
    exit(PROBLEM);
}

long number(const char *what, const char *text, long least, long most)
{
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    int digits = isdigit((unsigned char)text[text[0] == '-']); /* strtol skips blanks and takes a "+" */
    if (errno == 0 && digits && *end == '\0' && value >= least && value <= most)
        return value;
    fprintf(stderr, "ringmsg: %s: '%s' is not a whole number from %ld to %ld\n", what, text, least, most);
    exit(USAGE);
}

const char *engine_name(const struct ringmsg_ring_info *info)
{
    if (info->engine == RINGMSG_ENGINE_RECVMMSG)
        return "recvmmsg";
    return info->flags & RINGMSG_SETUP_DEFER_TASKRUN  ? "io_uring, DEFER_TASKRUN"
           : info->flags & RINGMSG_SETUP_COOP_TASKRUN ? "io_uring, COOP_TASKRUN"
           : info->flags & RINGMSG_SETUP_SQPOLL       ? "io_uring, SQPOLL"
                                                      : "io_uring, plain";
}

struct colours colours_for(FILE *stream)
{
    static const struct colours none = {"", "", "", ""};
    static const struct colours ansi = {"\033[1m", "\033[32m", "\033[31m", "\033[0m"};
    const char *terminal = getenv("TERM"), *refused = getenv("NO_COLOR");
    int dumb = terminal == NULL || strcmp(terminal, "dumb") == 0;
    int wanted = refused == NULL || *refused == '\0'; /* no-color.org: if it is not empty */
    return !dumb && wanted && isatty(fileno(stream)) ? ansi : none;
}

const char *printable(char *text)
{
    for (char *at = text; *at != '\0'; at++)
        if ((unsigned char)*at < 0x20 || (unsigned char)*at >= 0x7f)
            *at = '?';
    return text;
}

int is_help(const char *argument)
{
    return argument != NULL && (strcmp(argument, "-h") == 0 || strcmp(argument, "--help") == 0);
}

/* Opens what the caller of the program has closed of 0, 1 and 2, so that no socket and no capture
 * file gets one of these numbers. What is written to them fails, as if they were closed. */
static void reserve_standard_streams(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            exit(PROBLEM);
}

/* At exit: output that could not be written, to a full disk for example, is an error. */
static void close_output(void)
{
    int failed = ferror(stdout);
    if (fflush(stdout) == 0 && !failed)
        return;
    fprintf(stderr, "ringmsg: the standard output: %s\n", strerror(errno));
    _Exit(PROBLEM);
}

static int usage(FILE *stream)
{
    fprintf(stream, "usage: ringmsg COMMAND [OPTION...] [ARGUMENT...]\n\n");
    for (int i = 0; i < COMMANDS; i++)
        fprintf(stream, "  %-9s %s\n", commands[i].name, commands[i].what);
    fprintf(stream, "\n`ringmsg COMMAND -h` lists a command's options; ringmsg(1) is the manual.\n");
    return stream == stdout ? FINE : USAGE;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    reserve_standard_streams();
    atexit(close_output);
    if (is_help(name) || strcmp(name, "help") == 0)
        return usage(stdout);
    if (strcmp(name, "-V") == 0 || strcmp(name, "--version") == 0) {
        printf("ringmsg %s\n", ringmsg_version());
        return FINE;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (*name != '\0')
        fprintf(stderr, "ringmsg: there is no command '%s'\n", name);
    return usage(stderr);
}
