/*
 * Does to a PCI function whatever a guest can, in an order that its seed decides, until the file
 * /calm is there:
 *
 *   storm BDF SEED ACT...        master memory bars port msi msix flr doorbells
 *
 * Afterwards what it has written to configuration space is as it was before. How often it has done
 * something is in /acts all the time; at its end it prints how often each: "storm master 123".
 * Doorbells need a function without a driver: Linux lets nobody map the registers of one that has.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define COMMAND 0x04
#define COMMAND_MEMORY (1u << 1)
#define COMMAND_MASTER (1u << 2)
#define BARS 0x10
#define BAR_COUNT 6
#define CAPABILITIES 0x34
/* Of the port in front of it. */
#define BUS_NUMBERS 0x18
#define MEMORY_WINDOW 0x20
#define CAP_MSI 0x05
#define CAP_EXPRESS 0x10
#define CAP_MSIX 0x11
#define MSI_ENABLE (1u << 16)
#define MSI_MASKABLE (1u << 24)
#define MSI_64_BIT (1u << 23)
#define MSIX_ENABLE (1u << 31)
#define MSIX_MASK_ALL (1u << 30)
#define DEVICE_CONTROL 0x08
#define FUNCTION_LEVEL_RESET (1u << 15)
/* Registers of the hello device. */
#define DOORBELL 0x08
#define REGISTER_BYTES 4096
#define BURST 64
#define CONFIG_BYTES 256

static int config;
static int port_config;
static volatile uint32_t *registers;
static uint32_t saved[CONFIG_BYTES / 4];
static uint32_t saved_port[CONFIG_BYTES / 4];
static uint32_t seed;

static uint32_t below(uint32_t limit)
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed % limit;
}

static uint32_t get(unsigned int at)
{
	uint32_t value = ~0u;

	return pread(config, &value, 4, at) == 4 ? value : ~0u;
}

static void put_to(int file, unsigned int at, uint32_t value)
{
	/* A refusal is an answer, too. */
	if (pwrite(file, &value, 4, at) != 4)
		return;
}

static void put(unsigned int at, uint32_t value)
{
	put_to(config, at, value);
}

static void flip(unsigned int at, uint32_t bits)
{
	put(at, get(at) ^ bits);
}

static unsigned int capability(uint8_t id)
{
	unsigned int at = saved[CAPABILITIES / 4] & 0xfc;
	int left;

	for (left = 48; at != 0 && left > 0; left--, at = saved[at / 4] >> 8 & 0xfc)
		if ((saved[at / 4] & 0xff) == id)
			return at;
	return 0;
}

static void restore_header(void)
{
	int bar;

	for (bar = 0; bar < BAR_COUNT; bar++)
		put(BARS + 4 * bar, saved[BARS / 4 + bar]);
	put(COMMAND, saved[COMMAND / 4] & 0xffff);
}

static void master(void)
{
	put(COMMAND, (get(COMMAND) ^ COMMAND_MASTER) & 0xffff);
}

static void memory(void)
{
	put(COMMAND, (get(COMMAND) ^ COMMAND_MEMORY) & 0xffff);
}

/* Elsewhere in the window, to where its size is read, to nowhere, and back. */
static void bars(void)
{
	unsigned int bar = below(BAR_COUNT);
	uint32_t was = saved[BARS / 4 + bar];
	uint32_t choices[] = { ~0u, 0, was ^ 1u << (12 + below(9)), was, was };

	put(BARS + 4 * bar, choices[below(5)]);
}

/* On another bus, or out of reach, and back; only now and then, for nothing else works meanwhile. */
static void port(void)
{
	unsigned int at = below(2) ? BUS_NUMBERS : MEMORY_WINDOW;
	uint32_t was = saved_port[at / 4];

	if (below(8) == 0)
		put_to(port_config, at, was ^ (1u + below(7)) << (at == BUS_NUMBERS ? 8 : 4));
	usleep(below(1000));
	put_to(port_config, at, was);
}

static void msi(void)
{
	unsigned int at = capability(CAP_MSI);
	uint32_t control = saved[at / 4];

	if (at == 0)
		return;
	if (control & MSI_MASKABLE && below(2))
		flip(at + (control & MSI_64_BIT ? 0x10 : 0x0c), 1u << below(2));
	else
		flip(at, MSI_ENABLE);
}

static void msix(void)
{
	unsigned int at = capability(CAP_MSIX);

	if (at != 0)
		flip(at, below(2) ? MSIX_MASK_ALL : MSIX_ENABLE);
}

static void flr(void)
{
	unsigned int at = capability(CAP_EXPRESS);

	if (at == 0)
		return;
	put(at + DEVICE_CONTROL, get(at + DEVICE_CONTROL) | FUNCTION_LEVEL_RESET);
	usleep(below(2000));
	if (below(2))
		restore_header();
}

static void doorbells(void)
{
	int ring;

	for (ring = 0; registers != NULL && ring < BURST; ring++)
		registers[DOORBELL / 4] = below(~0u);
}

static const struct act {
	const char *name;
	void (*run)(void);
} acts[] = {
	{ "master", master }, { "memory", memory }, { "bars", bars }, { "port", port },
	{ "msi", msi },	      { "msix", msix },	    { "flr", flr },   { "doorbells", doorbells },
};
#define ACTS (sizeof(acts) / sizeof(acts[0]))

static const struct act *find(const char *name)
{
	unsigned int index;

	for (index = 0; index < ACTS; index++)
		if (strcmp(acts[index].name, name) == 0)
			return &acts[index];
	fprintf(stderr, "storm: there is no %s\n", name);
	exit(2);
}

static int open_of(const char *function, const char *name)
{
	char path[128];
	int file;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", function, name);
	file = open(path, O_RDWR | O_SYNC);
	if (file >= 0)
		return file;
	perror(path);
	exit(1);
}

static void map_registers(const char *function)
{
	int file = open_of(function, "resource0");
	void *mapped = mmap(NULL, REGISTER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	registers = mapped == MAP_FAILED ? NULL : mapped;
	close(file);
}

int main(int argc, char **argv)
{
	unsigned int counts[ACTS] = { 0 };
	unsigned int total = 0;
	unsigned int index;
	FILE *file;

	if (argc < 4)
		return 2;
	config = open_of(argv[1], "config");
	seed = strtoul(argv[2], NULL, 0) | 1;
	if (pread(config, saved, CONFIG_BYTES, 0) != CONFIG_BYTES)
		return 1;
	port_config = open_of(argv[1], "../config");
	if (pread(port_config, saved_port, CONFIG_BYTES, 0) != CONFIG_BYTES)
		return 1;
	map_registers(argv[1]);
	for (; access("/calm", F_OK) != 0; total++) {
		const struct act *act = find(argv[3 + below(argc - 3)]);

		act->run();
		counts[act - acts]++;
		usleep(below(500));
		if (total % 16 != 0)
			continue;
		file = fopen("/acts.new", "w");
		fprintf(file, "%u\n", total);
		fclose(file);
		rename("/acts.new", "/acts");
	}
	restore_header();
	if (capability(CAP_MSI) != 0)
		put(capability(CAP_MSI), saved[capability(CAP_MSI) / 4]);
	if (capability(CAP_MSIX) != 0)
		put(capability(CAP_MSIX), saved[capability(CAP_MSIX) / 4]);
	for (index = 0; index < ACTS; index++)
		printf("storm %s %u\n", acts[index].name, counts[index]);
	return 0;
}
