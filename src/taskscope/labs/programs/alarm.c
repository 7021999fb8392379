/* Wakes up every 2 ms with realtime priority on CPU 0, while a program computes there: in user mode, or in the kernel. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void compute(const char *how)
{
	static char buffer[1 << 20];
	int fd = open("/dev/urandom", O_RDONLY);
	long long end = now() + 300000000;

	prctl(PR_SET_NAME, how);
	while (now() < end)
		if (strcmp(how, "in_kernel") == 0)
			read(fd, buffer, sizeof(buffer));
		else
			for (volatile int n = 0; n < 100000; n++)
				;
	_exit(0);
}

int main(void)
{
	static const char *const how[] = { "in_user", "in_kernel" };
	struct sched_param fifo = { .sched_priority = 50 }, none = { 0 };
	struct timespec nap = { 0, 2000000 };
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	if (sched_setaffinity(0, sizeof(set), &set) || sched_setscheduler(0, SCHED_FIFO, &fifo))
		return 1;
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			sched_setscheduler(0, SCHED_OTHER, &none);
			compute(how[i]);
		}
		while (waitpid(pid, NULL, WNOHANG) == 0)
			nanosleep(&nap, NULL);
	}
	return 0;
}
