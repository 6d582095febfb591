/* ringmsg support: what this kernel and this sandbox offer: the text for people, and the flags for
 * programs. */
#include "tool.h"


int support_command(int argc, char **argv)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } flags[] = {
        {RINGMSG_SETUP_SQPOLL, "SQPOLL"},
        {RINGMSG_SETUP_R_DISABLED, "R_DISABLED"},
        {RINGMSG_SETUP_COOP_TASKRUN, "COOP_TASKRUN"},
        {RINGMSG_SETUP_TASKRUN_FLAG, "TASKRUN_FLAG"},
        {RINGMSG_SETUP_SINGLE_ISSUER, "SINGLE_ISSUER"},
        {RINGMSG_SETUP_DEFER_TASKRUN, "DEFER_TASKRUN"},
    };
    char text[1024];
    struct ringmsg_support support = {.size = sizeof support};
    if (argc > 1) {
        FILE *out = is_help(argv[1]) ? stdout : stderr;
        fprintf(out, "usage: ringmsg support\n");
        return out == stdout ? FINE : USAGE;
    }
    check("describe", ringmsg_describe_support(text, sizeof text));
    check("query", ringmsg_query_support(&support));
    printf("%s", text);
    printf("setup flags:%s", support.setup_flags == 0 ? " none, because io_uring is unavailable" : "");
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (support.setup_flags & flags[i].bit)
            printf(" %s", flags[i].name);
    printf("\n");
    return FINE;
}
