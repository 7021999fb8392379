/* record_load KIND N [SECONDS]: what bench/record.py runs, with and without a recorder.
 *
 *   fork N              N times: fork, the child exits, the parent waits for it
 *   exec N              N times: fork, the child execs this program, which exits, the parent waits
 *   pingpong1 N         N round trips of a byte between two processes through pipes, both on one cpu
 *   pingpong2 N         the same, each on a cpu of its own
 *   switches N          round trips on one cpu for N seconds
 *   calls N             system calls that do nothing, on each cpu, for N seconds
 *   paced N SECONDS     N such calls a second on one cpu
 *
 * Prints how long it took in ns, how many rounds or calls there were, and its cpu time in seconds.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void fail(const char *what)
{
	perror(what);
	_exit(3);
}

static void stay_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("sched_setaffinity");
}

static void wait_for(pid_t pid)
{
	int status;

	if (pid < 0)
		fail("fork");
	if (waitpid(pid, &status, 0) != pid || status)
		fail("a child");
}

/* Round trips until `count` of them or until `end`, whichever is first; returns how many. */
static long pingpong(long count, long long end, int other_cpu)
{
	int there[2], back[2];
	long done = 0;
	pid_t pid;
	char c = 0;

	if (pipe(there) || pipe(back))
		fail("pipe");
	stay_on(0);
	pid = fork();
	if (pid == 0) {
		stay_on(other_cpu);
		close(there[1]);
		close(back[0]);
		while (read(there[0], &c, 1) == 1)
			if (write(back[1], &c, 1) != 1)
				_exit(3);
		_exit(0);
	}
	close(there[0]);
	close(back[1]);
	for (; done < count && (done % 64 || now() < end); done++)
		if (write(there[1], &c, 1) != 1 || read(back[0], &c, 1) != 1)
			fail("a round trip");
	close(there[1]);
	wait_for(pid);
	return done;
}

/* System calls on each cpu until `end`; returns their sum. */
static long syscalls(long long end)
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	long *done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	long sum = 0;
	pid_t pids[64];

	if (cpus > 64)
		cpus = 64;
	for (int cpu = 0; cpu < cpus; cpu++) {
		pids[cpu] = fork();
		if (pids[cpu] == 0) {
			long k = 0;

			stay_on(cpu);
			for (; k % 64 || now() < end; k++)
				syscall(SYS_getppid);
			done[cpu] = k;
			_exit(0);
		}
	}
	for (int cpu = 0; cpu < cpus; cpu++) {
		wait_for(pids[cpu]);
		sum += done[cpu];
	}
	return sum;
}

static void forks(long count)
{
	while (count--) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		wait_for(pid);
	}
}

static void execs(long count)
{
	while (count--) {
		pid_t pid = fork();

		if (pid == 0) {
			execl("/proc/self/exe", "record_load", "nothing", (char *)NULL);
			_exit(127);
		}
		wait_for(pid);
	}
}

/* As many calls a second on the first cpu as asked for, in bursts of a millisecond; returns their sum. */
static long paced(long a_second, long seconds)
{
	struct timespec next;
	long done = 0;

	stay_on(0);
	clock_gettime(CLOCK_MONOTONIC, &next);
	for (long ms = 1; ms <= seconds * 1000; ms++) {
		for (long due = a_second * ms / 1000; done < due; done++)
			syscall(SYS_getppid);
		next.tv_nsec += 1000000;
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	return done;
}

static double cpu_of(int who)
{
	struct rusage used;

	getrusage(who, &used);
	return used.ru_utime.tv_sec + used.ru_stime.tv_sec
	       + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
	const char *kind = argc > 1 ? argv[1] : "";
	long n = argc > 2 ? atol(argv[2]) : 0, seconds = argc > 3 ? atol(argv[3]) : 0, done = n;
	int other = sysconf(_SC_NPROCESSORS_ONLN) > 1;
	const long long never = 0x7fffffffffffffffLL;
	long long start = now(), until = start + n * 1000000000LL;

	if (!strcmp(kind, "nothing"))
		return 0;
	if (n <= 0)
		return 2;
	if (!strcmp(kind, "fork"))
		forks(n);
	else if (!strcmp(kind, "exec"))
		execs(n);
	else if (!strcmp(kind, "pingpong1"))
		pingpong(n, never, 0);
	else if (!strcmp(kind, "pingpong2"))
		pingpong(n, never, other);
	else if (!strcmp(kind, "switches"))
		done = pingpong(1L << 62, until, 0);
	else if (!strcmp(kind, "calls"))
		done = syscalls(until);
	else if (!strcmp(kind, "paced") && seconds > 0)
		done = paced(n, seconds);
	else
		return 2;
	printf("%lld %ld %.6f\n", now() - start, done, cpu_of(RUSAGE_SELF) + cpu_of(RUSAGE_CHILDREN));
	return 0;
}
