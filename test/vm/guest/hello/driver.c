// SPDX-License-Identifier: Apache-2.0 OR MIT OR GPL-2.0
/*
 * Guest driver of the hello device.
 *
 *   insmod hello.ko mode=intx|msi|msix
 *
 * The mode is read when the driver binds, so that writing the parameter and binding again changes
 * it. The device's sysfs folder has counter, scratch, interrupts, the self-test and what keep.c
 * looks at.
 */
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/pci.h>
#include "hello.h"

static char *mode = "msix";
module_param(mode, charp, 0644);
MODULE_PARM_DESC(mode, "interrupts: intx, msi or msix");

/* With one vector every cause arrives on it; with two, vector 1 is the echo's. */
static u32 hello_causes_of(struct hello_vector *vector)
{
	if (vector->hello->vectors == 1)
		return HELLO_CAUSE_DOORBELL | HELLO_CAUSE_ECHO;
	return vector->index == 0 ? HELLO_CAUSE_DOORBELL : HELLO_CAUSE_ECHO;
}

static irqreturn_t hello_message_interrupt(int irq, void *data)
{
	struct hello_vector *vector = data;

	hello_write(vector->hello, HELLO_CAUSE, hello_causes_of(vector));
	atomic_inc(&vector->count);
	wake_up(&vector->hello->interrupted);
	return IRQ_HANDLED;
}

static irqreturn_t hello_line_interrupt(int irq, void *data)
{
	struct hello_vector *vector = data;
	struct hello *hello = vector->hello;
	u32 cause = hello_read(hello, HELLO_CAUSE);

	if (cause == 0) {
		atomic_inc(&hello->spurious);
		return IRQ_NONE;
	}
	hello_write(hello, HELLO_CAUSE, cause);
	atomic_inc(&vector->count);
	wake_up(&hello->interrupted);
	return IRQ_HANDLED;
}

static ssize_t interrupts_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	struct hello *hello = dev_get_drvdata(dev);

	return sysfs_emit(text, "mode=%s vectors=%u vector0=%d vector1=%d spurious=%d\n", hello->mode,
			  hello->vectors, atomic_read(&hello->vector[0].count),
			  atomic_read(&hello->vector[1].count), atomic_read(&hello->spurious));
}
static DEVICE_ATTR_RO(interrupts);

static ssize_t counter_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "%u\n", hello_read(dev_get_drvdata(dev), HELLO_COUNTER));
}
static DEVICE_ATTR_RO(counter);

static ssize_t scratch_show(struct device *dev, struct device_attribute *attribute, char *text)
{
	return sysfs_emit(text, "0x%08x\n", hello_read(dev_get_drvdata(dev), HELLO_SCRATCH));
}

static ssize_t scratch_store(struct device *dev, struct device_attribute *attribute,
			     const char *text, size_t length)
{
	u32 value;
	int result = kstrtou32(text, 0, &value);

	if (result)
		return result;
	hello_write(dev_get_drvdata(dev), HELLO_SCRATCH, value);
	return length;
}
static DEVICE_ATTR_RW(scratch);

/*
 * "hold" has the device interrupt while its first interrupt is disabled: a line is up from then on,
 * and nobody looks why. "free" has it looked at.
 */
static ssize_t line_store(struct device *dev, struct device_attribute *attribute, const char *text,
			  size_t length)
{
	struct hello *hello = dev_get_drvdata(dev);
	int irq = pci_irq_vector(hello->pdev, 0);

	if (sysfs_streq(text, "hold")) {
		disable_irq(irq);
		hello_write(hello, HELLO_DOORBELL, 1);
	} else if (sysfs_streq(text, "free")) {
		enable_irq(irq);
	} else {
		return -EINVAL;
	}
	return length;
}
static DEVICE_ATTR_WO(line);

static struct attribute *hello_attrs[] = {
	&dev_attr_selftest.attr,
	&dev_attr_results.attr,
	&dev_attr_keep.attr,
	&dev_attr_kept.attr,
	&dev_attr_interrupts.attr,
	&dev_attr_line.attr,
	&dev_attr_counter.attr,
	&dev_attr_scratch.attr,
	NULL,
};
ATTRIBUTE_GROUPS(hello);

