/* A task names itself: prctl(PR_SET_NAME) keeps 15 bytes. */
#include <stdio.h>
#include <sys/prctl.h>

int main(void)
{
	char name[16];

	prctl(PR_GET_NAME, name);
	printf("before: %s\n", name);
	prctl(PR_SET_NAME, "twelve_by_15_bytes");
	prctl(PR_GET_NAME, name);
	printf("after: %s\n", name);
	return 0;
}
