/*
 * One vfio-user connection as a client sees it: negotiation, framing, file descriptors, and the
 * guest memory that the server may read and write by message.
 */
#ifndef BENCH_CONNECTION_H
#define BENCH_CONNECTION_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire.h"

/* What the command line decides; set before connection_open(). */
struct settings {
    const char *socket_path;
    size_t max_data_transfer;  /* our max_data_xfer_size */
    size_t guest_bytes;        /* size of guest memory */
    int send_buffer;           /* SO_SNDBUF of the socket, 0 leaves it alone */
    unsigned minor;            /* protocol version 0.minor */
    bool twin;                 /* ask for a second socket for the server's commands */
    bool split_writes;         /* send header and payload in two writes */
    bool unsealed;             /* leave guest memory unsealed against shrinking */
};

/* What the two sides agreed upon, and what the last message carried. */
struct connection {
    int fd, twin_fd;
    unsigned minor;
    size_t max_data_transfer;
    bool write_multiple;
    char capabilities[8192];
    uint16_t next_id;
    uint8_t *payload;          /* payload of the last message received */
    size_t payload_capacity;
    int fds[16];               /* file descriptors that came with it; ours to close */
    int fd_count;
};

/* Guest memory: a memfd, mapped, at a fixed guest address. */
struct guest {
    uint8_t *memory;
    size_t size;
    int fd;
    uint64_t address;
};

/* Why an operation was given up; the value that setjmp(abandon) returns. */
enum abandon_reason { STALLED_SEND = 1, STALLED_RECV, LOST_FRAMING, CONNECTION_CLOSED };

extern struct settings settings;
extern struct connection connection;
extern struct guest guest;

/* While abandon_armed, a dead-lock or a broken stream jumps here instead of ending the program. */
extern jmp_buf abandon;
extern bool abandon_armed;

uint64_t now_ns(void);

/* Connects and negotiates; retries for two seconds while nobody listens. A refusal ends it all. */
void connection_open(void);
void connection_close(void);

/* Guest memory, made on first use. */
void guest_open(void);

/* Sends one command and returns its message id. */
uint16_t send_command(uint16_t command, uint32_t flags, const void *head, size_t head_bytes,
                      const void *body, size_t body_bytes, const int *fds, int fd_count);

/*
 * Waits for the reply to `id` and serves the server's own commands meanwhile. Returns 0 or the
 * errno of an error reply; the payload is in connection.payload, its length in *bytes.
 */
int wait_reply(uint16_t id, size_t *bytes);

/* send_command() and wait_reply() in one, with at most one file descriptor (-1 for none). */
int call(uint16_t command, const void *head, size_t head_bytes, const void *body,
         size_t body_bytes, int fd, size_t *bytes);

#endif
