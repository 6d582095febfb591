/* The relay with batches of 64, each datagram sent as a message of its own. */
enum { BATCH = 64, GROUPED = 0 };

#include "relay.h"
