/* Writes datagrams as a capture file in the format pcapng, which Wireshark and tcpdump read. A
 * socket does not show IP and UDP headers, so this file rebuilds them from the metadata: addresses,
 * ports, traffic class and hop limit are those of the packet. What only the library knows, the
 * place in a GRO train and the drop counter, goes into the comment and the drop count of the
 * packet. */
#include "tool.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

enum { LINKTYPE_RAW = 101, UDP_HEADER = 8, IPV4_HEADER = 20, IPV6_HEADER = 40 };
enum { OPTION_COMMENT = 1, OPTION_NAME = 2, OPTION_FLAGS = 2, OPTION_DROPS = 4, OPTION_RESOLUTION = 9 };

/* A block is built here, because its length comes before its content. */
struct block {
    size_t length;
    uint8_t bytes[70000];
};

static void put(struct block *block, const void *data, size_t length)
{
    memcpy(block->bytes + block->length, data, length);
    block->length += length;
}

static void put16(struct block *block, uint16_t value) { put(block, &value, sizeof value); }
static void put32(struct block *block, uint32_t value) { put(block, &value, sizeof value); }

static void pad(struct block *block)
{
    static const uint8_t zeros[4];
    put(block, zeros, (4 - block->length % 4) % 4);
}

static void put_option(struct block *block, uint16_t code, const void *data, size_t length)
{
    put16(block, code);
    put16(block, (uint16_t)length);
    put(block, data, length);
    pad(block);
}

static void write_block(FILE *file, uint32_t type, const struct block *block)
{
    uint32_t length = (uint32_t)block->length + 12;
    fwrite(&type, sizeof type, 1, file);
    fwrite(&length, sizeof length, 1, file);
    fwrite(block->bytes, block->length, 1, file);
    fwrite(&length, sizeof length, 1, file);
}

void pcapng_begin(FILE *file, uint16_t port)
{
    static struct block block;
    char name[32];
    uint8_t nanoseconds = 9;
    int64_t unknown = -1;
    block.length = 0;
    put32(&block, 0x1a2b3c4d); /* the byte order */
    put16(&block, 1);          /* the version of the format: 1.0 */
    put16(&block, 0);
    put(&block, &unknown, sizeof unknown); /* the length of the section */
    write_block(file, 0x0a0d0d0a, &block);

    block.length = 0;
    put16(&block, LINKTYPE_RAW);
    put16(&block, 0);
    put32(&block, 0); /* no limit on a packet's length */
    put_option(&block, OPTION_NAME, name,
               (size_t)snprintf(name, sizeof name, "ringmsg, UDP port %u", port));
    put_option(&block, OPTION_RESOLUTION, &nanoseconds, 1);
    put32(&block, 0); /* the end of the options */
    write_block(file, 1, &block);
}

/* The ones' complement sum of RFC 1071, continued from `sum`. */
static uint32_t add_words(uint32_t sum, const uint8_t *data, size_t length)
{
    for (; length > 1; data += 2, length -= 2)
        sum += (uint32_t)data[0] << 8 | data[1];
    return length == 1 ? sum + ((uint32_t)data[0] << 8) : sum;
}

static uint16_t checksum(uint32_t sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return htons((uint16_t)~sum);
}

/* Writes the IP header, with a payload of `length` bytes, and returns its length. */
static size_t ip_header(const struct datagram *d, uint32_t length, uint8_t header[IPV6_HEADER])
{
    static const uint8_t nowhere[16];
    const uint8_t *from = d->source != NULL ? d->source : nowhere;
    const uint8_t *to = d->destination != NULL ? d->destination : nowhere;
    uint8_t hop_limit = d->metadata->valid & RINGMSG_META_HOP_LIMIT ? d->metadata->hop_limit : 64;
    uint8_t class = d->metadata->traffic_class;
    memset(header, 0, IPV6_HEADER);
    if (d->family == AF_INET6) {
        uint16_t of_payload = htons((uint16_t)length);
        header[0] = (uint8_t)(0x60 | class >> 4);
        header[1] = (uint8_t)(class << 4);
        memcpy(header + 4, &of_payload, 2);
        header[6] = IPPROTO_UDP;
        header[7] = hop_limit;
        memcpy(header + 8, from, 16);
        memcpy(header + 24, to, 16);
        return IPV6_HEADER;
    }
    uint16_t whole = htons((uint16_t)(IPV4_HEADER + length));
    header[0] = 0x45;
    header[1] = class;
    memcpy(header + 2, &whole, 2);
    header[8] = hop_limit;
    header[9] = IPPROTO_UDP;
    memcpy(header + 12, from, 4);
    memcpy(header + 16, to, 4);
    uint16_t sum = checksum(add_words(0, header, IPV4_HEADER));
    memcpy(header + 10, &sum, 2);
    return IPV4_HEADER;
}

