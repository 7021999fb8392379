/* The notes' variant that ends by itself: two rounds of 3 s, then exit(EXIT_SUCCESS). */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PROC_TIMES 2
#define SLEEP_DURATION 3

int main(void)
{
	for (int i = 0; i < PROC_TIMES; i++) {
		printf("raspbian tracing\n");
		fflush(stdout);
		sleep(SLEEP_DURATION);
	}
	exit(EXIT_SUCCESS);
}
