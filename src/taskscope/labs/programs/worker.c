/* Computes for some time on one CPU with short sleeps, and prints what /proc says of its times at the end. */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static long long now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	cpu_set_t set;
	struct timespec pause = { 0, 5 * 1000 * 1000 };
	long long end = now(CLOCK_MONOTONIC) + (argc > 1 ? atoll(argv[1]) : 500) * 1000000;
	char text[512];
	FILE *file;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	sched_setaffinity(0, sizeof(set), &set);
	while (now(CLOCK_MONOTONIC) < end) {
		long long until = now(CLOCK_THREAD_CPUTIME_ID) + 40 * 1000000;

		while (now(CLOCK_THREAD_CPUTIME_ID) < until)
			;
		nanosleep(&pause, NULL);
	}
	file = fopen("/proc/self/schedstat", "r");
	if (file && fgets(text, sizeof(text), file))
		printf("schedstat %s", text);
	if (file)
		fclose(file);
	file = fopen("/proc/self/stat", "r");
	if (file && fgets(text, sizeof(text), file))
		printf("stat %s", text);
	return 0;
}
