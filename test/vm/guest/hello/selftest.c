// SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0
/*
 * Self-test of the hello device, run by its driver on request:
 *
 *   echo all > /sys/bus/pci/devices/BDF/selftest       (or the name of one test)
 *   cat /sys/bus/pci/devices/BDF/results               one line a test: RESULT name ok|FAIL detail
 *
 * The results go to the kernel's log as well.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/slab.h>
#include "hello.h"

#define HELLO_WAIT (10 * HZ)
#define HELLO_DETAIL_SIZE 96
#define HELLO_GUARD 64
#define HELLO_POISON 0xa5

static bool hello_wait_count(struct hello *hello, unsigned int index, int wanted)
{
	atomic_t *count = &hello->vector[index].count;

	return wait_event_timeout(hello->interrupted, atomic_read(count) - wanted >= 0, HELLO_WAIT) != 0;
}

/* Waits until no interrupt has come for a while, so that none is taken for the next test's. */
static void hello_settle(struct hello *hello)
{
	int last;

	do {
		last = atomic_read(&hello->vector[0].count);
		msleep(50);
	} while (atomic_read(&hello->vector[0].count) != last);
}

/* The self-test: each test fills in a detail and returns 0, or a negative errno. */

static int hello_test_magic(struct hello *hello, char *detail)
{
	u32 magic = hello_read(hello, HELLO_MAGIC);

	hello_write(hello, HELLO_MAGIC, ~magic);
	snprintf(detail, HELLO_DETAIL_SIZE, "0x%08x", magic);
	if (hello_read(hello, HELLO_MAGIC) != magic)
		return -EPERM;
	return magic == HELLO_MAGIC_VALUE ? 0 : -EILSEQ;
}

static int hello_test_scratch(struct hello *hello, char *detail)
{
	unsigned int bit;
	u32 kept = hello_read(hello, HELLO_SCRATCH);

	for (bit = 0; bit < 32; bit++) {
		u32 pattern = BIT(bit) ^ 0x5a5a5a5a;
		u32 back;

		hello_write(hello, HELLO_SCRATCH, pattern);
		back = hello_read(hello, HELLO_SCRATCH);
		if (back != pattern) {
			snprintf(detail, HELLO_DETAIL_SIZE, "wrote 0x%08x read 0x%08x", pattern, back);
			return -EIO;
		}
	}
	hello_write(hello, HELLO_SCRATCH, kept);
	snprintf(detail, HELLO_DETAIL_SIZE, "32 patterns");
	return 0;
}

/* One interrupt for each doorbell that was waited for, on vector 0, and COUNTER says the same. */
static int hello_test_doorbell(struct hello *hello, char *detail)
{
	const int rings = 16;
	int other = atomic_read(&hello->vector[1].count);
	int before = atomic_read(&hello->vector[0].count);
	u32 counter = hello_read(hello, HELLO_COUNTER);
	int ring;

	for (ring = 1; ring <= rings; ring++) {
		hello_write(hello, HELLO_DOORBELL, 1);
		if (!hello_wait_count(hello, 0, before + ring)) {
			snprintf(detail, HELLO_DETAIL_SIZE, "no interrupt for doorbell %d", ring);
			return -ETIMEDOUT;
		}
	}
	counter = hello_read(hello, HELLO_COUNTER) - counter;
	before = atomic_read(&hello->vector[0].count) - before;
	other = atomic_read(&hello->vector[1].count) - other;
	snprintf(detail, HELLO_DETAIL_SIZE, "%d rings counter=%u vector0=%d vector1=%d spurious=%d",
		 rings, counter, before, other, atomic_read(&hello->spurious));
	return counter == rings && before == rings && other == 0 ? 0 : -EIO;
}

/* Doorbells without waiting may share interrupts; not one may be lost from COUNTER. */
static int hello_test_burst(struct hello *hello, char *detail)
{
	const int rings = 64;
	int before = atomic_read(&hello->vector[0].count);
	u32 counter = hello_read(hello, HELLO_COUNTER);
	int ring;

	for (ring = 0; ring < rings; ring++)
		hello_write(hello, HELLO_DOORBELL, 1);
	counter = hello_read(hello, HELLO_COUNTER) - counter;
	if (!hello_wait_count(hello, 0, before + 1))
		return -ETIMEDOUT;
	hello_settle(hello);
	before = atomic_read(&hello->vector[0].count) - before;
	snprintf(detail, HELLO_DETAIL_SIZE, "%d rings counter=%u vector0=%d", rings, counter, before);
	return counter == rings && before <= rings ? 0 : -EIO;
}

