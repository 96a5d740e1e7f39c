/* See connection.h. */
#define _GNU_SOURCE
#include "connection.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* No reply of a server needs more; a larger size means that the stream lost its framing. */
#define MESSAGE_LIMIT (80u << 20)
#define FD_LIMIT 16
#define STALL_SECONDS 5
#define CONNECT_ATTEMPTS 100
#define CONNECT_PAUSE_US 20000

struct settings settings = {
    .max_data_transfer = 1 << 20,
    .guest_bytes = 16 << 20,
    .minor = 1,
};
struct connection connection = { .fd = -1, .twin_fd = -1, .next_id = 1 };
struct guest guest = { .fd = -1, .address = 0x100000000ull };
jmp_buf abandon;
bool abandon_armed;

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void give_up(enum abandon_reason reason)
{
    static const char *const words[] = {
        [STALLED_SEND] = "the server stopped reading",
        [STALLED_RECV] = "the server stopped answering",
        [LOST_FRAMING] = "the stream lost its framing",
        [CONNECTION_CLOSED] = "the server closed the connection",
    };
    if (abandon_armed)
        longjmp(abandon, reason);
    errx(1, "%s", words[reason]);
}

/* A socket error is one of the four ways to give up: the time-outs of the socket read EAGAIN. */
static void socket_failed(enum abandon_reason stalled)
{
    if (errno == EAGAIN)
        give_up(stalled);
    if (errno == EPIPE || errno == ECONNRESET)
        give_up(CONNECTION_CLOSED);
    err(1, "socket");
}

static void send_all(int socket_fd, struct iovec *vectors, size_t count, const int *fds,
                     int fd_count)
{
    char control[CMSG_SPACE(sizeof(int) * FD_LIMIT)] = { 0 };
    struct msghdr message = { .msg_iov = vectors, .msg_iovlen = count };
    if (fd_count > 0) {
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)fd_count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)fd_count);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * (size_t)fd_count);
    }
    while (message.msg_iovlen > 0) {
        ssize_t sent = sendmsg(socket_fd, &message, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR)
                continue;
            socket_failed(STALLED_SEND);
        }
        message.msg_control = NULL;
        message.msg_controllen = 0;
        size_t left = (size_t)sent;
        while (message.msg_iovlen > 0 && left >= message.msg_iov->iov_len) {
            left -= message.msg_iov->iov_len;
            message.msg_iov++;
            message.msg_iovlen--;
        }
        if (message.msg_iovlen > 0) {
            message.msg_iov->iov_base = (char *)message.msg_iov->iov_base + left;
            message.msg_iov->iov_len -= left;
        }
    }
}

static void receive_all(int socket_fd, void *target, size_t bytes)
{
    while (bytes > 0) {
        ssize_t got = recv(socket_fd, target, bytes, MSG_WAITALL);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            socket_failed(STALLED_RECV);
        }
        if (got == 0)
            give_up(CONNECTION_CLOSED);
        target = (char *)target + got;
        bytes -= (size_t)got;
    }
}

/* Takes a whole message: the header, its file descriptors, and the payload. */
static void receive_message(int socket_fd, struct header *header)
{
    char control[CMSG_SPACE(sizeof(int) * FD_LIMIT)];
    struct iovec vector = { header, sizeof *header };
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1,
        .msg_control = control, .msg_controllen = sizeof control,
    };
    ssize_t got;
    do
        got = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        socket_failed(STALLED_RECV);
    if (got == 0)
        give_up(CONNECTION_CLOSED);
    connection.fd_count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        connection.fd_count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(connection.fds, CMSG_DATA(c), (size_t)connection.fd_count * sizeof(int));
    }
    if ((size_t)got < sizeof *header)
        receive_all(socket_fd, (char *)header + got, sizeof *header - (size_t)got);
    if (header->size < sizeof *header || header->size > MESSAGE_LIMIT) {
        warnx("the server sent a message size of %u", header->size);
        give_up(LOST_FRAMING);
    }
    size_t bytes = header->size - sizeof *header;
    if (bytes > connection.payload_capacity) {
        connection.payload = realloc(connection.payload, bytes);
        if (connection.payload == NULL)
            err(1, "realloc");
        connection.payload_capacity = bytes;
    }
    receive_all(socket_fd, connection.payload, bytes);
}

