/* Three ways to lose a parent: to init, to a subreaper, to another thread of the process.  Each says both ppids. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void ms(long n)
{
	struct timespec time = { n / 1000, n % 1000 * 1000000 };

	nanosleep(&time, NULL);
}

static pid_t rest(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		int before = getppid();

		prctl(PR_SET_NAME, "orphan");
		ms(300);
		printf("orphan %d before %d after %d\n", getpid(), before, getppid());
		fflush(stdout);
		_exit(0);
	}
	return pid;
}

static void *parent_thread(void *unused)
{
	rest();
	ms(100);
	return unused;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "init";
	pid_t pid;

	if (strcmp(how, "thread") == 0) {
		pthread_t id;

		pthread_create(&id, NULL, parent_thread, NULL);
		pthread_join(id, NULL);
		printf("me %d\n", getpid());
		fflush(stdout);
		wait(NULL);
		ms(100);
		return 0;
	}
	if (strcmp(how, "subreaper") == 0)
		prctl(PR_SET_CHILD_SUBREAPER, 1);
	printf("me %d\n", getpid());
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_NAME, "creator");
		rest();
		ms(100);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	if (strcmp(how, "subreaper") == 0) {
		wait(NULL);
		ms(100);
	} else {
		ms(400);
	}
	return 0;
}
