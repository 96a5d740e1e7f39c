/*
 * A measurement: latency samples, elapsed time, the processor time that the server spent
 * meanwhile, and the row that is printed of it.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct measure {
    const char *name;
    uint64_t *samples;      /* nanoseconds each; NULL if only the rate counts */
    size_t count, capacity;
    uint64_t started, server_started;
    uint64_t elapsed;       /* nanoseconds; 0 lets measure_end() take the time since the start */
    uint64_t operations, bytes;
    double device_ns;       /* an operation's time by the device's own clock, or negative */
    bool whole;             /* false if the server's time cannot be told from another row's */
};

/* How rows are printed, and whose processor time is read; set by the command line. */
struct reporting { bool json; int server_pid; };
extern struct reporting reporting;

/* True once any row was a failure. */
extern bool any_failed;

/* Starts the clocks. `capacity` is the number of latency samples that will come. */
void measure_begin(struct measure *m, const char *name, size_t capacity);
void measure_sample(struct measure *m, uint64_t nanoseconds);
/* Stops the clocks, prints the row, frees the samples. */
void measure_end(struct measure *m, const char *note, ...) __attribute__((format(printf, 2, 3)));
/* Frees the samples and prints a row that says why there is no figure. */
void measure_failed(struct measure *m, const char *reason, ...)
    __attribute__((format(printf, 2, 3)));
void measure_unavailable(struct measure *m, const char *reason, ...)
    __attribute__((format(printf, 2, 3)));

/* Closes the JSON array. */
void reporting_end(void);

#endif
