/* The operations that vubench can measure. Each prints one row or more and returns. */
#ifndef BENCH_OPERATIONS_H
#define BENCH_OPERATIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the command line decides for all operations. */
struct workload {
    uint32_t region;  /* region index that is accessed */
    uint64_t offset;  /* where in it */
    unsigned count;   /* repetitions; 0 takes each operation's own default */
    unsigned depth;   /* requests in flight when pipelining */
    unsigned maps;    /* DMA regions of dmamany */
    size_t chunk;     /* bytes of a migration message */
};
extern struct workload workload;

/* Returns false if there is no operation of that name. */
bool operation_run(const char *name);

/* In migration.c. */
void run_mig_read(const char *name);
void run_mig_precopy(const char *name);
void run_mig_write(const char *name);
void run_state(const char *name);
void run_dirty(const char *name);

/* In dma.c. */
void run_map(const char *name);
void run_map_nofd(const char *name);
void run_map_many(const char *name);
void run_dma_fd(const char *name);
void run_dma_fd_fill(const char *name);
void run_dma_message(const char *name);
void run_dma_message_write(const char *name);

/* Shared by these files. */
unsigned repetitions(unsigned otherwise);
int dma_map(uint64_t address, uint64_t bytes, int fd);
int dma_unmap(uint64_t address, uint64_t bytes, uint32_t flags);

#endif
