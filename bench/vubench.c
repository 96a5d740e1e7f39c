/*
 * vubench: a vfio-user client that measures a server. It needs nothing but libc and knows no
 * server in particular; the interrupt and DMA operations expect the bench device's registers
 * (README.md). After an operation that dead-locked or lost the stream it reconnects and goes on.
 *
 * Exit status: 0, 1 if an operation failed, 2 for a mistake on the command line.
 */
#define _GNU_SOURCE
#include <err.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "connection.h"
#include "measure.h"
#include "operations.h"

static const char usage[] =
    "usage: vubench --sock PATH [options]\n"
    "  --ops A,B,..     what to measure: version reconnect getinfo regioninfo reset readN writeN\n"
    "                   (N is 4, 64, 4k, 1m ..) readpipe writepipe posted4 multi irq dmamap\n"
    "                   dmamap0 dmamany dmafd dmafdw dmamsg dmamsgw dirty migread migprecopy\n"
    "                   migwrite state hold\n"
    "  --count N        repetitions of each; for migration the passes through the stream\n"
    "  --region N       region to access (0)\n"
    "  --offset X       where in it (0x1000)\n"
    "  --depth N        requests in flight (32)\n"
    "  --chunk BYTES    bytes of a migration message (1 MiB)\n"
    "  --maps N         regions of dmamany (64)\n"
    "  --mapsize BYTES  guest memory (16 MiB)\n"
    "  --unsealed       leave guest memory unsealed against shrinking\n"
    "  --twin           ask for a twin socket\n"
    "  --minor N        protocol version 0.N (1)\n"
    "  --max-xfer BYTES our max_data_xfer_size (1 MiB)\n"
    "  --split-writes   send header and payload separately\n"
    "  --sndbuf BYTES   send buffer of the socket\n"
    "  --server-pid N   report the processor time of that process per operation\n"
    "  --json           print an array of objects\n";

static const char default_operations[] =
    "version,getinfo,regioninfo,read4,read8,read64,read4k,write4,write4k,read1m,write32k,"
    "readpipe,writepipe,posted4,multi,irq,dmamap,dmamap0,dmamany,dmafd,dmafdw,dmamsg,dmamsgw,"
    "dirty,migread,migprecopy,migwrite,reset";

static const char *operations = default_operations;

static const struct option long_options[] = {
    { "sock", 1, 0, 's' },         { "ops", 1, 0, 'p' },        { "count", 1, 0, 'c' },
    { "region", 1, 0, 'r' },       { "offset", 1, 0, 'o' },     { "depth", 1, 0, 'd' },
    { "chunk", 1, 0, 'k' },        { "maps", 1, 0, 'N' },       { "mapsize", 1, 0, 'M' },
    { "unsealed", 0, 0, 'U' },     { "twin", 0, 0, 't' },       { "minor", 1, 0, 'm' },
    { "max-xfer", 1, 0, 'x' },     { "split-writes", 0, 0, 'S' }, { "sndbuf", 1, 0, 'B' },
    { "server-pid", 1, 0, 'P' },   { "json", 0, 0, 'j' },       { 0 },
};

static bool parse_option(int option, const char *value)
{
    uint64_t number = value != NULL ? strtoull(value, NULL, 0) : 0;
    switch (option) {
    case 's': settings.socket_path = value; return true;
    case 'p': operations = value; return true;
    case 'c': workload.count = (unsigned)number; return true;
    case 'r': workload.region = (uint32_t)number; return true;
    case 'o': workload.offset = number; return true;
    case 'd': workload.depth = (unsigned)number; return true;
    case 'k': workload.chunk = number; return true;
    case 'N': workload.maps = (unsigned)number; return true;
    case 'M': settings.guest_bytes = number; return true;
    case 'U': settings.unsealed = true; return true;
    case 't': settings.twin = true; return true;
    case 'm': settings.minor = (unsigned)number; return true;
    case 'x': settings.max_data_transfer = number; return true;
    case 'S': settings.split_writes = true; return true;
    case 'B': settings.send_buffer = (int)number; return true;
    case 'P': reporting.server_pid = (int)number; return true;
    case 'j': reporting.json = true; return true;
    default: return false;
    }
}

static void run(const char *name)
{
    static const char *const reasons[] = {
        [STALLED_SEND] = "dead-lock: the server stopped reading",
        [STALLED_RECV] = "the server stopped answering",
        [LOST_FRAMING] = "the stream lost its framing",
        [CONNECTION_CLOSED] = "the server closed the connection",
    };
    struct measure none = { .name = name };
    int reason = setjmp(abandon);
    if (reason != 0) {
        abandon_armed = false;
        measure_failed(&none, "%s; reconnecting", reasons[reason]);
        connection_close();
        connection_open();
        return;
    }
    abandon_armed = true;
    if (!operation_run(name))
        errx(2, "unknown operation %s", name);
    abandon_armed = false;
}

int main(int argc, char **argv)
{
    for (int option; (option = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        if (!parse_option(option, optarg)) {
            fputs(usage, stderr);
            return 2;
        }
    }
    if (settings.socket_path == NULL) {
        fputs(usage, stderr);
        return 2;
    }
    struct measure connected;
    measure_begin(&connected, "version", 1);
    uint64_t start = now_ns();
    connection_open();
    measure_sample(&connected, connected.elapsed = now_ns() - start);
    connected.operations = 1;
    connected.whole = false;
    fprintf(stderr, "connected in %.1f us: version 0.%u, capabilities %s%s\n",
            (double)connected.elapsed / 1e3, connection.minor, connection.capabilities,
            connection.twin_fd >= 0 ? " (twin socket)" : "");

    char *list = strdup(operations);
    for (char *name = strtok(list, ","); name != NULL; name = strtok(NULL, ",")) {
        if (strcmp(name, "version") == 0)
            measure_end(&connected, "connect and VERSION, once");
        else
            run(name);
    }
    reporting_end();
    free(connected.samples);
    free(list);
    struct rusage usage_of_client;
    getrusage(RUSAGE_SELF, &usage_of_client);
    fprintf(stderr, "client cpu: user %ld.%02ld s sys %ld.%02ld s\n",
            usage_of_client.ru_utime.tv_sec, usage_of_client.ru_utime.tv_usec / 10000,
            usage_of_client.ru_stime.tv_sec, usage_of_client.ru_stime.tv_usec / 10000);
    return any_failed ? 1 : 0;
}
