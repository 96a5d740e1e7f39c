/* SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0 */
/* Registers of the hello device, and what the driver and its self-test share. */
#ifndef HELLO_H
#define HELLO_H

#include <linux/device.h>
#include <linux/io.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/wait.h>

#define HELLO_VENDOR 0xfe22
#define HELLO_DEVICE 0x0001

#define HELLO_MAGIC 0x00
#define HELLO_COUNTER 0x04
#define HELLO_DOORBELL 0x08
#define HELLO_CAUSE 0x0c
#define HELLO_ECHO_SOURCE 0x10
#define HELLO_ECHO_TARGET 0x18
#define HELLO_ECHO_LENGTH 0x20
#define HELLO_ECHO_STATUS 0x24
#define HELLO_ECHO_START 0x28
#define HELLO_SCRATCH 0x2c

#define HELLO_MAGIC_VALUE 0x6f6c6568
#define HELLO_CAUSE_DOORBELL BIT(0)
#define HELLO_CAUSE_ECHO BIT(1)
#define HELLO_STATUS_DONE 0
#define HELLO_STATUS_FAILED BIT(31)
#define HELLO_ECHO_MAX 65536

#define HELLO_REGISTER_BAR 0
#define HELLO_MEMORY_BAR 2
#define HELLO_MEMORY_SIZE 65536

#define HELLO_VECTORS 2
#define HELLO_RESULTS_SIZE 2048

struct hello;

struct hello_vector {
	struct hello *hello;
	unsigned int index;
	atomic_t count;
};

struct hello {
	struct pci_dev *pdev;
	void __iomem *registers;
	void __iomem *memory;
	const char *mode;
	unsigned int vectors;
	struct hello_vector vector[HELLO_VECTORS];
	atomic_t spurious;
	wait_queue_head_t interrupted;
	struct mutex testing;
	char results[HELLO_RESULTS_SIZE];
	size_t results_length;
	struct {
		u64 rounds;
		unsigned int stale;
	} kept;
};

static inline u32 hello_read(struct hello *hello, unsigned int at)
{
	return ioread32(hello->registers + at);
}

static inline void hello_write(struct hello *hello, unsigned int at, u32 value)
{
	iowrite32(value, hello->registers + at);
}

/* Starts an echo and waits for its interrupt; returns the status, or a negative errno. */
s64 hello_echo(struct hello *hello, u64 source, u64 target, u32 length, bool halves);

extern struct device_attribute dev_attr_selftest;
extern struct device_attribute dev_attr_results;
extern struct device_attribute dev_attr_keep;
extern struct device_attribute dev_attr_kept;

#endif
