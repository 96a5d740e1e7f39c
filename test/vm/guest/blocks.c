/*
 * blocks DISK: writes all blocks of the beginning of a disk again and again, past the page cache,
 * until the file /stop is there. Each is read before it is written: it has to hold what it was
 * given last, and at the end all of them.
 *
 * Prints "RESULT blocks ok pass=N" for each time that all were written, or
 * "RESULT blocks failed: why".
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCKS 64
#define BLOCK_BYTES 4096
#define BLOCK_WORDS (BLOCK_BYTES / sizeof(uint64_t))

static int disk;
static uint64_t block[BLOCK_WORDS] __attribute__((aligned(BLOCK_BYTES)));

/* The first word of a block is the pass; no two blocks and no two passes are alike. */
static uint64_t word(uint64_t pass, uint64_t number, uint64_t at)
{
	uint64_t mixed = (pass * BLOCKS + number) * BLOCK_WORDS + at;

	return at ? mixed * 0x9e3779b97f4a7c15 : pass;
}

static void fail(uint64_t pass, int number, const char *why)
{
	printf("RESULT blocks failed: block %d of pass %ju: %s\n", number, (uintmax_t)pass, why);
	exit(1);
}

static void put(uint64_t pass, int number)
{
	for (size_t at = 0; at < BLOCK_WORDS; at++)
		block[at] = word(pass, number, at);
	if (pwrite(disk, block, BLOCK_BYTES, (off_t)number * BLOCK_BYTES) != BLOCK_BYTES)
		fail(pass, number, strerror(errno));
}

static void expect(uint64_t pass, int number)
{
	if (pread(disk, block, BLOCK_BYTES, (off_t)number * BLOCK_BYTES) != BLOCK_BYTES)
		fail(pass, number, strerror(errno));
	for (size_t at = 0; at < BLOCK_WORDS; at++)
		if (block[at] != word(pass, number, at))
			fail(pass, number, "it holds something else");
}

int main(int count, char **args)
{
	uint64_t pass;

	disk = count == 2 ? open(args[1], O_RDWR | O_DIRECT | O_DSYNC) : -1;
	if (disk < 0)
		fail(0, 0, "no disk");
	setlinebuf(stdout);
	for (pass = 1; access("/stop", F_OK) != 0; pass++) {
		for (int number = 0; number < BLOCKS; number++) {
			if (pass > 1)
				expect(pass - 1, number);
			put(pass, number);
		}
		printf("RESULT blocks ok pass=%ju\n", (uintmax_t)pass);
	}
	for (int number = 0; number < BLOCKS; number++)
		expect(pass - 1, number);
	return 0;
}
