/* vfork() twice: a child that execs, and one that exits.  Both take a moment, while the parent cannot go on. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void moment(void)
{
	struct timespec ms = { 0, 20 * 1000 * 1000 };

	nanosleep(&ms, NULL);
}

int main(void)
{
	int status;
	pid_t pid = vfork();

	if (pid == 0) {
		moment();
		execl("/bin/true", "true", (char *)NULL);
		_exit(127);
	}
	write(1, "exec: went on\n", 14);
	waitpid(pid, &status, 0);
	pid = vfork();
	if (pid == 0) {
		moment();
		_exit(0);
	}
	write(1, "exit: went on\n", 14);
	waitpid(pid, &status, 0);
	return 0;
}
