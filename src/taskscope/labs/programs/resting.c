/* A process with two threads; both sleep until somebody ends them. */
#include <pthread.h>
#include <unistd.h>

static void *rest(void *unused)
{
	pause();
	return unused;
}

int main(void)
{
	pthread_t id;

	pthread_create(&id, NULL, rest, NULL);
	pause();
	return 0;
}
