/* The DNS of dns_responder.c: reads a query, and writes the response, out of a small zone. It does
 * not depend on how packets are received and sent, so the benchmark's responders on the socket
 * calls include it, too (benches/dns).
 *
 * With EDNS up to 1232 bytes, otherwise 512; what does not fit is truncated, which tells a resolver
 * to ask again over TCP. Datagrams that are no query are dropped: an answer would go to the host
 * whose address was forged. */
#ifndef DNS_H
#define DNS_H

#include <arpa/inet.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { HEADER = 12, PLAIN_MAX = 512, EDNS_MAX = 1232, NAME_MAX = 253, TTL = 300 };
enum { TYPE_A = 1, TYPE_SOA = 6, TYPE_TXT = 16, TYPE_AAAA = 28, TYPE_OPT = 41, CLASS_IN = 1 };
enum { NOERROR = 0, FORMERR = 1, NXDOMAIN = 3, NOTIMP = 4, REFUSED = 5, BADVERS = 16 };
enum { QR = 0x80, OPCODE = 0x78, AA = 0x04, TC = 0x02, RD = 0x01 }; /* in the third byte */

struct resource {
    const char *name; /* lower case, without the last dot */
    uint16_t type;
    const char *data;
};

#define FIFTY "01234567890123456789012345678901234567890123456789"
#define TWO_HUNDRED FIFTY FIFTY FIFTY FIFTY

static const char *const apex = "example.test";
static const struct resource zone[] = {
    {"example.test", TYPE_A, "192.0.2.1"},
    {"example.test", TYPE_AAAA, "2001:db8::1"},
    {"example.test", TYPE_TXT, "answered by ringmsg"},
    {"www.example.test", TYPE_A, "192.0.2.2"},
    {"www.example.test", TYPE_A, "192.0.2.3"},
    {"www.example.test", TYPE_AAAA, "2001:db8::2"},
    {"long.example.test", TYPE_TXT, TWO_HUNDRED}, /* does not fit into 512 bytes */
    {"long.example.test", TYPE_TXT, TWO_HUNDRED "1"},
    {"long.example.test", TYPE_TXT, TWO_HUNDRED "2"},
};

/* Bytes of a query that are not read yet. Reading past the end gives 0, and `bad`. */
struct reader {
    const uint8_t *at, *end;
    int bad;
};

static const uint8_t *skip(struct reader *from, size_t length)
{
    const uint8_t *bytes = from->at;
    if ((size_t)(from->end - from->at) < length) {
        from->bad = 1;
        return NULL;
    }
    from->at += length;
    return bytes;
}

static unsigned read_u8(struct reader *from)
{
    const uint8_t *bytes = skip(from, 1);
    return bytes == NULL ? 0 : bytes[0];
}

static unsigned read_u16(struct reader *from)
{
    const uint8_t *bytes = skip(from, 2);
    return bytes == NULL ? 0 : (unsigned)(bytes[0] << 8 | bytes[1]);
}

/* A name without compression, which a question has no use for, as text in lower case. */
static void read_name(struct reader *from, char name[NAME_MAX + 1])
{
    size_t used = 0;
    for (unsigned length; (length = read_u8(from)) != 0;) {
        const uint8_t *label = length > 63 ? NULL : skip(from, length);
        if (label == NULL || used + (used > 0) + length > NAME_MAX) {
            from->bad = 1;
            return;
        }
        if (used > 0)
            name[used++] = '.';
        for (unsigned i = 0; i < length; i++) {
            int upper = label[i] >= 'A' && label[i] <= 'Z';
            name[used++] = (char)(label[i] == '.' ? '\\' : label[i] + (upper ? 32 : 0));
        }
    }
    name[used] = '\0';
}

/* What a query asks. */
struct question {
    char name[NAME_MAX + 1];
    unsigned type, class;
    size_t end, room; /* where the question ends; bytes that the answer may have */
    int has_edns, version;
};

/* Reads a query. Returns 0 if the datagram is no query. */
static int read_query(const uint8_t *query, size_t length, struct question *question)
{
    struct reader from = {query, query + length, 0};
    const uint8_t *head = skip(&from, HEADER);
    if (head == NULL || head[2] & QR || head[4] != 0 || head[5] != 1) /* one question */
        return 0;
    unsigned before = (unsigned)(head[6] << 8 | head[7]) + (unsigned)(head[8] << 8 | head[9]);
    unsigned additional = (unsigned)(head[10] << 8 | head[11]);
    read_name(&from, question->name);
    question->type = read_u16(&from);
    question->class = read_u16(&from);
    question->end = (size_t)(from.at - query);
    question->room = PLAIN_MAX;
    question->has_edns = question->version = 0;
    for (unsigned i = 0; before == 0 && i < additional && !from.bad; i++) {
        char name[NAME_MAX + 1];
        read_name(&from, name);
        unsigned type = read_u16(&from), size = read_u16(&from);
        const uint8_t *flags = skip(&from, 4);
        skip(&from, read_u16(&from));
        if (type != TYPE_OPT || from.bad)
            continue;
        from.bad = question->has_edns || name[0] != '\0'; /* one OPT record, of the root */
        question->has_edns = 1;
        question->version = flags[1];
        question->room = size < PLAIN_MAX ? PLAIN_MAX : size > EDNS_MAX ? EDNS_MAX : size;
    }
    return !from.bad;
}

