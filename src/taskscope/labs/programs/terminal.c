/* Terminals: N pseudo-terminals, each with a shell that leads its session and starts a program; then the first is closed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* pid, ppid, session, tty of /proc/PID/stat */
static void tell(const char *what, int pid)
{
	char path[64], text[1024], state;
	int ppid, pgrp, sid, tty;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = fopen(path, "r");
	if (!file)
		return;
	if (fgets(text, sizeof(text), file) &&
	    sscanf(strrchr(text, ')') + 2, "%c %d %d %d %d", &state, &ppid, &pgrp, &sid, &tty) == 5)
		printf("%s %d %d %d %d\n", what, pid, ppid, sid, tty);
	fclose(file);
	fflush(stdout);
}

/* read the terminal until a line has the mark and a number behind it */
static int number_behind(int fd, const char *mark)
{
	char text[4096];
	size_t have = 0;
	struct pollfd ready = { fd, POLLIN, 0 };

	while (have < sizeof(text) - 1 && poll(&ready, 1, 10000) > 0) {
		ssize_t n = read(fd, text + have, sizeof(text) - 1 - have);
		char *found;

		if (n <= 0)
			break;
		have += n;
		text[have] = 0;
		/* the echo of what was typed has the mark with a $ behind it */
		for (found = strstr(text, mark); found; found = strstr(found + 1, mark)) {
			char *end;
			long value = strtol(found + strlen(mark), &end, 10);

			if (end > found + strlen(mark) && *end)
				return value;
		}
	}
	return -1;
}

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 2, masters[8], shells[8], status;

	for (int i = 0; i < count && i < 8; i++) {
		static const char line[] = "sleep 100 & echo program=$!\n";
		int child;

		masters[i] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
		grantpt(masters[i]);
		unlockpt(masters[i]);
		shells[i] = fork();
		if (shells[i] == 0) {
			int fd;

			setsid();
			fd = open(ptsname(masters[i]), O_RDWR);
			ioctl(fd, TIOCSCTTY, 0);
			dup2(fd, 0);
			dup2(fd, 1);
			dup2(fd, 2);
			execl("/bin/sh", "sh", "-i", (char *)NULL);
			_exit(127);
		}
		if (write(masters[i], line, sizeof(line) - 1) < 0)
			return 1;
		child = number_behind(masters[i], "program=");
		tell("shell", shells[i]);
		tell("program", child);
	}
	close(masters[0]);
	for (int i = 0; i < 100 && waitpid(shells[0], &status, WNOHANG) == 0; i++)
		usleep(50000);
	if (WIFSIGNALED(status))
		printf("closed: shell ended by signal %d\n", WTERMSIG(status));
	else if (WIFEXITED(status))
		printf("closed: shell exited\n");
	fflush(stdout);
	for (int i = 1; i < count && i < 8; i++) {
		close(masters[i]);
		kill(shells[i], SIGKILL);
	}
	return 0;
}
