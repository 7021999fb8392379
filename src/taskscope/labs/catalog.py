"""The labs by name, in the order of the study notes; each is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from taskscope.errors import UsageError
from taskscope.labs.lab import Lab

#: name -> title
TITLES: dict[str, str] = {
    "ps-ely": "the process table, read from init_task.tasks",
    "ps-ejH": "parents and children, indented",
    "ps-axjf": "the forest, and what kind each kernel thread is of",
    "terminals": "each terminal adds a shell; shells start programs",
    "pid": "how pids are given out, and reused",
    "comm": "the name of a task: inherited, changed by exec and prctl",
    "fork": "fork() from the library to _do_fork(), and both results",
    "fork-both": "parent and child run the same program",
    "vfork": "the parent waits until the child execs or exits",
    "clone-flags": "what each clone flag shares, and which are refused",
    "copy-process": "the order of copy_process(), and its unwinding",
    "wake-up-new-task": "from TASK_NEW to the runqueue",
    "raspbian-proc": "a program sleeps, prints, and is killed: four stages",
    "raspbian-exit": "the same program ends by exit()",
    "exec-whoami": "a shell runs whoami: fork, exec, exit, free",
    "kthread-create": "a kernel thread is asked for, and made by kthreadd",
    "kthread-kinds": "kthreadd, a worker and an interrupt thread at work",
    "kthreadd-wakeup": "who wakes kthreadd, and whom the notes' patch names",
    "do-exit": "the order of do_exit(), and its recursion guard",
    "task-dead": "who drops the stack and the task_struct of a dead task",
    "task-struct": "one task descriptor, every bit named",
    "parents": "real_parent and parent, and who adopts orphans",
    "signals": "what each signal does, and to whom",
    "zombie": "a child that nobody has waited for yet",
    "times": "utime, stime and sched_info, and what they agree with",
    "thread-info": "where thread_info is, and how current is found",
    "tif-flags": "the thread flags, on the way in and out",
    "irq-context": "what an interrupt does to preempt_count and to current",
    "softirq-context": "what an interrupt leaves for later, and where that runs",
    "preempt": "when a task loses its CPU, and what forbids it",
    "cpu": "which CPU a task is on, and who changes it",
    "stack-alloc": "slab, pages and cached stacks over forks and exits",
    "fork-gdb": "fork() in a debugger, up to the instruction that enters the kernel",
    "set-ftrace": "the notes' set_ftrace.sh, line by line",
    "low-memory-killer": "who is killed when memory runs short",
    "kernel-fault": "a bad pointer in the kernel: oops, and the task dies",
    "decode": "the notes' numbers, decoded",
}


def get(name: str) -> Lab:
    """Return a lab.

    :raises UsageError: there is none of that name
    """
    if name not in TITLES:
        import difflib

        near = difflib.get_close_matches(name, TITLES, n=2)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; 'taskscope lab list' lists them"
        raise UsageError(f"there is no lab {name!r}{hint}")
    found: Lab = import_module(f"taskscope.labs.{name.replace('-', '_').lower()}").LAB
    return found
