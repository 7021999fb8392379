/* Signals in every way: handled, ignored, blocked, queued; a child that is stopped and continued. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t first = 1, count;

static void numbers(const sigset_t *set)
{
	for (int sig = 1; sig <= 64; sig++)
		if (sigismember(set, sig) == 1)
			printf(" %d", sig);
}

static void handler(int sig, siginfo_t *info, void *unused)
{
	(void)unused;
	count++;
	if (first) {
		sigset_t blocked;

		first = 0;
		printf("handler %d code %d from %d\nblocked meanwhile", sig, info->si_code, info->si_pid);
		sigprocmask(SIG_BLOCK, NULL, &blocked);
		numbers(&blocked);
		printf("\n");
	}
}

static void ms(long n)
{
	struct timespec time = { 0, n * 1000000 };

	nanosleep(&time, NULL);
}

/* the letter of a process's state; a process that was just sent something gets the time to come to rest in it */
static char state(pid_t pid, char wanted)
{
	char path[64], text[1024], letter = '?';

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	for (int i = 0; i < 400 && letter != wanted; i++) {
		FILE *file = fopen(path, "r");

		if (file && fgets(text, sizeof(text), file))
			letter = strrchr(text, ')')[2];
		if (file)
			fclose(file);
		if (letter != wanted)
			ms(5);
	}
	return letter;
}

int main(void)
{
	struct sigaction act = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO };
	struct timespec none = { 0, 0 };
	sigset_t both, pending;
	siginfo_t info;
	int status, taken = 0, values[8];
	pid_t me = getpid(), pid;

	setvbuf(stdout, NULL, _IOLBF, 0);
	sigaction(SIGUSR1, &act, NULL);
	sigaction(SIGRTMIN, &act, NULL);
	kill(me, SIGUSR1);
	signal(SIGTERM, SIG_IGN);
	kill(me, SIGTERM);
	printf("ignored %d: alive\n", SIGTERM);
	signal(SIGTERM, SIG_DFL);

	sigemptyset(&both);
	sigaddset(&both, SIGUSR1);
	sigaddset(&both, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &both, NULL);
	count = 0;
	kill(me, SIGUSR1);
	sigpending(&pending);
	kill(me, SIGUSR1);
	kill(me, SIGUSR1);
	sigprocmask(SIG_UNBLOCK, &both, NULL);
	printf("blocked %d: pending", SIGUSR1);
	numbers(&pending);
	printf(", then handled\nstandard %d: handled %d time%s\n", SIGUSR1, count, count == 1 ? "" : "s");

	sigprocmask(SIG_BLOCK, &both, NULL);
	for (int value = 1; value <= 3; value++)
		sigqueue(me, SIGRTMIN, (union sigval){ .sival_int = value });
	while (taken < 8 && sigtimedwait(&both, &info, &none) > 0)
		values[taken++] = info.si_value.sival_int;
	printf("real-time %d: handled %d times, values", SIGRTMIN, taken);
	for (int i = 0; i < taken; i++)
		printf(" %d", values[i]);
	printf("\n");
	sigprocmask(SIG_UNBLOCK, &both, NULL);

	pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	state(pid, 'S');
	kill(pid, SIGSTOP);
	waitpid(pid, &status, WUNTRACED);
	printf("stopped: status %#06x, state %c\n", status, state(pid, 'T'));
	kill(pid, SIGTERM);
	ms(20);
	printf("SIGTERM meanwhile: state %c\n", state(pid, 'T'));
	kill(pid, SIGCONT);
	waitpid(pid, &status, 0);
	printf("continued: ended %#06x\n", status);
	/* alive when the child is freed: that tells that it was reaped */
	ms(100);
	return 0;
}