/* Answers a DMA_READ or DMA_WRITE that the server sent. */
static void serve_command(int socket_fd, const struct header *header)
{
    const struct dma_access *wanted = (void *)connection.payload;
    size_t bytes = header->size - sizeof *header;
    struct dma_access echo = { 0 };
    int error = 0;
    if (bytes < sizeof *wanted) {
        error = EINVAL;
    } else {
        echo = *wanted;
        if (echo.address < guest.address || echo.count > guest.size ||
            echo.address - guest.address > guest.size - echo.count)
            error = EFAULT;
        else if (header->command == CMD_DMA_WRITE && bytes - sizeof *wanted < echo.count)
            error = EINVAL;
        else if (header->command != CMD_DMA_READ && header->command != CMD_DMA_WRITE)
            error = ENOSYS;
    }
    struct header reply = { header->id, header->command, sizeof reply, FLAG_REPLY, 0 };
    struct iovec vectors[3] = { { &reply, sizeof reply }, { &echo, sizeof echo } };
    size_t count = 1;
    if (error != 0) {
        reply.flags |= FLAG_ERROR;
        reply.error = (uint32_t)error;
    } else {
        uint8_t *at = guest.memory + (echo.address - guest.address);
        count = 2;
        reply.size += sizeof echo;
        if (header->command == CMD_DMA_READ) {
            vectors[count++] = (struct iovec){ at, echo.count };
            reply.size += (uint32_t)echo.count;
        } else {
            memcpy(at, wanted + 1, echo.count);
        }
    }
    if (!(header->flags & FLAG_NO_REPLY))
        send_all(socket_fd, vectors, count, NULL, 0);
}

uint16_t send_command(uint16_t command, uint32_t flags, const void *head, size_t head_bytes,
                      const void *body, size_t body_bytes, const int *fds, int fd_count)
{
    struct header header = {
        connection.next_id++, command, (uint32_t)(sizeof header + head_bytes + body_bytes), flags,
        0,
    };
    struct iovec vectors[3] = {
        { &header, sizeof header }, { (void *)head, head_bytes }, { (void *)body, body_bytes },
    };
    size_t count = body_bytes > 0 ? 3 : head_bytes > 0 ? 2 : 1;
    if (settings.split_writes) {
        struct iovec first = vectors[0];
        send_all(connection.fd, &first, 1, fds, fd_count);
        if (count > 1)
            send_all(connection.fd, vectors + 1, count - 1, NULL, 0);
    } else {
        send_all(connection.fd, vectors, count, fds, fd_count);
    }
    return header.id;
}

int wait_reply(uint16_t id, size_t *bytes)
{
    struct header header;
    for (;;) {
        if (connection.twin_fd >= 0) {
            struct pollfd p[2] = {
                { connection.fd, POLLIN, 0 }, { connection.twin_fd, POLLIN, 0 },
            };
            if (poll(p, 2, STALL_SECONDS * 1000) == 0)
                give_up(STALLED_RECV);
            if (p[1].revents & POLLIN) {
                receive_message(connection.twin_fd, &header);
                serve_command(connection.twin_fd, &header);
                continue;
            }
        }
        receive_message(connection.fd, &header);
        if ((header.flags & FLAG_TYPE_MASK) == FLAG_REPLY)
            break;
        serve_command(connection.fd, &header);
    }
    if (header.id != id) {
        warnx("reply id %u, expected %u (command %u, flags %#x, error %u)", header.id, id,
              header.command, header.flags, header.error);
        give_up(LOST_FRAMING);
    }
    if (bytes != NULL)
        *bytes = header.size - sizeof header;
    if (!(header.flags & FLAG_ERROR))
        return 0;
    return header.error != 0 ? (int)header.error : EIO;
}

int call(uint16_t command, const void *head, size_t head_bytes, const void *body,
         size_t body_bytes, int fd, size_t *bytes)
{
    uint16_t id =
        send_command(command, 0, head, head_bytes, body, body_bytes, &fd, fd >= 0 ? 1 : 0);
    return wait_reply(id, bytes);
}