struct writer {
    uint8_t *at, *end;
    int full;
};

static void write_bytes(struct writer *to, const void *bytes, size_t length)
{
    if ((size_t)(to->end - to->at) < length) {
        to->full = 1;
        return;
    }
    memcpy(to->at, bytes, length);
    to->at += length;
}

static void write_u16(struct writer *to, unsigned value)
{
    write_bytes(to, (uint8_t[]){(uint8_t)(value >> 8), (uint8_t)value}, 2);
}

static void write_u32(struct writer *to, uint32_t value)
{
    write_u16(to, value >> 16);
    write_u16(to, value & 0xffff);
}

/* Begins a resource record of the name that stands at an offset of the response. */
static void write_record(struct writer *to, unsigned name_offset, unsigned type, unsigned length)
{
    write_u16(to, 0xc000 | name_offset);
    write_u16(to, type);
    write_u16(to, CLASS_IN);
    write_u32(to, TTL);
    write_u16(to, length);
}

static void write_resource(struct writer *to, const struct resource *resource)
{
    uint8_t address[16], length = (uint8_t)strlen(resource->data);
    size_t size = resource->type == TYPE_A ? 4 : 16;
    if (resource->type == TYPE_TXT) {
        write_record(to, HEADER, TYPE_TXT, length + 1u);
        write_bytes(to, &length, 1);
        write_bytes(to, resource->data, length);
        return;
    }
    inet_pton(resource->type == TYPE_A ? AF_INET : AF_INET6, resource->data, address);
    write_record(to, HEADER, resource->type, (unsigned)size);
    write_bytes(to, address, size);
}

/* For empty answers: it says how long a resolver may cache them. */
static void write_soa(struct writer *to, unsigned apex_offset)
{
    write_record(to, apex_offset, TYPE_SOA, 24);
    write_u16(to, 0xc000 | apex_offset);
    write_u16(to, 0xc000 | apex_offset);
    for (int i = 0; i < 5; i++) /* serial, refresh, retry, expire, minimum */
        write_u32(to, i == 0 ? 1 : TTL);
}

static void write_edns(struct writer *to, unsigned code)
{
    write_bytes(to, "", 1); /* the root */
    write_u16(to, TYPE_OPT);
    write_u16(to, EDNS_MAX);
    write_u32(to, (code >> 4) << 24); /* the code's upper bits, version 0 */
    write_u16(to, 0);
}

/* Returns the offset of the apex in a name that ends with it, otherwise 0. */
static unsigned apex_in(const char *name)
{
    size_t length = strlen(name), tail = strlen(apex);
    if (length < tail || strcmp(name + length - tail, apex) != 0 ||
        (length > tail && name[length - tail - 1] != '.'))
        return 0;
    return (unsigned)(HEADER + length - tail);
}

/* Writes the response to a query; returns its length, 0 for none. */
static uint32_t respond(const uint8_t *query, size_t length, uint8_t response[EDNS_MAX])
{
    enum { EDNS = 11 };
    struct question question;
    if (!read_query(query, length, &question))
        return 0;
    unsigned apex_offset = apex_in(question.name), code = NXDOMAIN;
    int answers = 0;
    size_t room = question.room - (question.has_edns ? EDNS : 0);
    struct writer to = {response, response + room, 0};
    write_bytes(&to, query, question.end);
    struct writer empty = to;
    if (question.version != 0)
        code = BADVERS;
    else if (query[2] & OPCODE)
        code = NOTIMP;
    else if (question.class != CLASS_IN || apex_offset == 0)
        code = REFUSED;
    for (size_t i = 0; code <= NXDOMAIN && i < sizeof zone / sizeof *zone; i++)
        if (strcmp(zone[i].name, question.name) == 0) {
            code = NOERROR;
            if (zone[i].type == question.type) {
                write_resource(&to, &zone[i]);
                answers++;
            }
        }
    int is_authoritative = code <= NXDOMAIN, is_negative = is_authoritative && answers == 0;
    if (is_negative)
        write_soa(&to, apex_offset);
    int is_truncated = to.full;
    if (is_truncated) {
        to = empty;
        answers = is_negative = 0;
    }
    to.end += EDNS;
    if (question.has_edns)
        write_edns(&to, code);
    int flags = QR | (query[2] & (OPCODE | RD)) | (is_authoritative ? AA : 0) | (is_truncated ? TC : 0);
    uint8_t head[] = {(uint8_t)flags, code & 15, 0, 1, 0, (uint8_t)answers, 0, (uint8_t)is_negative, 0, 0};
    head[9] = (uint8_t)question.has_edns;
    memcpy(response + 2, head, sizeof head);
    return (uint32_t)(to.at - response);
}

#endif
