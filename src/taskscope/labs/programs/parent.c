/* Three children that run mortal: one is waited for late, one at once, one not at all (SIGCHLD is ignored). */
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void ms(long n)
{
	struct timespec time = { 0, n * 1000000 };

	nanosleep(&time, NULL);
}

static pid_t child(const char *program)
{
	pid_t pid = fork();

	if (pid == 0) {
		execl(program, "mortal", (char *)NULL);
		_exit(127);
	}
	return pid;
}

int main(int argc, char **argv)
{
	char path[256];
	pid_t pid;

	(void)argc;
	snprintf(path, sizeof(path), "%s/mortal", dirname(argv[0]));
	pid = child(path);
	ms(500);
	waitpid(pid, NULL, 0);
	waitpid(child(path), NULL, 0);
	signal(SIGCHLD, SIG_IGN);
	child(path);
	ms(500);
	return 0;
}
