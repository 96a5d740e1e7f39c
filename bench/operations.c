/* vubench operations: information, region access, interrupts; and the table of all of them. */
#define _GNU_SOURCE
#include "operations.h"

#include <err.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "connection.h"
#include "measure.h"

#define MULTI_WRITES 64
#define INTERRUPT_WAIT_MS 2000
#define ACCESS_LIMIT (64u << 20)

struct workload workload = {
    .offset = BENCH_SCRATCH, .depth = 32, .maps = 64, .chunk = 1 << 20,
};

unsigned repetitions(unsigned otherwise)
{
    return workload.count > 0 ? workload.count : otherwise;
}

static struct region_access access_at(uint64_t offset, size_t bytes)
{
    return (struct region_access){ offset, workload.region, (uint32_t)bytes };
}

static void close_received(void)
{
    while (connection.fd_count > 0)
        close(connection.fds[--connection.fd_count]);
}

/* readN and writeN: one request at a time. */
static void run_access(const char *name, bool write, size_t size)
{
    struct measure m;
    unsigned count = repetitions(size >= 65536 ? 5000 : 100000);
    uint8_t *data = calloc(1, size);
    struct region_access access = access_at(size >= 1 << 20 ? 0 : workload.offset, size);
    size_t expected = sizeof access + (write ? 0 : size);
    if (data == NULL)
        err(1, "data");
    measure_begin(&m, name, count);
    for (unsigned i = 0; i < count; i++) {
        size_t bytes;
        uint64_t t = now_ns();
        int error = call(write ? CMD_REGION_WRITE : CMD_REGION_READ, &access, sizeof access, data,
                         write ? size : 0, -1, &bytes);
        measure_sample(&m, now_ns() - t);
        if (error != 0 || bytes != expected) {
            measure_failed(&m, "%s, reply of %zu after %u", strerror(error), bytes, i);
            free(data);
            return;
        }
    }
    m.operations = count;
    m.bytes = (uint64_t)count * size;
    measure_end(&m, "one at a time");
    free(data);
}

/* readpipe and writepipe: `depth` requests of 4 bytes in flight. */
static void pipeline(const char *name, uint16_t command, size_t body)
{
    struct measure m;
    unsigned count = repetitions(200000), sent = 0, done = 0;
    uint16_t first = connection.next_id;
    uint32_t data = 0;
    struct region_access access = access_at(workload.offset, sizeof data);
    measure_begin(&m, name, 0);
    while (done < count) {
        for (; sent < count && sent - done < workload.depth; sent++)
            send_command(command, 0, &access, sizeof access, &data, body, NULL, 0);
        int error = wait_reply((uint16_t)(first + done), NULL);
        if (error != 0) {
            measure_failed(&m, "%s after %u", strerror(error), done);
            return;
        }
        done++;
    }
    m.operations = count;
    m.bytes = (uint64_t)count * sizeof data;
    measure_end(&m, "%u in flight", workload.depth);
}

static void run_read_pipe(const char *name)
{
    pipeline(name, CMD_REGION_READ, 0);
}

static void run_write_pipe(const char *name)
{
    pipeline(name, CMD_REGION_WRITE, sizeof(uint32_t));
}

/* posted4: writes without replies, then one read that proves that all have been served. */
static void run_posted(const char *name)
{
    struct measure m;
    unsigned count = repetitions(200000);
    uint32_t data = 0;
    struct region_access access = access_at(workload.offset, sizeof data);
    measure_begin(&m, name, 0);
    for (unsigned i = 0; i < count; i++)
        send_command(CMD_REGION_WRITE, FLAG_NO_REPLY, &access, sizeof access, &data, sizeof data,
                     NULL, 0);
    int error = call(CMD_REGION_READ, &access, sizeof access, NULL, 0, -1, NULL);
    if (error != 0) {
        measure_failed(&m, "the read behind the writes: %s", strerror(error));
        return;
    }
    m.operations = count;
    m.bytes = (uint64_t)count * sizeof data;
    measure_end(&m, "no reply, a read at the end");
}

static void run_multi(const char *name)
{
    struct measure m;
    unsigned count = repetitions(20000);
    uint64_t writes = MULTI_WRITES, done = 0;
    struct multi_write list[MULTI_WRITES] = { 0 };
    for (unsigned i = 0; i < MULTI_WRITES; i++)
        list[i] = (struct multi_write){
            .offset = workload.offset + 8 * i, .region = workload.region, .count = 8,
        };
    measure_begin(&m, name, count);
    for (unsigned i = 0; i < count; i++) {
        size_t bytes;
        uint64_t t = now_ns();
        int error = call(CMD_REGION_WRITE_MULTI, &writes, sizeof writes, list, sizeof list, -1,
                         &bytes);
        measure_sample(&m, now_ns() - t);
        if (error != 0) {
            measure_unavailable(&m, "%s (the server %s write_multiple)", strerror(error),
                                connection.write_multiple ? "offers" : "does not offer");
            return;
        }
        if (bytes == sizeof done)
            memcpy(&done, connection.payload, sizeof done);
        if (done != MULTI_WRITES) {
            measure_failed(&m, "reply of %zu bytes", bytes);
            return;
        }
    }
    m.operations = (uint64_t)count * MULTI_WRITES;
    m.bytes = m.operations * 8;
    measure_end(&m, "%d writes a message", MULTI_WRITES);
}

