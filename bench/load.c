/* load GROUPS SECONDS: what runs while bench/record_large.sh records.
 *
 * Each group is a process and its partner that wake each other through a pair of pipes as fast as they can, so the
 * scheduler switches all the time; every 256 rounds a child is forked, which exits with a status, execs a program, or
 * is killed (by SIGTERM or SIGKILL in turn) while it waits.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHECK_CLOCK = 64, FORK = 256, KILLED = 1024, EXECS = 2048 };

static long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec;
}

static void echo(int from, int to)
{
	char c;

	while (read(from, &c, 1) == 1 && write(to, &c, 1) == 1)
		;
	_exit(0);
}

static void child(long round)
{
	if (round % EXECS == 0) {
		dup2(open("/dev/null", O_WRONLY), 1);
		execl("/bin/whoami", "whoami", (char *)NULL);
	}
	if (round % KILLED == KILLED / 2)
		for (;;)
			pause();
	_exit(round / FORK % 7);
}

static void raise_child(long round)
{
	pid_t pid = fork();

	if (pid == 0)
		child(round);
	if (round % KILLED == KILLED / 2)
		kill(pid, round % EXECS == KILLED / 2 ? SIGTERM : SIGKILL);
	waitpid(pid, NULL, 0);
}

static void group(int number, long seconds)
{
	int there[2], back[2];
	char c = 0, name[16];
	long end = now() + seconds;

	if (pipe(there) || pipe(back))
		_exit(1);
	snprintf(name, sizeof(name), "load-%d", number);
	prctl(PR_SET_NAME, name);
	if (fork() == 0) {
		close(there[1]);
		close(back[0]);
		echo(there[0], back[1]);
	}
	close(there[0]);
	close(back[1]);
	for (long round = 0; ; round++) {
		if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
			_exit(1);
		if (round % CHECK_CLOCK == 0 && now() >= end)
			_exit(0);
		if (round % FORK == 0)
			raise_child(round);
	}
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	for (int i = 0; i < atoi(argv[1]); i++)
		if (fork() == 0)
			group(i, atol(argv[2]));
	while (wait(NULL) > 0 || errno == EINTR)
		;
	return 0;
}