static const struct hello_mode {
	const char *name;
	unsigned int flags;
} hello_modes[] = {
	{ "intx", PCI_IRQ_INTX },
	{ "msi", PCI_IRQ_MSI },
	{ "msix", PCI_IRQ_MSIX },
};

static int hello_request_interrupts(struct hello *hello)
{
	const struct hello_mode *found = NULL;
	unsigned int index;
	int count;

	for (index = 0; index < ARRAY_SIZE(hello_modes); index++)
		if (sysfs_streq(mode, hello_modes[index].name))
			found = &hello_modes[index];
	if (!found)
		return -EINVAL;
	count = pci_alloc_irq_vectors(hello->pdev, 1, HELLO_VECTORS, found->flags);
	if (count < 0)
		return count;
	hello->mode = found->name;
	hello->vectors = count;
	for (index = 0; index < count; index++) {
		struct hello_vector *vector = &hello->vector[index];
		bool line = found->flags == PCI_IRQ_INTX;
		int result = request_irq(pci_irq_vector(hello->pdev, index),
					 line ? hello_line_interrupt : hello_message_interrupt,
					 line ? IRQF_SHARED : 0, "hello", vector);

		if (result == 0)
			continue;
		while (index-- > 0)
			free_irq(pci_irq_vector(hello->pdev, index), &hello->vector[index]);
		pci_free_irq_vectors(hello->pdev);
		return result;
	}
	return 0;
}

static void hello_free_interrupts(struct hello *hello)
{
	unsigned int index;

	for (index = 0; index < hello->vectors; index++)
		free_irq(pci_irq_vector(hello->pdev, index), &hello->vector[index]);
	pci_free_irq_vectors(hello->pdev);
}

static int hello_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct hello *hello = devm_kzalloc(&pdev->dev, sizeof(*hello), GFP_KERNEL);
	unsigned int index;
	int result;

	if (!hello)
		return -ENOMEM;
	hello->pdev = pdev;
	mutex_init(&hello->testing);
	init_waitqueue_head(&hello->interrupted);
	for (index = 0; index < HELLO_VECTORS; index++) {
		hello->vector[index].hello = hello;
		hello->vector[index].index = index;
	}
	pci_set_drvdata(pdev, hello);

	result = pcim_enable_device(pdev);
	if (result == 0)
		result = pcim_iomap_regions(pdev, BIT(HELLO_REGISTER_BAR) | BIT(HELLO_MEMORY_BAR), "hello");
	if (result == 0)
		result = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (result)
		return result;
	hello->registers = pcim_iomap_table(pdev)[HELLO_REGISTER_BAR];
	hello->memory = pcim_iomap_table(pdev)[HELLO_MEMORY_BAR];
	pci_set_master(pdev);
	/* A cause left by an earlier user would hold the line up with nobody to lower it. */
	hello_write(hello, HELLO_CAUSE, HELLO_CAUSE_DOORBELL | HELLO_CAUSE_ECHO);
	result = hello_request_interrupts(hello);
	if (result)
		return result;
	pci_notice(pdev, "hello bound mode=%s vectors=%u\n", hello->mode, hello->vectors);
	return 0;
}

static void hello_remove(struct pci_dev *pdev)
{
	hello_free_interrupts(pci_get_drvdata(pdev));
	pci_clear_master(pdev);
}

static const struct pci_device_id hello_ids[] = {
	{ PCI_DEVICE(HELLO_VENDOR, HELLO_DEVICE) },
	{ }
};
MODULE_DEVICE_TABLE(pci, hello_ids);

static struct pci_driver hello_driver = {
	.name = "hello",
	.id_table = hello_ids,
	.probe = hello_probe,
	.remove = hello_remove,
	.dev_groups = hello_groups,
};
module_pci_driver(hello_driver);

MODULE_DESCRIPTION("Guest driver and self-test of the hello device");
MODULE_LICENSE("Dual MIT/GPL");
