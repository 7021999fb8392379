/* The notes' program: it prints a line, sleeps for 3 s, 500 times; whoever kills it comes before that. */
#include <stdio.h>
#include <unistd.h>

#define PROC_TIMES 500
#define SLEEP_DURATION 3

int main(void)
{
	for (int i = 0; i < PROC_TIMES; i++) {
		printf("raspbian tracing\n");
		fflush(stdout);
		sleep(SLEEP_DURATION);
	}
	return 0;
}
