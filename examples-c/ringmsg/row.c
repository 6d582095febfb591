/* One datagram as a row of a table, or as one line of JSON. */
#include "tool.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <time.h>

/* The text of an address; "-" without one. */
static const char *text_of(int family, const uint8_t *address, char *text, socklen_t size)
{
    return address != NULL && inet_ntop(family, address, text, size) != NULL ? text : "-";
}

struct datagram datagram_of(const struct ringmsg_record *record, const struct ringmsg_metadata *metadata,
                            const uint8_t *base, uint16_t port)
{
    struct datagram d = {record, metadata, base + record->payload_offset, metadata->family, NULL,
                         NULL,   port};
    if (metadata->valid & RINGMSG_META_SOURCE)
        d.source = metadata->source;
    if (metadata->valid & RINGMSG_META_DESTINATION)
        d.destination = metadata->destination;
    const uint8_t *known = d.source != NULL ? d.source : d.destination;
    if (d.family == AF_INET6 && known != NULL && IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)known)) {
        d.family = AF_INET;
        d.source += d.source != NULL ? 12 : 0;
        d.destination += d.destination != NULL ? 12 : 0;
    }
    return d;
}

/* Writes the time as HH:MM:SS.microseconds, or, for JSON, with the date and nanoseconds. */
static void format_time(const struct ringmsg_metadata *metadata, int with_date, char *text, size_t size)
{
    time_t seconds = (time_t)(metadata->software_timestamp_ns / 1000000000);
    long ns = (long)(metadata->software_timestamp_ns % 1000000000);
    struct tm parts;
    snprintf(text, size, "-");
    if (!(metadata->valid & RINGMSG_META_SOFTWARE_TIMESTAMP))
        return;
    gmtime_r(&seconds, &parts);
    size_t length = strftime(text, size, with_date ? "%Y-%m-%dT%H:%M:%S" : "%H:%M:%S", &parts);
    if (with_date)
        snprintf(text + length, size - length, ".%09ldZ", ns);
    else
        snprintf(text + length, size - length, ".%06ld", ns / 1000);
}

static const char *interface_of(const struct ringmsg_metadata *metadata, char name[IF_NAMESIZE])
{
    if (!(metadata->valid & RINGMSG_META_INTERFACE) ||
        if_indextoname(metadata->interface_index, name) == NULL)
        return "-";
    for (char *at = name; *at != '\0'; at++) /* what JSON would have to escape */
        if (*at == '"' || *at == '\\')
            *at = '?';
    return printable(name);
}

void print_heading(const struct colours *colours)
{
    printf("%s%-15s  %-28s  %-22s  %-8s  %4s  %3s  %3s  %6s  %-13s  %s%s\n", colours->bold, "time (UTC)",
           "source", "destination", "device", "dscp", "ecn", "ttl", "bytes", "train", "payload",
           colours->plain);
}

void print_row(const struct datagram *d)
{
    char time[40], address[64], source[80], destination[64], device[IF_NAMESIZE], train[32] = "-", text[25];
    const struct ringmsg_record *record = d->record;
    const struct ringmsg_metadata *m = d->metadata;
    size_t shown = record->payload_length < sizeof text - 1 ? record->payload_length : sizeof text - 1;
    format_time(m, 0, time, sizeof time);
    snprintf(source, sizeof source, d->family == AF_INET6 ? "[%s]:%u" : "%s:%u",
             text_of(d->family, d->source, address, sizeof address), (unsigned)m->source_port);
    if (record->flags & RINGMSG_RECORD_SEGMENT)
        snprintf(train, sizeof train, "%u of %u", record->segment + 1u, (unsigned)record->segments);
    for (size_t i = 0; i < shown; i++)
        text[i] = (char)(d->payload[i] >= 0x20 && d->payload[i] < 0x7f ? d->payload[i] : '.');
    text[shown] = '\0';
    printf("%-15s  %-28s  %-22s  %-8s  %4u  %3u  %3u  %6u  %-13s  %s%s\n", time, source,
           text_of(d->family, d->destination, destination, sizeof destination), interface_of(m, device),
           m->traffic_class >> 2, m->traffic_class & 3u, (unsigned)m->hop_limit, record->payload_length,
           train, text, record->flags & RINGMSG_RECORD_TRUNCATED ? " (truncated)" : "");
}

void print_json(const struct datagram *d)
{
    char time[40], address[64], device[IF_NAMESIZE];
    const struct ringmsg_record *record = d->record;
    const struct ringmsg_metadata *m = d->metadata;
    format_time(m, 1, time, sizeof time);
    printf("{\"time\":\"%s\",\"source\":\"%s\",\"source_port\":%u", time,
           text_of(d->family, d->source, address, sizeof address), (unsigned)m->source_port);
    printf(",\"destination\":\"%s\",\"destination_port\":%u,\"device\":\"%s\"",
           text_of(d->family, d->destination, address, sizeof address), (unsigned)d->port,
           interface_of(m, device));
    printf(",\"traffic_class\":%u,\"ecn\":%u,\"hop_limit\":%u", (unsigned)m->traffic_class,
           m->traffic_class & 3u, (unsigned)m->hop_limit);
    printf(",\"length\":%u,\"wire_length\":%u,\"truncated\":%s", record->payload_length,
           record->wire_length, record->flags & RINGMSG_RECORD_TRUNCATED ? "true" : "false");
    printf(",\"segment_size\":%u,\"segment\":%u,\"segments\":%u,\"dropped\":%u,\"payload\":\"",
           record->segment_size, (unsigned)record->segment, (unsigned)record->segments, m->dropped);
    for (uint32_t i = 0; i < record->payload_length; i++)
        printf("%02x", d->payload[i]);
    printf("\"}\n");
}
