char why[1024];
if (ringmsg_abi_version() != RINGMSG_ABI_VERSION)
    fprintf(stderr, "compiled against another interface\n");
if (ringmsg_describe_support(why, sizeof why) >= 0)
    printf("ringmsg %s\n%s\n", ringmsg_version(), why);
