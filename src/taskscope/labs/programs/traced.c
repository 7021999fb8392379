/* A child that is traced: parent and real_parent differ.  Says PPid and TracerPid, and who gets its wait status first. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void nap(void)
{
	struct timespec time = { 0, 5 * 1000 * 1000 };

	nanosleep(&time, NULL);
}

static int number(pid_t pid, const char *name)
{
	char path[64], line[256];
	int value = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, name, strlen(name)) == 0)
			sscanf(line + strlen(name), " %d", &value);
	if (file)
		fclose(file);
	return value;
}

static void tell(const char *when, pid_t pid)
{
	printf("%s: ppid %d tracer %d\n", when, number(pid, "PPid:"), number(pid, "TracerPid:"));
}

static pid_t rest(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_NAME, "child");
		for (;;)
			pause();
	}
	return pid;
}

/* The creator dies while another traces its child, who then lets it go. */
static int creator_dies(void)
{
	int up[2], down[2];
	pid_t creator, child, got;
	char c;

	if (pipe(up) || pipe(down))
		return 1;
	creator = fork();
	if (creator == 0) {
		prctl(PR_SET_NAME, "creator");
		close(down[1]);
		child = rest();
		if (write(up[1], &child, sizeof(child)) != sizeof(child))
			_exit(1);
		_exit(read(down[0], &c, 1) != 0);
	}
	if (read(up[0], &child, sizeof(child)) != sizeof(child))
		return 1;
	/* the child has the end of the pipe, too, that it waits for: but only to read */
	printf("creator %d, child %d, tracer %d\n", creator, child, getpid());
	tell("before", child);
	if (ptrace(PTRACE_ATTACH, child, 0, 0)) {
		perror("ptrace");
		return 1;
	}
	waitpid(child, NULL, __WALL);
	tell("traced", child);
	close(down[1]);
	waitpid(creator, NULL, 0);
	tell("creator dead", child);
	ptrace(PTRACE_DETACH, child, 0, 0);
	tell("let go", child);
	got = waitpid(child, NULL, WNOHANG);
	printf("it is no child of who traced it: %s\n", got < 0 ? "ECHILD" : "a child");
	kill(child, SIGKILL);
	return 0;
}

/* The child is killed while it is traced: the tracer is told first. */
static int who_is_first(void)
{
	int up[2], down[2], status = 0;
	pid_t child = rest(), tracer, got;
	char c = 0;

	if (pipe(up) || pipe(down))
		return 1;
	tracer = fork();
	if (tracer == 0) {
		char path[64], text[512], state = 0;

		prctl(PR_SET_NAME, "tracer");
		if (ptrace(PTRACE_ATTACH, child, 0, 0))
			_exit(1);
		waitpid(child, NULL, __WALL);
		kill(child, SIGKILL);
		snprintf(path, sizeof(path), "/proc/%d/stat", child);
		while (state != 'Z') {
			FILE *file = fopen(path, "r");

			if (file && fgets(text, sizeof(text), file))
				state = strrchr(text, ')')[2];
			if (file)
				fclose(file);
			nap();
		}
		if (write(up[1], &c, 1) != 1 || read(down[0], &c, 1) != 1)
			_exit(1);
		waitpid(child, &status, __WALL);
		printf("tracer got %#x\n", status);
		fflush(stdout);
		_exit(0);
	}
	printf("creator %d, child %d, tracer %d\n", getpid(), child, tracer);
	fflush(stdout);
	if (read(up[0], &c, 1) != 1)
		return 1;
	got = waitpid(child, &status, WNOHANG);
	printf("a zombie, and its creator gets %d\n", got);
	fflush(stdout);
	if (write(down[1], &c, 1) != 1)
		return 1;
	waitpid(tracer, NULL, 0);
	got = waitpid(child, &status, 0);
	printf("then its creator got %#x\n", got == child ? status : -1);
	return 0;
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	return argc > 1 && strcmp(argv[1], "first") == 0 ? who_is_first() : creator_dies();
}
