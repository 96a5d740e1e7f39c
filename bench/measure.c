/* See measure.h. */
#define _GNU_SOURCE
#include "measure.h"

#include <dirent.h>
#include <err.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connection.h"

#define NOT_MEASURED UINT64_MAX

struct reporting reporting;
bool any_failed;
static bool any_row;

/*
 * The processor time of all threads of the server, in nanoseconds: the first number of each
 * thread's schedstat. It is exact for a thread that sleeps, which all do when a reply has come.
 */
static uint64_t server_cpu_ns(void)
{
    if (reporting.server_pid == 0)
        return NOT_MEASURED;
    char path[320];
    snprintf(path, sizeof path, "/proc/%d/task", reporting.server_pid);
    DIR *tasks = opendir(path);
    if (tasks == NULL)
        return NOT_MEASURED;
    uint64_t sum = 0;
    for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", reporting.server_pid,
                 entry->d_name);
        FILE *file = fopen(path, "re");
        uint64_t ns;
        if (file == NULL)
            continue;
        if (fscanf(file, "%" SCNu64, &ns) == 1)
            sum += ns;
        fclose(file);
    }
    closedir(tasks);
    return sum;
}

void measure_begin(struct measure *m, const char *name, size_t capacity)
{
    memset(m, 0, sizeof *m);
    m->name = name;
    m->capacity = capacity;
    m->device_ns = -1;
    m->whole = true;
    if (capacity > 0 && (m->samples = calloc(capacity, sizeof *m->samples)) == NULL)
        err(1, "samples");
    m->server_started = server_cpu_ns();
    m->started = now_ns();
}

void measure_sample(struct measure *m, uint64_t nanoseconds)
{
    if (m->count < m->capacity)
        m->samples[m->count++] = nanoseconds;
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static double quantile_us(const struct measure *m, double q)
{
    return m->count == 0 ? 0 : (double)m->samples[(size_t)((double)m->count * q)] / 1e3;
}

static double per_second(double amount, uint64_t ns)
{
    return ns == 0 ? 0 : amount * 1e9 / (double)ns;
}

static void json_ns(const char *name, double ns, bool known)
{
    if (known)
        printf(",\"%s\":%.1f", name, ns);
    else
        printf(",\"%s\":null", name);
}

static void print_row(struct measure *m, const char *status, double cpu_ns, bool cpu_known,
                      const char *note)
{
    if (m->count > 0)
        qsort(m->samples, m->count, sizeof *m->samples, ascending);
    double p50 = quantile_us(m, 0.5), p99 = quantile_us(m, 0.99), p999 = quantile_us(m, 0.999);
    double rate = per_second((double)m->operations, m->elapsed);
    double mib = per_second((double)m->bytes / 1048576.0, m->elapsed);
    if (reporting.json) {
        printf("%s{\"op\":\"%s\",\"status\":\"%s\",\"n\":%" PRIu64 ",\"p50_us\":%.2f,"
               "\"p99_us\":%.2f,\"p999_us\":%.2f,\"ops_s\":%.0f,\"mib_s\":%.1f,\"note\":\"%s\"",
               any_row ? ",\n " : "[", m->name, status, m->operations, p50, p99, p999, rate, mib,
               note);
        json_ns("device_ns", m->device_ns, m->device_ns >= 0);
        json_ns("server_cpu_ns", cpu_ns, cpu_known);
        printf("}");
    } else {
        if (!any_row)
            printf("%-14s %9s %10s %10s %10s %11s %10s %12s  %s\n", "op", "n", "p50 us", "p99 us",
                   "p99.9 us", "ops/s", "MiB/s", "server ns/op", "note");
        printf("%-14s %9" PRIu64 " %10.2f %10.2f %10.2f %11.0f %10.1f ", m->name, m->operations,
               p50, p99, p999, rate, mib);
        if (cpu_known)
            printf("%12.0f  %s\n", cpu_ns, note);
        else
            printf("%12s  %s\n", "-", note);
    }
    any_row = true;
    fflush(stdout);
    free(m->samples);
    m->samples = NULL;
}

void measure_end(struct measure *m, const char *format, ...)
{
    if (m->elapsed == 0)
        m->elapsed = now_ns() - m->started;
    uint64_t ended = server_cpu_ns();
    bool known = m->whole && m->operations > 0 && m->server_started != NOT_MEASURED &&
                 ended != NOT_MEASURED && ended >= m->server_started;
    double cpu = known ? (double)(ended - m->server_started) / (double)m->operations : 0;
    char note[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(note, sizeof note, format, arguments);
    va_end(arguments);
    print_row(m, "ok", cpu, known, note);
}

static void print_reason(struct measure *m, const char *status, const char *format,
                         va_list arguments)
{
    char reason[256];
    vsnprintf(reason, sizeof reason, format, arguments);
    m->count = 0;
    m->operations = m->bytes = 0;
    m->device_ns = -1;
    print_row(m, status, 0, false, reason);
}

void measure_failed(struct measure *m, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_reason(m, "failed", format, arguments);
    va_end(arguments);
    any_failed = true;
}

void measure_unavailable(struct measure *m, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    print_reason(m, "n/a", format, arguments);
    va_end(arguments);
}

void reporting_end(void)
{
    if (reporting.json)
        printf("%s]\n", any_row ? "" : "[");
}