/* The value of a number or boolean in the server's capabilities; no nested key repeats a name. */
static long capability(const char *key, long otherwise)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *at = strstr(connection.capabilities, quoted);
    if (at == NULL)
        return otherwise;
    at += strlen(quoted);
    while (*at == ' ' || *at == ':')
        at++;
    if (strncmp(at, "true", 4) == 0)
        return 1;
    if (strncmp(at, "false", 5) == 0)
        return 0;
    return strtol(at, NULL, 0);
}

static int connect_socket(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    snprintf(address.sun_path, sizeof address.sun_path, "%s", settings.socket_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        err(1, "socket");
    for (int i = 0; connect(fd, (void *)&address, sizeof address) != 0; i++) {
        if (i >= CONNECT_ATTEMPTS)
            err(1, "connect %s", settings.socket_path);
        usleep(CONNECT_PAUSE_US);
    }
    struct timeval limit = { STALL_SECONDS, 0 };
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int size = settings.send_buffer;
    if (size > 0 && setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) != 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    return fd;
}

void connection_open(void)
{
    connection.fd = connect_socket();
    connection.twin_fd = -1;
    char text[512];
    struct version version = { 0, (uint16_t)settings.minor };
    int length = snprintf(text, sizeof text,
                          "{\"capabilities\":{\"max_msg_fds\":%d,\"max_data_xfer_size\":%zu,"
                          "\"pgsizes\":4096,\"max_dma_maps\":65535,\"write_multiple\":true%s}}",
                          FD_LIMIT, settings.max_data_transfer,
                          settings.twin ? ",\"twin_socket\":{\"supported\":true}" : "");
    size_t bytes;
    int error =
        call(CMD_VERSION, &version, sizeof version, text, (size_t)length + 1, -1, &bytes);
    if (error != 0)
        errx(1, "VERSION refused: %s", strerror(error));
    if (bytes < sizeof version)
        errx(1, "the VERSION reply is too short");
    memcpy(&version, connection.payload, sizeof version);
    if (version.major != 0 || version.minor > settings.minor)
        errx(1, "VERSION reply %u.%u", version.major, version.minor);
    connection.minor = version.minor;

    size_t room = sizeof connection.capabilities - 1;
    size_t kept = bytes - sizeof version < room ? bytes - sizeof version : room;
    memcpy(connection.capabilities, connection.payload + sizeof version, kept);
    connection.capabilities[kept] = 0;
    if (kept > 0 && connection.payload[bytes - 1] != 0)
        warnx("the JSON of the VERSION reply does not end with NUL");
    connection.max_data_transfer = (size_t)capability("max_data_xfer_size", 1 << 20);
    connection.write_multiple = capability("write_multiple", 0) != 0;
    const char *twin = strstr(connection.capabilities, "\"twin_socket\"");
    if (twin != NULL && strstr(twin, "true") != NULL) {
        long index = capability("fd_index", -1);
        if (index < 0 || index >= connection.fd_count)
            errx(1, "twin_socket.fd_index %ld of %d", index, connection.fd_count);
        connection.twin_fd = connection.fds[index];
    }
}

void connection_close(void)
{
    close(connection.fd);
    if (connection.twin_fd >= 0)
        close(connection.twin_fd);
    connection.fd = connection.twin_fd = -1;
}

void guest_open(void)
{
    if (guest.memory != NULL)
        return;
    guest.size = settings.guest_bytes;
    guest.fd = memfd_create("guest", MFD_CLOEXEC | (settings.unsealed ? 0 : MFD_ALLOW_SEALING));
    if (guest.fd < 0 || ftruncate(guest.fd, (off_t)guest.size) != 0)
        err(1, "guest memory");
    if (!settings.unsealed && fcntl(guest.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
        err(1, "sealing guest memory");
    guest.memory = mmap(NULL, guest.size, PROT_READ | PROT_WRITE, MAP_SHARED, guest.fd, 0);
    if (guest.memory == MAP_FAILED)
        err(1, "mapping guest memory");
    memset(guest.memory, 0x5a, guest.size);
}
