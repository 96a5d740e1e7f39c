/* vubench operations: DMA regions, and the device's own DMA. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "connection.h"
#include "measure.h"
#include "operations.h"

static struct region_access register_access(uint64_t offset, size_t bytes)
{
    return (struct region_access){ offset, workload.region, (uint32_t)bytes };
}

static int device_write(uint64_t offset, uint64_t value, size_t bytes)
{
    struct region_access access = register_access(offset, bytes);
    return call(CMD_REGION_WRITE, &access, sizeof access, &value, bytes, -1, NULL);
}

static uint64_t device_read(uint64_t offset, size_t bytes)
{
    struct region_access access = register_access(offset, bytes);
    uint64_t value = 0;
    if (call(CMD_REGION_READ, &access, sizeof access, NULL, 0, -1, NULL) != 0)
        return UINT64_MAX;
    memcpy(&value, connection.payload + sizeof access, bytes);
    return value;
}

int dma_map(uint64_t address, uint64_t bytes, int fd)
{
    struct dma_map map = { sizeof map, DMA_READ_WRITE, 0, address, bytes };
    return call(CMD_DMA_MAP, &map, sizeof map, NULL, 0, fd, NULL);
}

int dma_unmap(uint64_t address, uint64_t bytes, uint32_t flags)
{
    struct dma_unmap unmap = { sizeof unmap, flags, address, bytes };
    return call(CMD_DMA_UNMAP, &unmap, sizeof unmap, NULL, 0, -1, NULL);
}

/* dmamap and dmamap0: one region mapped and unmapped in turn, with and without a descriptor. */
static void map_and_unmap(const char *map_name, const char *unmap_name, bool with_fd)
{
    struct measure map, unmap;
    unsigned count = repetitions(20000);
    const uint64_t bytes = 2 << 20;
    int error = 0;
    guest_open();
    measure_begin(&map, map_name, count);
    measure_begin(&unmap, unmap_name, count);
    map.whole = unmap.whole = false;
    for (unsigned i = 0; i < count && error == 0; i++) {
        uint64_t start = now_ns();
        error = dma_map(guest.address, bytes, with_fd ? guest.fd : -1);
        uint64_t middle = now_ns();
        if (error == 0)
            error = dma_unmap(guest.address, bytes, 0);
        uint64_t end = now_ns();
        measure_sample(&map, middle - start);
        measure_sample(&unmap, end - middle);
        map.elapsed += middle - start;
        unmap.elapsed += end - middle;
    }
    map.operations = unmap.operations = count;
    if (error != 0) {
        measure_failed(&map, "%s", strerror(error));
        measure_failed(&unmap, "%s", strerror(error));
        return;
    }
    measure_end(&map, "2 MiB, map then unmap");
    measure_end(&unmap, "2 MiB, map then unmap");
}

void run_map(const char *name)
{
    (void)name;
    map_and_unmap("dmamap_fd", "dmaunmap_fd", true);
}

void run_map_nofd(const char *name)
{
    (void)name;
    map_and_unmap("dmamap_nofd", "dmaunmap_nofd", false);
}

/* dmamany: many small regions, pipelined, then one UNMAP_ALL. */
void run_map_many(const char *name)
{
    struct measure m;
    unsigned sent = 0, done = 0, mapped = 0;
    uint16_t first = connection.next_id;
    int last_error = 0;
    guest_open();
    measure_begin(&m, name, 0);
    while (done < workload.maps) {
        for (; sent < workload.maps && sent - done < workload.depth; sent++) {
            uint64_t address = guest.address + (uint64_t)sent * (guest.size + 0x10000);
            struct dma_map map = { sizeof map, DMA_READ_WRITE, 0, address, 4096 };
            send_command(CMD_DMA_MAP, 0, &map, sizeof map, NULL, 0, &guest.fd, 1);
        }
        int error = wait_reply((uint16_t)(first + done), NULL);
        if (error == 0)
            mapped++;
        else
            last_error = error;
        done++;
    }
    m.operations = workload.maps;
    measure_end(&m, "%u of %u mapped, 4 KiB each, %u in flight%s%s", mapped, workload.maps,
                workload.depth, last_error ? ", last error " : "",
                last_error ? strerror(last_error) : "");
    measure_begin(&m, "unmap_all", 0);
    int error = dma_unmap(0, 0, UNMAP_ALL);
    m.operations = mapped;
    if (error == 0)
        measure_end(&m, "one message");
    else
        measure_unavailable(&m, "%s", strerror(error));
}

/* The device moves `bytes` of guest memory `repeat` times within one register write. */
static void run_dma(const char *name, enum dma_command command, bool with_fd, uint32_t bytes,
                    uint32_t repeat)
{
    struct measure m;
    guest_open();
    measure_begin(&m, name, 0);
    int error = dma_map(guest.address, guest.size, with_fd ? guest.fd : -1);
    if (error != 0) {
        measure_failed(&m, "DMA_MAP: %s", strerror(error));
        return;
    }
    if (device_write(BENCH_DMA_ADDRESS, guest.address, 8) != 0 ||
        device_write(BENCH_DMA_LENGTH, bytes, 4) != 0 ||
        device_write(BENCH_DMA_REPEAT, repeat, 4) != 0) {
        measure_unavailable(&m, "the device has no DMA registers");
        dma_unmap(guest.address, guest.size, 0);
        return;
    }
    uint64_t start = now_ns();
    error = device_write(BENCH_DMA_COMMAND, command, 4);
    m.elapsed = now_ns() - start;
    uint64_t status = device_read(BENCH_DMA_STATUS, 4);
    uint64_t elapsed = device_read(BENCH_DMA_ELAPSED, 8);
    m.operations = repeat;
    m.bytes = (uint64_t)bytes * repeat;
    m.device_ns = (double)elapsed / repeat;
    if (error != 0 || status != 0)
        measure_unavailable(&m, "%s, device status %d", strerror(error), (int32_t)status);
    else
        measure_end(&m, "%u B, device clock %.3f us%s", bytes, m.device_ns / 1e3,
                    with_fd ? "" : connection.twin_fd >= 0 ? ", twin socket" : ", main socket");
    dma_unmap(guest.address, guest.size, 0);
}

void run_dma_fd(const char *name)
{
    (void)name;
    run_dma("dmafd_4k_rd", DMA_MAPPED_READ, true, 4096, repetitions(200000));
    run_dma("dmafd_1m_rd", DMA_MAPPED_READ, true, 1 << 20, 1000);
}

void run_dma_fd_fill(const char *name)
{
    (void)name;
    run_dma("dmafd_4k_wr", DMA_MAPPED_FILL, true, 4096, repetitions(200000));
}

void run_dma_message(const char *name)
{
    (void)name;
    run_dma("dmamsg_4k_rd", DMA_MESSAGE_READ, false, 4096, repetitions(20000));
    run_dma("dmamsg_512k_rd", DMA_MESSAGE_READ, false, 512 << 10, 500);
}

void run_dma_message_write(const char *name)
{
    (void)name;
    run_dma("dmamsg_4k_wr", DMA_MESSAGE_WRITE, false, 4096, repetitions(20000));
}
