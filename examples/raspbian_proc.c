/* The program whose life examples/recordings/raspbian_proc.dat tells: it speaks every three seconds, until it is killed. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(void)
{
	for (int i = 0; i < 500; i++) {
		printf("raspbian tracing\n");
		fflush(stdout);
		sleep(3);
	}
	return EXIT_SUCCESS;
}
