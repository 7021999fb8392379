/* holder NAME KIB ADJ: takes memory, a little at a time, under a name and with an oom_score_adj, and keeps it. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	size_t step = 1 << 20, size;
	FILE *file;

	if (argc < 4)
		return 2;
	prctl(PR_SET_NAME, argv[1]);
	file = fopen("/proc/self/oom_score_adj", "w");
	if (!file || fputs(argv[3], file) < 0 || fclose(file))
		return 1;
	size = strtoul(argv[2], NULL, 10) << 10;
	for (size_t at = 0; at < size; at += step) {
		volatile char *memory = mmap(NULL, step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (memory == MAP_FAILED)
			return 1;
		for (size_t page = 0; page < step; page += 4096)
			memory[page] = 1;
	}
	printf("%s has it\n", argv[1]);
	fflush(stdout);
	for (;;)
		pause();
}
