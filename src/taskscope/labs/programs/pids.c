/* Pids that forks give, the ids of a thread, and the pids around the turn: run as pid 1 of a pid namespace. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int child(void)
{
	int pid = fork();

	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	return pid;
}

static void *thread(void *unused)
{
	printf("thread: %d %ld\n", getpid(), syscall(SYS_gettid));
	return unused;
}

static int last(const char *number)
{
	int fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY);

	if (fd < 0 || write(fd, number, strlen(number)) < 0)
		return -1;
	return close(fd);
}

static int inside(void)
{
	pthread_t id;
	char text[16];
	int max = 0;
	FILE *file = fopen("/proc/sys/kernel/pid_max", "r");

	if (!file || fscanf(file, "%d", &max) != 1)
		return 1;
	printf("forked:");
	for (int i = 0; i < 5; i++)
		printf(" %d", child());
	printf("\nmain: %d %ld\n", getpid(), syscall(SYS_gettid));
	pthread_create(&id, NULL, thread, NULL);
	pthread_join(id, NULL);
	snprintf(text, sizeof(text), "%d", max - 4);
	if (last(text) < 0)
		return 2;
	printf("max: %d\nwrapped:", max);
	for (int i = 0; i < 6; i++)
		printf(" %d", child());
	printf("\nagain:");
	if (last("1") < 0)
		return 2;
	for (int i = 0; i < 3; i++)
		printf(" %d", child());
	printf("\n");
	return 0;
}

int main(void)
{
	int status = 1;

	if (unshare(CLONE_NEWPID) < 0)
		return 3;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		status = inside();
		fflush(stdout);
		_exit(status);
	}
	waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}
