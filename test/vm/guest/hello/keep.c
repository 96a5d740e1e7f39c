// SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0
/*
 * Looks whether what the hello device has written stays in memory:
 *
 *   echo 1 > /sys/bus/pci/devices/BDF/keep             echoes until a signal comes
 *   cat /sys/bus/pci/devices/BDF/kept                  "rounds=N stale=N", at any time
 *
 * The device writes to one page after the other, and then again to the first. No processor writes to
 * them, so nothing but the device's own write tells anybody that a page has changed. Each is looked at
 * before it is written again.
 */
#include <linux/dma-mapping.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/sched/signal.h>
#include <linux/string.h>
#include "hello.h"

/* Many, so that most of them were written a while ago. */
#define KEEP_PAGES 256
#define KEEP_BYTES 4096
#define KEEP_WORDS (KEEP_BYTES / sizeof(u64))

static bool hello_holds(const u64 *page, u64 value)
{
	unsigned int at;

	for (at = 0; at < KEEP_WORDS; at++)
		if (READ_ONCE(page[at]) != value)
			return false;
	return true;
}

/* In every round a page holds the number of the round in which it was written. */
static int hello_keep(struct hello *hello, u64 *source, dma_addr_t from, u64 *target, dma_addr_t to)
{
	u64 round;

	for (round = 1; !signal_pending(current); round++) {
		unsigned int slot = round % KEEP_PAGES;
		u64 *page = target + slot * KEEP_WORDS;

		if (!hello_holds(page, round > KEEP_PAGES ? round - KEEP_PAGES : 0))
			hello->kept.stale++;
		memset64(source, round, KEEP_WORDS);
		if (hello_echo(hello, from, to + slot * KEEP_BYTES, KEEP_BYTES, false) !=
		    HELLO_STATUS_DONE)
			return -EIO;
		hello->kept.rounds = round;
	}
	return 0;
}

static ssize_t keep_store(struct device *dev, struct device_attribute *attribute, const char *text,
			  size_t length)
{
	struct hello *hello = dev_get_drvdata(dev);
	struct device *dma = &hello->pdev->dev;
	const size_t size = KEEP_PAGES * KEEP_BYTES;
	dma_addr_t from, to;
	u64 *source = dma_alloc_coherent(dma, KEEP_BYTES, &from, GFP_KERNEL);
	u64 *target = dma_alloc_coherent(dma, size, &to, GFP_KERNEL);
	int result = -ENOMEM;

	if (source && target) {
		mutex_lock(&hello->testing);
		memset(&hello->kept, 0, sizeof(hello->kept));
		result = hello_keep(hello, source, from, target, to);
		mutex_unlock(&hello->testing);
	}
	if (target)
		dma_free_coherent(dma, size, target, to);
	if (source)
		dma_free_coherent(dma, KEEP_BYTES, source, from);
	return result ? result : length;
}
DEVICE_ATTR_WO(keep);

static ssize_t kept_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	struct hello *hello = dev_get_drvdata(dev);

	return sysfs_emit(text, "rounds=%llu stale=%u\n", hello->kept.rounds,
			  hello->kept.stale);
}
DEVICE_ATTR_RO(kept);
