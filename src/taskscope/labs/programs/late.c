/* A child that ends at once with code 7, and a parent that waits for it two seconds later. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(7);
	printf("child %d\n", pid);
	fflush(stdout);
	sleep(2);
	waitpid(pid, &status, 0);
	printf("status %#x\n", status);
	return 0;
}
