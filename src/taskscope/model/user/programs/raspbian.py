"""The programs of the study notes: raspbian_proc, the same ended by exit(), and the one that forks."""

from __future__ import annotations

from taskscope.model.user.libc import Sys

PROC_TIMES = 500
SLEEP_DURATION = 3
EXIT_TIMES = 3
FORK_TIMES = 50
FORK_SLEEP_DURATION = 2
EXIT_SUCCESS = 0


def raspbian_proc(sys: Sys, argv: list[str]) -> int:
    """Print "raspbian tracing" and sleep 3 s, 500 times (or as often as the argument says)."""
    for _ in range(int(argv[1]) if len(argv) > 1 else PROC_TIMES):
        sys.printf("raspbian tracing \n")
        sys.sleep(SLEEP_DURATION)
    return 0


def raspbian_exit(sys: Sys, argv: list[str]) -> int:
    """Print "raspbian tracing" and sleep 3 s, 3 times, and end by exit(EXIT_SUCCESS)."""
    for _ in range(int(argv[1]) if len(argv) > 1 else EXIT_TIMES):
        sys.printf("raspbian tracing \n")
        sys.sleep(SLEEP_DURATION)
    sys.exit(EXIT_SUCCESS)


def raspbian_fork(sys: Sys, argv: list[str]) -> int:
    """Fork; parent and child say so and print "raspbian tracing" every 2 s, 50 times."""
    times = int(argv[1]) if len(argv) > 1 else FORK_TIMES
    pid = sys.fork()
    if pid == 0:
        sys.printf("start execution of child process \n")
        raspbian_proc_process(sys, times)
    elif pid > 0:
        sys.printf("start execution of parent process \n")
        raspbian_proc_process(sys, times)
    return 0


def raspbian_proc_process(sys: Sys, times: int) -> None:
    """What both do."""
    for _ in range(times):
        sys.printf("raspbian tracing \n")
        sys.sleep(FORK_SLEEP_DURATION)
