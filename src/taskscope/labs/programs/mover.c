/* From CPU to CPU by affinity; says where it is each time. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	int cpus[] = { 0, 1, 0 };

	for (int i = 0; i < 3; i++) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(cpus[i], &set);
		if (sched_setaffinity(0, sizeof(set), &set))
			return 1;
		for (volatile int n = 0; n < 1000000; n++)
			;
		printf("on %d after affinity {%d}\n", sched_getcpu(), cpus[i]);
		fflush(stdout);
	}
	return 0;
}
