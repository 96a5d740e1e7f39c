/*
 * pressure MEGABYTES [stop]: fills memory with pages that compress to about a third, and reads them
 * back. In a control group that may not hold as much, pages are swapped out and in again.
 *
 * With "stop" it stops itself (SIGSTOP) when all is written. Nothing is swapped in until it goes on.
 *
 * Prints "RESULT pressure ok pages=N" or "RESULT pressure failed: why".
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE_WORDS 512

/* Word `at` of page `page`: a quarter looks random, the others repeat, and no two pages are alike. */
static uint64_t word(uint64_t page, uint64_t at)
{
	uint64_t mixed = (page * PAGE_WORDS + at + 1) * 0x9e3779b97f4a7c15;

	return at % 4 ? page : mixed ^ mixed >> 29;
}

int main(int count, char **args)
{
	size_t pages = count > 1 ? (size_t)atol(args[1]) << 8 : 0;
	int own = mlockall(MCL_CURRENT);
	uint64_t *memory = mmap(NULL, pages << 12, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (own || memory == MAP_FAILED) {
		printf("RESULT pressure failed: no memory\n");
		return 1;
	}
	madvise(memory, pages << 12, MADV_NOHUGEPAGE);
	for (size_t i = 0; i < pages * PAGE_WORDS; i++)
		memory[i] = word(i / PAGE_WORDS, i % PAGE_WORDS);
	if (count > 2)
		raise(SIGSTOP);
	for (size_t i = 0; i < pages * PAGE_WORDS; i++) {
		if (memory[i] != word(i / PAGE_WORDS, i % PAGE_WORDS)) {
			printf("RESULT pressure failed: page %zu differs\n", i / PAGE_WORDS);
			return 1;
		}
	}
	printf("RESULT pressure ok pages=%zu\n", pages);
	return 0;
}