/* irq: a posted doorbell write until the eventfd of MSI-X vector 0 is readable. */
static void run_irq(const char *name)
{
    struct measure m;
    unsigned count = repetitions(50000);
    uint32_t vector = 0;
    int event = eventfd(0, EFD_CLOEXEC);
    struct irq_set set = {
        sizeof set, IRQ_DATA_EVENTFD | IRQ_ACTION_TRIGGER, IRQ_INDEX_MSIX, 0, 1,
    };
    struct region_access access = access_at(BENCH_DOORBELL, sizeof vector);
    bool lost = false;
    int error = call(CMD_SET_IRQS, &set, sizeof set, NULL, 0, event, NULL);
    measure_begin(&m, name, count);
    for (unsigned i = 0; i < count && error == 0 && !lost; i++) {
        uint64_t fired, t = now_ns();
        send_command(CMD_REGION_WRITE, FLAG_NO_REPLY, &access, sizeof access, &vector,
                     sizeof vector, NULL, 0);
        struct pollfd p = { event, POLLIN, 0 };
        lost = poll(&p, 1, INTERRUPT_WAIT_MS) <= 0;
        if (!lost && read(event, &fired, sizeof fired) != sizeof fired)
            err(1, "eventfd");
        measure_sample(&m, now_ns() - t);
    }
    m.operations = count;
    if (error != 0)
        measure_failed(&m, "SET_IRQS: %s", strerror(error));
    else if (lost)
        measure_unavailable(&m, "no interrupt within %d ms", INTERRUPT_WAIT_MS);
    else
        measure_end(&m, "posted doorbell write to MSI-X eventfd");
    set.flags = IRQ_DATA_NONE | IRQ_ACTION_TRIGGER;
    set.count = 0;
    call(CMD_SET_IRQS, &set, sizeof set, NULL, 0, -1, NULL);
    close(event);
}

/* A request whose reply is all that matters. */
static void run_request(const char *name, uint16_t command, const void *head, size_t bytes,
                        unsigned otherwise)
{
    struct measure m;
    unsigned count = repetitions(otherwise);
    measure_begin(&m, name, count);
    for (unsigned i = 0; i < count; i++) {
        uint64_t t = now_ns();
        int error = call(command, head, bytes, NULL, 0, -1, NULL);
        measure_sample(&m, now_ns() - t);
        close_received();
        if (error != 0) {
            measure_failed(&m, "%s", strerror(error));
            return;
        }
    }
    m.operations = count;
    measure_end(&m, "one at a time");
}

static void run_info(const char *name)
{
    struct device_info info = { .argsz = sizeof info };
    run_request(name, CMD_GET_INFO, &info, sizeof info, 100000);
}

static void run_region_info(const char *name)
{
    struct region_info info = { .argsz = 4096, .index = workload.region };
    run_request(name, CMD_GET_REGION_INFO, &info, sizeof info, 50000);
}

static void run_reset(const char *name)
{
    run_request(name, CMD_RESET, NULL, 0, 20000);
}

static void run_reconnect(const char *name)
{
    struct measure m;
    unsigned count = repetitions(500);
    measure_begin(&m, name, count);
    for (unsigned i = 0; i < count; i++) {
        connection_close();
        uint64_t t = now_ns();
        connection_open();
        measure_sample(&m, now_ns() - t);
    }
    m.operations = count;
    measure_end(&m, "close, connect, VERSION (20 ms more whenever refused)");
}

/* hold: stays connected until standard input ends. */
static void run_hold(const char *name)
{
    struct measure m;
    char ignored[64];
    measure_begin(&m, name, 0);
    while (read(STDIN_FILENO, ignored, sizeof ignored) > 0)
        continue;
    m.operations = 1;
    measure_end(&m, "connected until standard input ended");
}

static const struct { const char *name; void (*run)(const char *name); } operations[] = {
    { "getinfo", run_info },
    { "regioninfo", run_region_info },
    { "reset", run_reset },
    { "reconnect", run_reconnect },
    { "readpipe", run_read_pipe },
    { "writepipe", run_write_pipe },
    { "posted4", run_posted },
    { "multi", run_multi },
    { "irq", run_irq },
    { "dmamap", run_map },
    { "dmamap0", run_map_nofd },
    { "dmamany", run_map_many },
    { "dmafd", run_dma_fd },
    { "dmafdw", run_dma_fd_fill },
    { "dmamsg", run_dma_message },
    { "dmamsgw", run_dma_message_write },
    { "dirty", run_dirty },
    { "migread", run_mig_read },
    { "migprecopy", run_mig_precopy },
    { "migwrite", run_mig_write },
    { "state", run_state },
    { "hold", run_hold },
};

/* readN and writeN, N with an optional k or m. Returns 0 if `text` is not such a size. */
static size_t access_size(const char *text)
{
    char *rest;
    size_t size = strtoul(text, &rest, 10);
    if (*rest == 'k' || *rest == 'm')
        size <<= *rest++ == 'k' ? 10 : 20;
    return *rest == 0 && size <= ACCESS_LIMIT ? size : 0;
}

bool operation_run(const char *name)
{
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        if (strcmp(name, operations[i].name) == 0) {
            operations[i].run(name);
            return true;
        }
    }
    bool write = strncmp(name, "write", 5) == 0;
    if (!write && strncmp(name, "read", 4) != 0)
        return false;
    size_t size = access_size(name + (write ? 5 : 4));
    if (size == 0)
        return false;
    run_access(name, write, size);
    return true;
}
