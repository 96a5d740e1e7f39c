/*
 * yardstick: the least vfio-user server, for calibration.
 *
 * It makes the system calls and the allocations of the usual C implementation and nothing more:
 * recvmsg of a 16-byte header, malloc, recv of the payload, one sendmsg of header and payload,
 * free. What it takes for a request is what this machine, its kernel and its present load cost,
 * so recorded figures of another server can be carried over to this machine (reference.ts).
 *
 *   yardstick SOCKET [STATE_MIB]
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

#define BAR0_BYTES (1u << 20)
#define TRANSFER_LIMIT (1u << 20)
#define PAYLOAD_LIMIT (TRANSFER_LIMIT + 64)
#define REGION_LIMIT 256
#define VECTORS 32
#define FD_LIMIT 8

static const char capabilities[] =
    "{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}";

struct request {
    struct header header;
    uint8_t *in, *out;         /* payloads, from malloc */
    size_t in_bytes, out_bytes;
    int fds[FD_LIMIT];
    int fd_count;
};

struct mapping { uint64_t address, size; void *memory; int fd; };

static uint8_t *bar0, *state;
static size_t state_bytes, state_at;
static uint32_t device_state = STATE_RUNNING;
static struct mapping mappings[REGION_LIMIT];
static int vectors[VECTORS];

/* Allocates the reply's payload. */
static void *reply(struct request *r, size_t bytes)
{
    r->out = malloc(bytes);
    if (r->out == NULL)
        err(1, "reply");
    r->out_bytes = bytes;
    return r->out;
}

static int handle_version(struct request *r)
{
    struct version version = { 0, 0 };
    if (r->in_bytes < sizeof version)
        return EINVAL;
    memcpy(&version, r->in, sizeof version);
    memcpy(reply(r, sizeof version + sizeof capabilities), &version, sizeof version);
    memcpy(r->out + sizeof version, capabilities, sizeof capabilities);
    return 0;
}

static int handle_info(struct request *r)
{
    struct device_info info = { sizeof info, 3, 9, 5 };
    memcpy(reply(r, sizeof info), &info, sizeof info);
    return 0;
}

static int handle_region_info(struct request *r)
{
    struct region_info info;
    if (r->in_bytes < sizeof info)
        return EINVAL;
    memcpy(&info, r->in, sizeof info);
    info = (struct region_info){ .argsz = sizeof info, .index = info.index };
    if (info.index == 0) {
        info.flags = 3;
        info.size = BAR0_BYTES;
    }
    memcpy(reply(r, sizeof info), &info, sizeof info);
    return 0;
}

static int handle_region(struct request *r, bool writing)
{
    struct region_access access;
    if (r->in_bytes < sizeof access)
        return EINVAL;
    memcpy(&access, r->in, sizeof access);
    if (access.region != 0 || access.count > BAR0_BYTES ||
        access.offset > BAR0_BYTES - access.count)
        return EINVAL;
    if (writing && r->in_bytes - sizeof access < access.count)
        return EINVAL;
    reply(r, sizeof access + (writing ? 0 : access.count));
    memcpy(r->out, &access, sizeof access);
    if (!writing) {
        memcpy(r->out + sizeof access, bar0 + access.offset, access.count);
        return 0;
    }
    memcpy(bar0 + access.offset, r->in + sizeof access, access.count);
    if (access.offset == BENCH_DOORBELL && access.count == sizeof(uint32_t)) {
        uint32_t vector;
        memcpy(&vector, bar0 + BENCH_DOORBELL, sizeof vector);
        uint64_t one = 1;
        if (vector < VECTORS && vectors[vector] >= 0 &&
            write(vectors[vector], &one, sizeof one) != sizeof one)
            warn("eventfd");
    }
    return 0;
}

static int handle_irqs(struct request *r)
{
    struct irq_set set;
    if (r->in_bytes < sizeof set)
        return EINVAL;
    memcpy(&set, r->in, sizeof set);
    if (set.index != IRQ_INDEX_MSIX || set.count > VECTORS || set.start > VECTORS - set.count)
        return EINVAL;
    uint32_t first = set.count == 0 ? 0 : set.start;
    uint32_t last = set.count == 0 ? VECTORS : set.start + set.count;
    for (uint32_t i = first; i < last; i++) {
        if (vectors[i] >= 0)
            close(vectors[i]);
        vectors[i] = -1;
        if (r->fd_count > 0)
            vectors[i] = r->fds[--r->fd_count];
    }
    return 0;
}

