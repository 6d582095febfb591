struct ringmsg_ring_config config;
struct ringmsg_ring_info info = {.size = sizeof info};
struct ringmsg_ring *mine;
char why[256];

ringmsg_ring_config_init(&config);
config.flags = RINGMSG_SETUP_COOP_TASKRUN; /* any thread may arm and reap */
int error = ringmsg_ring_new(&config, &mine);
if (error != 0) {
    ringmsg_last_error(why, sizeof why);
    fprintf(stderr, "%s (%s)\n", why, ringmsg_strerror(error));
    return 0;
}
if (ringmsg_ring_info(mine, &info) == 0 && info.engine == RINGMSG_ENGINE_RECVMMSG)
    puts("io_uring is unavailable");
ringmsg_ring_free(mine);