/* Writes the UDP header. A truncated datagram over IPv4 gets no checksum, because its bytes are not
 * all there. */
static void udp_header(const struct datagram *d, const uint8_t *ip, uint32_t length,
                       uint8_t header[UDP_HEADER])
{
    const struct ringmsg_record *record = d->record;
    uint16_t ports[3] = {htons(d->metadata->source_port), htons(d->port), htons((uint16_t)length)};
    size_t addresses = d->family == AF_INET6 ? 8 : 12, size = d->family == AF_INET6 ? 32 : 8;
    memset(header, 0, UDP_HEADER);
    memcpy(header, ports, sizeof ports);
    if (d->family == AF_INET && (record->flags & RINGMSG_RECORD_TRUNCATED))
        return;
    uint32_t sum = add_words(IPPROTO_UDP + length, ip + addresses, size);
    sum = add_words(sum, header, UDP_HEADER);
    uint16_t value = checksum(add_words(sum, d->payload, record->payload_length));
    value = value == 0 ? 0xffff : value;
    memcpy(header + 6, &value, 2);
}

/* How many packets were dropped since the packet before, which is what the format has. The socket
 * counts all, in 32 bits; its first drop comes with the counter's first appearance. */
static uint64_t drops_since_last(const struct ringmsg_metadata *metadata)
{
    static uint32_t last;
    uint32_t since = metadata->valid & RINGMSG_META_DROPPED ? metadata->dropped - last : 0;
    last += since;
    return since;
}

void pcapng_write(FILE *file, const struct datagram *d)
{
    static struct block block;
    uint8_t ip[IPV6_HEADER], udp[UDP_HEADER];
    char comment[160];
    const struct ringmsg_record *record = d->record;
    const struct ringmsg_metadata *m = d->metadata;
    uint32_t udp_length = UDP_HEADER + record->wire_length, inbound = 1;
    size_t ip_length = ip_header(d, udp_length, ip);
    uint64_t ns = (uint64_t)m->software_timestamp_ns, dropped = drops_since_last(m);
    uint32_t headers = (uint32_t)ip_length + UDP_HEADER;
    udp_header(d, ip, udp_length, udp);

    block.length = 0;
    put32(&block, 0); /* the interface above */
    put32(&block, (uint32_t)(ns >> 32));
    put32(&block, (uint32_t)ns);
    put32(&block, headers + record->payload_length);
    put32(&block, headers + record->wire_length);
    put(&block, ip, ip_length);
    put(&block, udp, UDP_HEADER);
    put(&block, d->payload, record->payload_length);
    pad(&block);
    int said = snprintf(comment, sizeof comment, "interface index %u", m->interface_index);
    if (record->segment_size > 0)
        said += snprintf(comment + said, sizeof comment - (size_t)said,
                         "; segment %u of %u of a GRO train, %u bytes each", record->segment + 1u,
                         (unsigned)record->segments, record->segment_size);
    if (m->valid & RINGMSG_META_DROPPED)
        said += snprintf(comment + said, sizeof comment - (size_t)said,
                         "; the socket has dropped %u so far", m->dropped);
    put_option(&block, OPTION_COMMENT, comment, (size_t)said);
    put_option(&block, OPTION_FLAGS, &inbound, sizeof inbound);
    put_option(&block, OPTION_DROPS, &dropped, sizeof dropped);
    put32(&block, 0); /* the end of the options */
    write_block(file, 6, &block);
}
