/* vubench operations: migration data, device state, dirty logging. */
#define _GNU_SOURCE
#include <err.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "connection.h"
#include "measure.h"
#include "operations.h"

/* A stream longer than this is measured up to here. */
#define STREAM_LIMIT (512u << 20)

static int feature(uint32_t flags, uint32_t argsz, const void *data, size_t bytes, size_t *reply)
{
    struct feature head = { argsz, flags };
    return call(CMD_FEATURE, &head, sizeof head, data, bytes, -1, reply);
}

static int set_state(uint32_t state)
{
    struct device_state data = { state, 0 };
    return feature(FEATURE_SET | FEATURE_DEVICE_STATE,
                   sizeof(struct feature) + sizeof data, &data, sizeof data, NULL);
}

static void back_to_running(void)
{
    set_state(STATE_STOP);
    set_state(STATE_RUNNING);
}

static size_t chunk_bytes(void)
{
    size_t chunk = workload.chunk;
    if (chunk > connection.max_data_transfer)
        chunk = connection.max_data_transfer;
    return chunk > settings.max_data_transfer ? settings.max_data_transfer : chunk;
}

/* One MIG_DATA_READ; the data begins at connection.payload + sizeof(struct mig_data). */
static int read_chunk(size_t chunk, size_t *got, uint64_t *padding)
{
    struct mig_data request = { (uint32_t)(sizeof request + chunk), (uint32_t)chunk };
    size_t bytes;
    int error = call(CMD_MIG_DATA_READ, &request, sizeof request, NULL, 0, -1, &bytes);
    if (error != 0)
        return error;
    memcpy(&request, connection.payload, sizeof request);
    *got = request.size;
    if (bytes > sizeof request + *got)
        *padding += bytes - sizeof request - *got;
    return 0;
}

/* Reads the stream once; a reply shorter than the request ends it. */
static int read_stream(struct measure *m, size_t chunk, uint64_t *padding)
{
    for (uint64_t total = 0; total < STREAM_LIMIT;) {
        size_t got = 0;
        uint64_t t = now_ns();
        int error = read_chunk(chunk, &got, padding);
        t = now_ns() - t;
        if (error != 0)
            return error;
        measure_sample(m, t);
        m->elapsed += t;
        m->operations++;
        m->bytes += got;
        total += got;
        if (got < chunk)
            break;
    }
    return 0;
}

static bool supported(struct measure *m, bool precopy)
{
    size_t bytes;
    uint64_t flags = 0;
    int error = feature(FEATURE_GET | FEATURE_MIGRATION, 16, NULL, 0, &bytes);
    if (error != 0) {
        measure_unavailable(m, "no migration: %s", strerror(error));
        return false;
    }
    if (bytes >= sizeof(struct feature) + sizeof flags)
        memcpy(&flags, connection.payload + sizeof(struct feature), sizeof flags);
    if (precopy && !(flags & MIGRATION_PRE_COPY)) {
        measure_unavailable(m, "no PRE_COPY");
        return false;
    }
    return true;
}

static void mig_read(const char *name, uint32_t state)
{
    struct measure m;
    unsigned passes = repetitions(4);
    size_t chunk = chunk_bytes();
    measure_begin(&m, name, 1 << 20);
    if (!supported(&m, state == STATE_PRE_COPY))
        return;
    uint64_t padding = 0;
    int error = 0;
    for (unsigned i = 0; i < passes && error == 0; i++) {
        if ((error = set_state(state)) == 0)
            error = read_stream(&m, chunk, &padding);
        if (state == STATE_PRE_COPY)
            set_state(STATE_STOP_COPY);
        back_to_running();
    }
    if (error != 0)
        measure_failed(&m, "%s", strerror(error));
    else
        measure_end(&m, "chunk %zu, %.1f MiB a pass, padding %" PRIu64 " B", chunk,
                    (double)m.bytes / passes / 1048576.0, padding / passes);
}

void run_mig_read(const char *name)
{
    mig_read(name, STATE_STOP_COPY);
}

void run_mig_precopy(const char *name)
{
    mig_read(name, STATE_PRE_COPY);
}

/* Saves the device, so that what is written later is a stream that the server can accept. */
static uint8_t *save(size_t *length, int *error)
{
    size_t chunk = settings.max_data_transfer < connection.max_data_transfer
                       ? settings.max_data_transfer
                       : connection.max_data_transfer;
    uint8_t *stream = malloc(STREAM_LIMIT);
    uint64_t padding = 0;
    if (stream == NULL)
        err(1, "stream");
    *length = 0;
    *error = set_state(STATE_STOP_COPY);
    for (size_t got = chunk; *error == 0 && got == chunk && *length + chunk <= STREAM_LIMIT;) {
        *error = read_chunk(chunk, &got, &padding);
        if (*error != 0)
            break;
        memcpy(stream + *length, connection.payload + sizeof(struct mig_data), got);
        *length += got;
    }
    set_state(STATE_STOP);
    return stream;
}