s64 hello_echo(struct hello *hello, u64 source, u64 target, u32 length, bool halves)
{
	unsigned int index = hello->vectors - 1;
	int before = atomic_read(&hello->vector[index].count);

	if (halves) {
		lo_hi_writeq(source, hello->registers + HELLO_ECHO_SOURCE);
		lo_hi_writeq(target, hello->registers + HELLO_ECHO_TARGET);
	} else {
		writeq(source, hello->registers + HELLO_ECHO_SOURCE);
		writeq(target, hello->registers + HELLO_ECHO_TARGET);
	}
	hello_write(hello, HELLO_ECHO_LENGTH, length);
	hello_write(hello, HELLO_ECHO_START, 1);
	if (!hello_wait_count(hello, index, before + 1))
		return -ETIMEDOUT;
	return hello_read(hello, HELLO_ECHO_STATUS);
}

static void hello_fill(u8 *bytes, size_t length, u32 seed)
{
	size_t at;

	for (at = 0; at < length; at++) {
		seed = seed * 1664525 + 1013904223;
		bytes[at] = seed >> 24;
	}
}

/* What arrived must be what was sent, and nothing before or after it may have been touched. */
static int hello_check(const u8 *source, const u8 *target, size_t length, char *detail)
{
	size_t at;

	for (at = 0; at < length + 2 * HELLO_GUARD; at++) {
		bool guard = at < HELLO_GUARD || at >= HELLO_GUARD + length;
		u8 wanted = guard ? HELLO_POISON : source[at];

		if (target[at] == wanted)
			continue;
		snprintf(detail, HELLO_DETAIL_SIZE, "byte %zd is 0x%02x, not 0x%02x",
			 (ssize_t)at - HELLO_GUARD, target[at], wanted);
		return -EIO;
	}
	snprintf(detail, HELLO_DETAIL_SIZE, "%zu bytes", length);
	return 0;
}

static int hello_echo_result(s64 status, char *detail)
{
	if (status == HELLO_STATUS_DONE)
		return 0;
	snprintf(detail, HELLO_DETAIL_SIZE, "status %lld", status);
	return status < 0 ? status : -EIO;
}

/* An echo between two coherent buffers, `shift` bytes into each. */
static int hello_echo_coherent(struct hello *hello, size_t length, size_t shift, char *detail)
{
	struct device *dev = &hello->pdev->dev;
	size_t size = length + shift + 2 * HELLO_GUARD;
	dma_addr_t source_address, target_address;
	u8 *source = dma_alloc_coherent(dev, size, &source_address, GFP_KERNEL);
	u8 *target = dma_alloc_coherent(dev, size, &target_address, GFP_KERNEL);
	int result = -ENOMEM;

	if (source && target) {
		hello_fill(source, size, length + shift);
		memset(target, HELLO_POISON, size);
		result = hello_echo_result(hello_echo(hello, source_address + shift + HELLO_GUARD,
						      target_address + shift + HELLO_GUARD,
						      length, false), detail);
		if (result == 0)
			result = hello_check(source + shift, target + shift, length, detail);
	}
	if (target)
		dma_free_coherent(dev, size, target, target_address);
	if (source)
		dma_free_coherent(dev, size, source, source_address);
	return result;
}

static int hello_test_echo_4k(struct hello *hello, char *detail)
{
	return hello_echo_coherent(hello, 4096, 0, detail);
}

static int hello_test_echo_64k(struct hello *hello, char *detail)
{
	return hello_echo_coherent(hello, HELLO_ECHO_MAX, 0, detail);
}

/* An odd address, an odd length, over a page boundary. */
static int hello_test_echo_odd(struct hello *hello, char *detail)
{
	return hello_echo_coherent(hello, 4099, 3, detail);
}

static int hello_test_echo_byte(struct hello *hello, char *detail)
{
	return hello_echo_coherent(hello, 1, 1, detail);
}

/* Ordinary memory mapped for each direction by itself, as a block or network driver does. */
static int hello_test_echo_streaming(struct hello *hello, char *detail)
{
	struct device *dev = &hello->pdev->dev;
	const size_t length = 16384, size = length + 2 * HELLO_GUARD;
	u8 *source = kmalloc(size, GFP_KERNEL);
	u8 *target = kmalloc(size, GFP_KERNEL);
	dma_addr_t from, to;
	int result = -ENOMEM;

	if (!source || !target)
		goto free;
	hello_fill(source, size, 7);
	memset(target, HELLO_POISON, size);
	from = dma_map_single(dev, source, size, DMA_TO_DEVICE);
	if (dma_mapping_error(dev, from))
		goto free;
	to = dma_map_single(dev, target, size, DMA_BIDIRECTIONAL);
	if (!dma_mapping_error(dev, to)) {
		result = hello_echo_result(hello_echo(hello, from + HELLO_GUARD, to + HELLO_GUARD,
						      length, true), detail);
		dma_unmap_single(dev, to, size, DMA_BIDIRECTIONAL);
		if (result == 0)
			result = hello_check(source, target, length, detail);
	}
	dma_unmap_single(dev, from, size, DMA_TO_DEVICE);
free:
	kfree(target);
	kfree(source);
	return result;
}

