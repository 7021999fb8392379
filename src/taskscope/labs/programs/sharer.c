/* What clone() flags share, as kcmp(2) tells; what they change for the parent; and which combinations are refused. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* linux/kcmp.h */
enum { KCMP_FILE, KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND };

static char stack[65536] __attribute__((aligned(16)));

static int rest(void *unused)
{
	(void)unused;
	pause();
	return 0;
}

static int act(void *unused)
{
	(void)unused;
	dup2(open("/dev/null", O_RDONLY), 9);
	return chdir("/tmp");
}

static void sharing(const char *name, int flags)
{
	static const struct { const char *name; int type; } kinds[] = {
		{ "mm", KCMP_VM }, { "fs", KCMP_FS }, { "files", KCMP_FILES }, { "sighand", KCMP_SIGHAND },
	};
	pid_t pid = clone(rest, stack + sizeof(stack), flags | SIGCHLD, NULL);

	printf("%s:", name);
	for (unsigned i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (syscall(SYS_kcmp, getpid(), pid, kinds[i].type, 0, 0) == 0)
			printf(" %s", kinds[i].name);
	printf("\n");
	fflush(stdout);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void effects(const char *name, int flags)
{
	char cwd[256];
	pid_t pid;

	if (chdir("/"))
		return;
	pid = clone(act, stack + sizeof(stack), flags | SIGCHLD, NULL);
	waitpid(pid, NULL, 0);
	printf("after %s, fd: %s\n", name, fcntl(9, F_GETFD) < 0 ? "EBADF" : "open");
	printf("after %s, cwd: %s\n", name, getcwd(cwd, sizeof(cwd)));
	fflush(stdout);
	close(9);
}

static void refused(const char *name, unsigned long flags)
{
	long pid = syscall(SYS_clone, flags | (flags & CLONE_THREAD ? 0 : SIGCHLD), 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	printf("%s: %s\n", name, pid >= 0 ? "no error" : errno == EINVAL ? "EINVAL" : strerror(errno));
	fflush(stdout);
}

int main(void)
{
	sharing("none", 0);
	sharing("CLONE_VM", CLONE_VM);
	sharing("CLONE_FS", CLONE_FS);
	sharing("CLONE_FILES", CLONE_FILES);
	sharing("CLONE_SIGHAND", CLONE_VM | CLONE_SIGHAND);
	effects("nothing", 0);
	effects("CLONE_FILES", CLONE_FILES);
	effects("CLONE_FS", CLONE_FS);
	refused("CLONE_THREAD without CLONE_SIGHAND", CLONE_THREAD | CLONE_VM);
	refused("CLONE_SIGHAND without CLONE_VM", CLONE_SIGHAND);
	refused("CLONE_NEWNS with CLONE_FS", CLONE_NEWNS | CLONE_FS);
	refused("CLONE_NEWUSER with CLONE_FS", CLONE_NEWUSER | CLONE_FS);
	refused("CLONE_NEWPID with CLONE_THREAD", CLONE_NEWPID | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM);
	return 0;
}
