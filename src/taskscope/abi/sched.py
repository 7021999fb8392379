"""Flags, policies and priorities of a task: include/uapi/linux/sched.h, include/linux/sched.h, sched/prio.h.

Clone flags and policies are ABI: a bit never changes its meaning.  PF_* flags are internal and moved; `ProcessFlag`
holds the bits of Linux 6.1, `PROCESS_FLAGS` those of every checked kernel.  Task states are in `taskscope.abi.state`.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from taskscope.abi.era import Names, row


class CloneFlag(IntFlag):
    """Flags of clone(), clone3() and unshare(); see `CSIGNAL` for the low byte of clone()."""

    CLONE_NEWTIME = 0x80
    CLONE_VM = 0x100
    CLONE_FS = 0x200
    CLONE_FILES = 0x400
    CLONE_SIGHAND = 0x800
    CLONE_PIDFD = 0x1000
    CLONE_PTRACE = 0x2000
    CLONE_VFORK = 0x4000
    CLONE_PARENT = 0x8000
    CLONE_THREAD = 0x10000
    CLONE_NEWNS = 0x20000
    CLONE_SYSVSEM = 0x40000
    CLONE_SETTLS = 0x80000
    CLONE_PARENT_SETTID = 0x100000
    CLONE_CHILD_CLEARTID = 0x200000
    CLONE_DETACHED = 0x400000
    CLONE_UNTRACED = 0x800000
    CLONE_CHILD_SETTID = 0x1000000
    CLONE_NEWCGROUP = 0x2000000
    CLONE_NEWUTS = 0x4000000
    CLONE_NEWIPC = 0x8000000
    CLONE_NEWUSER = 0x10000000
    CLONE_NEWPID = 0x20000000
    CLONE_NEWNET = 0x40000000
    CLONE_IO = 0x80000000
    CLONE_CLEAR_SIGHAND = 0x1_0000_0000
    CLONE_INTO_CGROUP = 0x2_0000_0000


#: low byte of clone()'s flags: the signal sent to the parent when the child exits
CSIGNAL: Final = 0xFF

#: what each clone flag asks for; the span says since which checked kernel the header has it
CLONE_FLAGS: Final = Names("CLONE_", [
    row("CLONE_NEWTIME", 0x80, "5.10-", "new time namespace (unshare and clone3 only)"),
    row("CLONE_VM", 0x100, "", "share the address space"),
    row("CLONE_FS", 0x200, "", "share root, working directory and umask"),
    row("CLONE_FILES", 0x400, "", "share the file descriptor table"),
    row("CLONE_SIGHAND", 0x800, "", "share the table of signal handlers"),
    row("CLONE_PIDFD", 0x1000, "5.4-", "give the parent a pidfd of the child"),
    row("CLONE_PTRACE", 0x2000, "", "if the parent is traced, trace the child too"),
    row("CLONE_VFORK", 0x4000, "", "parent waits until the child execs or exits"),
    row("CLONE_PARENT", 0x8000, "", "child gets the caller's parent as its parent"),
    row("CLONE_THREAD", 0x10000, "", "same thread group: the child is a thread"),
    row("CLONE_NEWNS", 0x20000, "", "new mount namespace"),
    row("CLONE_SYSVSEM", 0x40000, "", "share the System V SEM_UNDO list"),
    row("CLONE_SETTLS", 0x80000, "", "set the child's thread-local storage"),
    row("CLONE_PARENT_SETTID", 0x100000, "", "store the child's tid in the parent's memory"),
    row("CLONE_CHILD_CLEARTID", 0x200000, "", "at exit clear the tid in the child's memory and wake its futex"),
    row("CLONE_DETACHED", 0x400000, "", "ignored since Linux 2.6.2"),
    row("CLONE_UNTRACED", 0x800000, "", "a tracer cannot force CLONE_PTRACE on the child"),
    row("CLONE_CHILD_SETTID", 0x1000000, "", "store the child's tid in the child's memory"),
    row("CLONE_NEWCGROUP", 0x2000000, "", "new cgroup namespace"),
    row("CLONE_NEWUTS", 0x4000000, "", "new UTS namespace"),
    row("CLONE_NEWIPC", 0x8000000, "", "new IPC namespace"),
    row("CLONE_NEWUSER", 0x10000000, "", "new user namespace"),
    row("CLONE_NEWPID", 0x20000000, "", "new pid namespace, the child is its pid 1"),
    row("CLONE_NEWNET", 0x40000000, "", "new network namespace"),
    row("CLONE_IO", 0x80000000, "", "share the I/O context"),
    row("CLONE_CLEAR_SIGHAND", 0x1_0000_0000, "5.10-", "reset the child's handlers to SIG_DFL (clone3)"),
    row("CLONE_INTO_CGROUP", 0x2_0000_0000, "5.10-", "create the child in a given cgroup (clone3)"),
])


class ProcessFlag(IntFlag):
    """``task_struct.flags`` (PF_*) as in Linux 6.1; other kernels: `PROCESS_FLAGS`."""

    PF_VCPU = 0x1
    PF_IDLE = 0x2
    PF_EXITING = 0x4
    PF_POSTCOREDUMP = 0x8
    PF_IO_WORKER = 0x10
    PF_WQ_WORKER = 0x20
    PF_FORKNOEXEC = 0x40
    PF_MCE_PROCESS = 0x80
    PF_SUPERPRIV = 0x100
    PF_DUMPCORE = 0x200
    PF_SIGNALED = 0x400
    PF_MEMALLOC = 0x800
    PF_NPROC_EXCEEDED = 0x1000
    PF_USED_MATH = 0x2000
    PF_NOFREEZE = 0x8000
    PF_KSWAPD = 0x20000
    PF_MEMALLOC_NOFS = 0x40000
    PF_MEMALLOC_NOIO = 0x80000
    PF_LOCAL_THROTTLE = 0x100000
    PF_KTHREAD = 0x200000
    PF_RANDOMIZE = 0x400000
    PF_NO_NOTIFY_SIGNAL = 0x800000
    PF_NO_SETAFFINITY = 0x4000000
    PF_MCE_EARLY = 0x8000000
    PF_MEMALLOC_PIN = 0x10000000
    PF_SUSPEND_TASK = 0x80000000


PROCESS_FLAGS: Final = Names("PF_", [
    row("PF_VCPU", 0x1, "5.10-", "runs a virtual CPU of a guest"),
    row("PF_IDLE", 0x2, "4.14-", "idle task, or a task that injects idle time"),
    row("PF_EXITING", 0x4, "", "in do_exit()"),
    row("PF_EXITPIDONE", 0x8, "4.9-4.19", "futex clean-up of the exit is done"),
    row("PF_POSTCOREDUMP", 0x8, "6.1-", "past the point where a core dump would wait for it"),
    row("PF_VCPU", 0x10, "4.9-5.4", "runs a virtual CPU of a guest"),
    row("PF_IO_WORKER", 0x10, "5.10-", "worker thread of io_uring"),
    row("PF_WQ_WORKER", 0x20, "", "worker of a workqueue"),
    row("PF_FORKNOEXEC", 0x40, "", "forked, has not called execve since"),
    row("PF_MCE_PROCESS", 0x80, "", "has its own policy for memory errors"),
    row("PF_SUPERPRIV", 0x100, "", "has used super-user privileges"),
    row("PF_DUMPCORE", 0x200, "", "dumped core"),
    row("PF_SIGNALED", 0x400, "", "killed by a signal"),
    row("PF_MEMALLOC", 0x800, "", "allocating in order to free memory: may use the reserves"),
    row("PF_NPROC_EXCEEDED", 0x1000, "", "set*uid() found RLIMIT_NPROC exceeded"),
    row("PF_USED_MATH", 0x2000, "", "has used the floating point unit"),
    row("PF_USED_ASYNC", 0x4000, "4.9-4.19 5.10", "has used async_schedule(), asked for by module loading"),
    row("PF_USER_WORKER", 0x4000, "6.6-", "kernel thread cloned from a user thread (vhost, io_uring)"),
    row("PF_NOFREEZE", 0x8000, "", "not frozen for suspend"),
    row("PF_FROZEN", 0x10000, "4.9-5.15", "frozen for suspend"),
    row("PF_KCOMPACTD", 0x10000, "6.12-", "is kcompactd"),
    row("PF_FSTRANS", 0x20000, "4.9", "inside a file system transaction"),
    row("PF_KSWAPD", 0x20000, "4.14-", "is kswapd"),
    row("PF_KSWAPD", 0x40000, "4.9", "is kswapd"),
    row("PF_MEMALLOC_NOFS", 0x40000, "4.14-", "allocations must not enter the file system"),
    row("PF_MEMALLOC_NOIO", 0x80000, "", "allocations must not start I/O"),
    row("PF_LESS_THROTTLE", 0x100000, "4.9-5.4", "writes are throttled less: it cleans memory"),
    row("PF_LOCAL_THROTTLE", 0x100000, "5.10-", "writes are throttled by their own device only"),
    row("PF_KTHREAD", 0x200000, "", "kernel thread"),
    row("PF_RANDOMIZE", 0x400000, "", "address space layout is randomised"),
    row("PF_SWAPWRITE", 0x800000, "4.9-5.15", "may write to swap"),
    # A fix that stable releases carry; 6.6.9 predates it and 6.18.2 is without it.
    row("PF_NO_NOTIFY_SIGNAL", 0x800000, "6.1 6.12", "TIF_NOTIFY_SIGNAL does not interrupt it for now"),
    row("PF_MEMSTALL", 0x1000000, "5.4", "stalled for lack of memory (pressure stall information)"),
    row("PF_UMH", 0x2000000, "5.4", "user mode helper"),
    row("PF_NO_SETAFFINITY", 0x4000000, "", "user space may not change its affinity"),
    row("PF_MCE_EARLY", 0x8000000, "", "killed early on a memory error"),
    row("PF_MEMALLOC_NOCMA", 0x10000000, "5.4-5.10", "allocations must not come from CMA"),
    row("PF_MEMALLOC_PIN", 0x10000000, "5.15-", "allocations must allow long-term pinning"),
    row("PF_MUTEX_TESTER", 0x20000000, "4.9-4.19", "belongs to the rt-mutex tester"),
    row("PF_BLOCK_TS", 0x20000000, "6.12-", "the block plug's time stamp needs an update"),
    row("PF_FREEZER_SKIP", 0x40000000, "4.9-5.15", "the freezer need not wait for it"),
    row("PF_SUSPEND_TASK", 0x80000000, "", "called freeze_processes(): is suspending the system"),
])


class Policy(IntEnum):
    """``task_struct.policy``; 4 was reserved for SCHED_ISO, which Linux does not have."""

    SCHED_NORMAL = 0            # SCHED_OTHER in user space
    SCHED_FIFO = 1
    SCHED_RR = 2
    SCHED_BATCH = 3
    SCHED_IDLE = 5
    SCHED_DEADLINE = 6
    SCHED_EXT = 7               # since v6.12


POLICY_MEANINGS: Final = {
    Policy.SCHED_NORMAL: "fair class; SCHED_OTHER in user space",
    Policy.SCHED_FIFO: "real-time class, runs until it blocks or yields",
    Policy.SCHED_RR: "real-time class, round robin by time slice",
    Policy.SCHED_BATCH: "fair class, wakes up without preempting",
    Policy.SCHED_IDLE: "fair class, least weight",
    Policy.SCHED_DEADLINE: "deadline class: runtime within period",
    Policy.SCHED_EXT: "BPF scheduler (sched_ext), since v6.12",
}

#: ORed into the policy given to sched_setscheduler(): children start as SCHED_NORMAL
SCHED_RESET_ON_FORK: Final = 0x4000_0000

# include/linux/sched/prio.h
MIN_NICE: Final = -20
MAX_NICE: Final = 19
MAX_DL_PRIO: Final = 0
MAX_RT_PRIO: Final = 100
MAX_PRIO: Final = 140
DEFAULT_PRIO: Final = 120


def nice_to_prio(nice: int) -> int:
    """Return the kernel priority (100…139) of a nice value; as NICE_TO_PRIO() in sched/prio.h."""
    return nice + DEFAULT_PRIO


def prio_to_nice(prio: int) -> int | None:
    """Return the nice value of a kernel priority; None where it belongs to no task of the fair class."""
    return prio - DEFAULT_PRIO if MAX_RT_PRIO <= prio < MAX_PRIO else None


def rt_to_prio(rt_priority: int) -> int:
    """Return the kernel priority of a SCHED_FIFO or SCHED_RR task (rt_priority 1…99); as __normal_prio()."""
    return MAX_RT_PRIO - 1 - rt_priority


def prio_to_rt(prio: int) -> int | None:
    """Return the rt_priority (0…99) of a kernel priority; None where it is not one of the real-time class."""
    return MAX_RT_PRIO - 1 - prio if MAX_DL_PRIO <= prio < MAX_RT_PRIO else None
