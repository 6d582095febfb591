struct ringmsg_pool_config config;
struct ringmsg_pool *large;

/* The options first: the buffers need space for their control messages. */
check(ringmsg_socket_enable(fd, RINGMSG_META_DESTINATION | RINGMSG_META_TRAFFIC_CLASS));
ringmsg_pool_config_init(&config);
check(ringmsg_pool_config_for_socket(&config, fd));
config.buffers = 1024; /* a power of two */
check(ringmsg_pool_new(ring, &config, &large));
check(ringmsg_pool_free(large));
