/* fork() in the ways there are: glibc's, the system call itself, and one that RLIMIT_NPROC refuses. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		printf("child got: 0\nchild is: %d\nchild's parent: %d\n", getpid(), getppid());
		fflush(stdout);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	printf("parent got: %d\nparent is: %d\n", pid, getpid());
	fflush(stdout);
	/* where there is no such system call (arm64), fork(2) is clone(2) with SIGCHLD alone */
#ifdef SYS_fork
	pid = syscall(SYS_fork);
#else
	pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
	pid = fork();
	if (pid == 0) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_NPROC, &none);
		/* the system call: glibc's would change all threads, and we have but one */
		if (syscall(SYS_setuid, 65534) == 0 && fork() < 0)
			printf("at the limit: %s\n", errno == EAGAIN ? "EAGAIN" : strerror(errno));
		else
			printf("at the limit: no error\n");
		fflush(stdout);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	return 0;
}
