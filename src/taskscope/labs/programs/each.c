/* Each signal from 1 to 64 sent to a child of its own, and what became of the child: Term, Core, Stop or Ign. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	for (int sig = 1; sig <= 64; sig++) {
		const char *word = "Ign";
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			struct rlimit core = { 1 << 20, 1 << 20 };

			setrlimit(RLIMIT_CORE, &core);
			/* a group that a parent in the session can continue: SIGTSTP stops no orphaned group */
			setpgid(0, 0);
			/* the system call: glibc's refuse 32 and 33 */
			syscall(SYS_tgkill, getpid(), getpid(), sig);
			_exit(0);
		}
		waitpid(pid, &status, WUNTRACED);
		if (WIFSTOPPED(status)) {
			word = "Stop";
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
		} else if (WIFSIGNALED(status)) {
			word = WCOREDUMP(status) ? "Core" : "Term";
		}
		printf("%d %s\n", sig, word);
		fflush(stdout);
	}
	return 0;
}