/*
 * Writes the stream once. Only the messages are timed: each chunk is first copied to one warm
 * buffer, as if it had just arrived from a network.
 */
static int write_stream(struct measure *m, const uint8_t *stream, size_t length, size_t chunk)
{
    uint8_t *warm = malloc(chunk);
    int error = warm == NULL ? -1 : 0;
    for (size_t at = 0; at < length && error == 0;) {
        size_t bytes = length - at < chunk ? length - at : chunk;
        struct mig_data request = { (uint32_t)(sizeof request + bytes), (uint32_t)bytes };
        memcpy(warm, stream + at, bytes);
        uint64_t t = now_ns();
        error = call(CMD_MIG_DATA_WRITE, &request, sizeof request, warm, bytes, -1, NULL);
        t = now_ns() - t;
        measure_sample(m, t);
        m->elapsed += t;
        m->operations++;
        m->bytes += bytes;
        at += bytes;
    }
    free(warm);
    return error;
}

void run_mig_write(const char *name)
{
    struct measure m, none = { .name = name };
    unsigned passes = repetitions(4);
    size_t chunk = chunk_bytes(), length;
    int error;
    if (!supported(&none, false))
        return;
    uint8_t *stream = save(&length, &error);
    if (error != 0 || length == 0) {
        free(stream);
        set_state(STATE_RUNNING);
        measure_unavailable(&none, "nothing to write back: %s", strerror(error));
        return;
    }
    measure_begin(&m, name, 1 << 20);
    for (unsigned i = 0; i < passes && error == 0; i++) {
        if ((error = set_state(STATE_RESUMING)) == 0)
            error = write_stream(&m, stream, length, chunk);
        int refused = set_state(STATE_STOP);
        if (error == 0)
            error = refused;
    }
    free(stream);
    set_state(STATE_RUNNING);
    if (error != 0)
        measure_failed(&m, "chunk %zu, at %" PRIu64 ": %s", chunk, m.bytes, strerror(error));
    else
        measure_end(&m, "chunk %zu, %.1f MiB a pass", chunk, (double)length / 1048576.0);
}

void run_state(const char *name)
{
    struct measure none = { .name = name };
    size_t bytes;
    struct device_state state = { 0 };
    int error = feature(FEATURE_GET | FEATURE_DEVICE_STATE, 16, NULL, 0, &bytes);
    if (error != 0 || bytes < sizeof(struct feature) + sizeof state) {
        measure_unavailable(&none, "no device state: %s", strerror(error));
        return;
    }
    memcpy(&state, connection.payload + sizeof(struct feature), sizeof state);
    measure_unavailable(&none, "device_state %u", state.state);
}

/* DMA_LOGGING_REPORT of all of guest memory, again and again. */
void run_dirty(const char *name)
{
    struct measure m;
    unsigned count = repetitions(20000);
    guest_open();
    measure_begin(&m, name, count);
    int error = dma_map(guest.address, guest.size, guest.fd);
    if (error != 0) {
        measure_failed(&m, "DMA_MAP: %s", strerror(error));
        return;
    }
    struct logging_start start = { 4096, 0, 0 };
    error = feature(FEATURE_SET | FEATURE_LOGGING_START, sizeof(struct feature) + sizeof start,
                    &start, sizeof start, NULL);
    if (error != 0) {
        dma_unmap(guest.address, guest.size, 0);
        measure_unavailable(&m, "DMA_LOGGING_START: %s", strerror(error));
        return;
    }
    size_t bitmap = (guest.size / 4096 + 63) / 64 * 8;
    struct logging_report report = { guest.address, guest.size, 4096 };
    uint32_t argsz = (uint32_t)(sizeof(struct feature) + sizeof report + bitmap);
    for (unsigned i = 0; i < count && error == 0; i++) {
        uint64_t t = now_ns();
        error = feature(FEATURE_GET | FEATURE_LOGGING_REPORT, argsz, &report, sizeof report, NULL);
        measure_sample(&m, now_ns() - t);
    }
    m.operations = count;
    m.bytes = count * bitmap;
    if (error != 0)
        measure_failed(&m, "DMA_LOGGING_REPORT: %s", strerror(error));
    else
        measure_end(&m, "%zu MiB range, bitmap %zu B", guest.size >> 20, bitmap);
    feature(FEATURE_SET | FEATURE_LOGGING_STOP, sizeof(struct feature), NULL, 0, NULL);
    dma_unmap(guest.address, guest.size, 0);
}
