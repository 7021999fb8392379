/* The notes' program that forks: parent and child print their start line, then a line every 2 s; how often as argument. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PROC_TIMES 50
#define SLEEP_DURATION 2

static void print_message(int times)
{
	for (int i = 0; i < times; i++) {
		printf("raspbian tracing\n");
		fflush(stdout);
		sleep(SLEEP_DURATION);
	}
}

int main(int argc, char **argv)
{
	int times = argc > 1 ? atoi(argv[1]) : PROC_TIMES;
	pid_t pid = fork();

	if (pid == 0) {
		printf("start execution of child process\n");
		print_message(times);
		return 0;
	}
	printf("start execution of parent process\n");
	print_message(times);
	return 0;
}
