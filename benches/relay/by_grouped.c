/* The relay with batches of 512 and UDP_GRO, the datagrams of each flow sent as one UDP_SEGMENT
 * train. */
enum { BATCH = 512, GROUPED = 1 };

#include "relay.h"