static int handle_map(struct request *r)
{
    struct dma_map map;
    if (r->in_bytes < sizeof map)
        return EINVAL;
    memcpy(&map, r->in, sizeof map);
    struct mapping *free_slot = NULL;
    for (int i = 0; i < REGION_LIMIT && free_slot == NULL; i++)
        if (mappings[i].size == 0)
            free_slot = &mappings[i];
    if (free_slot == NULL || map.size == 0)
        return EINVAL;
    *free_slot = (struct mapping){ map.address, map.size, NULL, -1 };
    if (r->fd_count == 0)
        return 0;
    struct stat file;
    int fd = r->fds[0];
    if (fstat(fd, &file) != 0 || fcntl(fd, F_GETFL) < 0) {
        free_slot->size = 0;
        return EINVAL;
    }
    void *memory = mmap(NULL, map.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)map.offset);
    if (memory == MAP_FAILED) {
        free_slot->size = 0;
        return errno;
    }
    madvise(memory, map.size, MADV_DONTDUMP);
    free_slot->memory = memory;
    free_slot->fd = fd;
    r->fd_count = 0;
    return 0;
}

static void release(struct mapping *m)
{
    if (m->memory != NULL)
        munmap(m->memory, m->size);
    if (m->fd >= 0)
        close(m->fd);
    *m = (struct mapping){ .fd = -1 };
}

static int handle_unmap(struct request *r)
{
    struct dma_unmap unmap;
    bool found = false;
    if (r->in_bytes < sizeof unmap)
        return EINVAL;
    memcpy(&unmap, r->in, sizeof unmap);
    bool all = (unmap.flags & UNMAP_ALL) != 0;
    for (int i = 0; i < REGION_LIMIT && (all || !found); i++) {
        struct mapping *m = &mappings[i];
        if (m->size == 0 || (!all && (m->address != unmap.address || m->size != unmap.size)))
            continue;
        release(m);
        found = true;
    }
    if (!found && !all)
        return ENOENT;
    memcpy(reply(r, sizeof unmap), &unmap, sizeof unmap);
    return 0;
}

static int handle_feature(struct request *r)
{
    struct feature head;
    if (r->in_bytes < sizeof head)
        return EINVAL;
    memcpy(&head, r->in, sizeof head);
    if (head.flags == (FEATURE_GET | FEATURE_MIGRATION)) {
        uint64_t modes = 1 | MIGRATION_PRE_COPY;
        memcpy(reply(r, sizeof head + sizeof modes), &head, sizeof head);
        memcpy(r->out + sizeof head, &modes, sizeof modes);
        return 0;
    }
    struct device_state now = { device_state, 0 };
    bool set = head.flags == (FEATURE_SET | FEATURE_DEVICE_STATE);
    if (!set && head.flags != (FEATURE_GET | FEATURE_DEVICE_STATE))
        return EINVAL;
    if (set) {
        if (r->in_bytes < sizeof head + sizeof now)
            return EINVAL;
        memcpy(&now, r->in + sizeof head, sizeof now);
        device_state = now.state;
        state_at = 0;
    }
    memcpy(reply(r, sizeof head + sizeof now), &head, sizeof head);
    memcpy(r->out + sizeof head, &now, sizeof now);
    return 0;
}

static int handle_mig_data(struct request *r, bool writing)
{
    struct mig_data data;
    if (r->in_bytes < sizeof data)
        return EINVAL;
    memcpy(&data, r->in, sizeof data);
    if (data.size > TRANSFER_LIMIT || (writing && r->in_bytes - sizeof data < data.size))
        return EINVAL;
    size_t left = state_bytes - state_at;
    size_t bytes = data.size < left ? data.size : left;
    if (writing) {
        if (bytes < data.size)
            return ENOSPC;
        memcpy(state + state_at, r->in + sizeof data, bytes);
    } else {
        data.size = (uint32_t)bytes;
        memcpy(reply(r, sizeof data + bytes), &data, sizeof data);
        memcpy(r->out + sizeof data, state + state_at, bytes);
    }
    state_at += bytes;
    return 0;
}

