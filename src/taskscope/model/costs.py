"""What kernel code costs in virtual time, in nanoseconds.

The order of magnitude is that of a 2 GHz machine; nothing else in the model takes time.  One constant, one place that
charges it, named beside it.
"""

from __future__ import annotations

from typing import Final

SYSCALL: Final = 200            # entry and exit of a system call: arch/*/entry
CONTEXT_SWITCH: Final = 1_500   # context_switch()
SCHEDULE: Final = 300           # __schedule() that goes on with the same task
WAKEUP: Final = 500             # try_to_wake_up() that wakes
IRQ: Final = 500                # an interrupt, beside what its handler does: irq_enter()
TICK: Final = 1_000             # tick_sched_timer()
PAGE_FAULT: Final = 700         # a page that a program touches for the first time: do_page_fault()
RECLAIM: Final = 20_000         # one look through the zone for pages to free: shrink_node()
FORK: Final = 60_000            # copy_process() of a process
FORK_THREAD: Final = 15_000     # copy_process() that shares the address space
EXEC: Final = 250_000           # begin_new_exec() to the first instruction
EXIT: Final = 40_000            # do_exit() up to exit_notify()
SIGNAL: Final = 1_000           # sending or delivering one
COPY_KIB: Final = 100           # copying 1 KiB between user and kernel
IPI_LATENCY: Final = 1_000      # from one CPU's write to the other's interrupt
