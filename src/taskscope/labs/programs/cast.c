/* Processes in the states that a task descriptor can tell of, all holding still.  Prints "NAME PID" for each, then "ready". */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void nap(int ms)
{
	struct timespec time = { 0, ms * 1000000L };

	nanosleep(&time, NULL);
}

static void rest(void)
{
	for (;;)
		pause();
}

static void *rests(void *unused)
{
	rest();
	return unused;
}

static void nothing(int sig)
{
	(void)sig;
}

static void tell(const char *name, pid_t pid)
{
	printf("%s %d\n", name, pid);
	fflush(stdout);
}

/* Makes a child under a name. */
static pid_t child(const char *name)
{
	pid_t pid = fork();

	if (pid == 0)
		prctl(PR_SET_NAME, name);
	else
		tell(name, pid);
	return pid;
}

int main(void)
{
	pthread_t id;
	pid_t stopped, vforker, tracee;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (child("sleeper") == 0)
		for (;;)
			sleep(3);
	if (child("zombie") == 0)
		_exit(3);
	stopped = child("stopped");
	if (stopped == 0) {
		signal(SIGUSR1, nothing);
		rest();
	}
	vforker = child("vforker");
	if (vforker == 0) {
		signal(SIGUSR1, nothing);
		if (vfork() == 0)
			rest();
		_exit(0);
	}
	if (child("threads") == 0) {
		pthread_create(&id, NULL, rests, NULL);
		pthread_create(&id, NULL, rests, NULL);
		rest();
	}
	if (child("subreaper") == 0) {
		prctl(PR_SET_CHILD_SUBREAPER, 1);
		if (fork() == 0) {
			if (child("orphan") == 0)
				rest();
			_exit(0);
		}
		wait(NULL);
		rest();
	}
	tracee = child("tracee");
	if (tracee == 0)
		for (;;)
			nap(20);
	if (child("tracer") == 0) {
		ptrace(PTRACE_ATTACH, tracee, 0, 0);
		waitpid(tracee, NULL, __WALL);
		/* on to its next system call: it stops there, on the way in */
		ptrace(PTRACE_SYSCALL, tracee, 0, 0);
		waitpid(tracee, NULL, __WALL);
		rest();
	}
	if (child("busy") == 0)
		for (;;)
			;
	nap(300);
	kill(stopped, SIGSTOP);
	nap(100);
	/* they are not delivered before the two go on */
	kill(stopped, SIGUSR1);
	kill(vforker, SIGUSR1);
	nap(200);
	printf("ready\n");
	fflush(stdout);
	rest();
	return 0;
}