/* The device must refuse these, say so, and work on. */
static int hello_refused(struct hello *hello, u64 source, u64 target, u32 length, char *detail)
{
	s64 status = hello_echo(hello, source, target, length, true);

	if (status < 0)
		return status;
	snprintf(detail, HELLO_DETAIL_SIZE, "errno %llu", status & ~HELLO_STATUS_FAILED);
	if (!(status & HELLO_STATUS_FAILED)) {
		snprintf(detail, HELLO_DETAIL_SIZE, "not refused, status %lld", status);
		return -EIO;
	}
	return 0;
}

static int hello_test_echo_too_long(struct hello *hello, char *detail)
{
	return hello_refused(hello, 0x1000, 0x1000, HELLO_ECHO_MAX + 1, detail);
}

static int hello_test_echo_unmapped(struct hello *hello, char *detail)
{
	u64 nowhere = 0x0badc0de00000000ull;
	int result = hello_refused(hello, nowhere, nowhere, 4096, detail);
	char again[HELLO_DETAIL_SIZE];

	return result == 0 ? hello_echo_coherent(hello, 64, 0, again) : result;
}

/* Every access width at both ends, and a word in each 256 bytes between them. */
static int hello_test_memory(struct hello *hello, char *detail)
{
	void __iomem *memory = hello->memory;
	const unsigned int end = HELLO_MEMORY_SIZE;
	unsigned int at, wrong = 0, words = 0;

	for (at = 0; at < end; at += at < 1024 || at >= end - 1024 ? 8 : 256)
		writeq(at * 0x0101010101010101ull + 0x0123456789abcdefull, memory + at);
	for (at = 0; at < end; at += at < 1024 || at >= end - 1024 ? 8 : 256, words++)
		if (readq(memory + at) != at * 0x0101010101010101ull + 0x0123456789abcdefull)
			wrong++;
	for (at = 0; at <= end - 8; at += end - 8) {
		iowrite32(0xcafef00d, memory + at);
		iowrite16(0xbeef, memory + at + 4);
		iowrite8(0x12, memory + at + 6);
		iowrite8(0x34, memory + at + 7);
		wrong += readq(memory + at) != 0x3412beefcafef00dull;
		wrong += ioread16(memory + at + 2) != 0xcafe;
		wrong += ioread8(memory + at + 5) != 0xbe;
	}
	snprintf(detail, HELLO_DETAIL_SIZE, "%u words, %u wrong", words, wrong);
	return wrong ? -EIO : 0;
}

static const struct hello_test {
	const char *name;
	int (*run)(struct hello *hello, char *detail);
} hello_tests[] = {
	{ "magic", hello_test_magic },
	{ "scratch", hello_test_scratch },
	{ "doorbell", hello_test_doorbell },
	{ "burst", hello_test_burst },
	{ "echo-byte", hello_test_echo_byte },
	{ "echo-4k", hello_test_echo_4k },
	{ "echo-64k", hello_test_echo_64k },
	{ "echo-odd", hello_test_echo_odd },
	{ "echo-streaming", hello_test_echo_streaming },
	{ "echo-too-long", hello_test_echo_too_long },
	{ "echo-unmapped", hello_test_echo_unmapped },
	{ "memory", hello_test_memory },
};

static void hello_run(struct hello *hello, const struct hello_test *test)
{
	char detail[HELLO_DETAIL_SIZE] = "";
	int result = test->run(hello, detail);
	char line[HELLO_DETAIL_SIZE + 64];

	if (result == 0)
		snprintf(line, sizeof(line), "RESULT %s ok %s", test->name, detail);
	else
		snprintf(line, sizeof(line), "RESULT %s FAIL %d %s", test->name, result, detail);
	pr_notice("%s\n", line);
	hello->results_length += scnprintf(hello->results + hello->results_length,
					   HELLO_RESULTS_SIZE - hello->results_length, "%s\n", line);
}

static ssize_t selftest_store(struct device *dev, struct device_attribute *attribute,
			      const char *text, size_t length)
{
	struct hello *hello = dev_get_drvdata(dev);
	bool all = sysfs_streq(text, "all"), found = false;
	unsigned int index;

	mutex_lock(&hello->testing);
	hello->results_length = 0;
	for (index = 0; index < ARRAY_SIZE(hello_tests); index++) {
		if (!all && !sysfs_streq(text, hello_tests[index].name))
			continue;
		found = true;
		hello_run(hello, &hello_tests[index]);
	}
	mutex_unlock(&hello->testing);
	return found ? length : -EINVAL;
}
DEVICE_ATTR_WO(selftest);

static ssize_t results_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	struct hello *hello = dev_get_drvdata(dev);
	ssize_t length;

	mutex_lock(&hello->testing);
	length = sysfs_emit(text, "%.*s", (int)hello->results_length, hello->results);
	mutex_unlock(&hello->testing);
	return length;
}
DEVICE_ATTR_RO(results);