static int handle(struct request *r)
{
    switch (r->header.command) {
    case CMD_VERSION: return handle_version(r);
    case CMD_DMA_MAP: return handle_map(r);
    case CMD_DMA_UNMAP: return handle_unmap(r);
    case CMD_GET_INFO: return handle_info(r);
    case CMD_GET_REGION_INFO: return handle_region_info(r);
    case CMD_SET_IRQS: return handle_irqs(r);
    case CMD_REGION_READ: return handle_region(r, false);
    case CMD_REGION_WRITE: return handle_region(r, true);
    case CMD_RESET: return 0;
    case CMD_FEATURE: return handle_feature(r);
    case CMD_MIG_DATA_READ: return handle_mig_data(r, false);
    case CMD_MIG_DATA_WRITE: return handle_mig_data(r, true);
    default: return EINVAL;
    }
}

/*
 * The payload comes by one recv. MSG_WAITALL makes that safe for payloads of any size and does
 * not change the number of calls.
 */
static bool receive(int fd, struct request *r)
{
    char control[CMSG_SPACE(sizeof(int) * FD_LIMIT)];
    struct iovec vector = { &r->header, sizeof r->header };
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1,
        .msg_control = control, .msg_controllen = sizeof control,
    };
    ssize_t got = recvmsg(fd, &message, 0);
    if (got != sizeof r->header || r->header.size < sizeof r->header ||
        r->header.size - sizeof r->header > PAYLOAD_LIMIT)
        return false;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        r->fd_count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(r->fds, CMSG_DATA(c), (size_t)r->fd_count * sizeof(int));
    }
    r->in_bytes = r->header.size - sizeof r->header;
    if (r->in_bytes == 0)
        return true;
    r->in = malloc(r->in_bytes);
    if (r->in == NULL)
        err(1, "request");
    return recv(fd, r->in, r->in_bytes, MSG_WAITALL) == (ssize_t)r->in_bytes;
}

static bool answer(int fd, struct request *r, int error)
{
    if (r->header.flags & FLAG_NO_REPLY)
        return true;
    r->header.flags = FLAG_REPLY | (error != 0 ? FLAG_ERROR : 0);
    r->header.error = (uint32_t)error;
    size_t bytes = error != 0 ? 0 : r->out_bytes;
    r->header.size = (uint32_t)(sizeof r->header + bytes);
    struct iovec out[2] = { { &r->header, sizeof r->header }, { r->out, bytes } };
    struct msghdr message = { .msg_iov = out, .msg_iovlen = 2 };
    return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)r->header.size;
}

/* Serves one client until it leaves or breaks the protocol. */
static void serve(int fd)
{
    for (bool open = true; open;) {
        struct request *r = calloc(1, sizeof *r);
        if (r == NULL)
            err(1, "request");
        open = receive(fd, r) && answer(fd, r, handle(r));
        while (r->fd_count > 0)
            close(r->fds[--r->fd_count]);
        free(r->in);
        free(r->out);
        free(r);
    }
    for (int i = 0; i < REGION_LIMIT; i++)
        release(&mappings[i]);
    for (int i = 0; i < VECTORS; i++) {
        if (vectors[i] >= 0)
            close(vectors[i]);
        vectors[i] = -1;
    }
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc < 2)
        errx(2, "usage: yardstick SOCKET [STATE_MIB]");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
    state_bytes = (argc > 2 ? strtoul(argv[2], NULL, 0) : 64) << 20;
    bar0 = calloc(1, BAR0_BYTES);
    state = malloc(state_bytes);
    if (bar0 == NULL || state == NULL)
        err(1, "memory");
    memset(state, 0x42, state_bytes);
    /* No DMA engine: whoever starts it reads this status. */
    const int32_t unsupported = EOPNOTSUPP;
    memcpy(bar0 + BENCH_DMA_STATUS, &unsupported, sizeof unsupported);
    for (int i = 0; i < REGION_LIMIT; i++)
        mappings[i].fd = -1;
    for (int i = 0; i < VECTORS; i++)
        vectors[i] = -1;
    unlink(argv[1]);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (void *)&address, sizeof address) != 0 ||
        listen(listener, 1) != 0)
        err(1, "%s", argv[1]);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            err(1, "accept");
        serve(fd);
    }
}
