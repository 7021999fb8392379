"""signal_struct, sighand_struct and what hangs on them: include/linux/sched/signal.h, signal_types.h, v4.19.

A signal set is an integer: bit n-1 is signal n.  All of `SignalStruct` and `SighandStruct` is guarded by
``sighand.siglock`` unless a group says otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from taskscope.model.include.linux.list import ListHead
from taskscope.model.include.linux.spinlock import Spinlock

if TYPE_CHECKING:
    from taskscope.model.include.linux.pid import Pid
    from taskscope.model.include.linux.sched import Task

_NSIG: Final = 64
SIGRTMIN: Final = 32                    # the kernel's; the C library keeps two for itself

SIG_DFL: Final = 0
SIG_IGN: Final = 1
SIG_ERR: Final = -1

SA_NOCLDSTOP: Final = 0x1
SA_NOCLDWAIT: Final = 0x2
SA_SIGINFO: Final = 0x4
SA_RESTORER: Final = 0x0400_0000
SA_ONSTACK: Final = 0x0800_0000
SA_RESTART: Final = 0x1000_0000
SA_NODEFER: Final = 0x4000_0000
SA_RESETHAND: Final = 0x8000_0000
SA_UNSUPPORTED: Final = 0x400           # never set: a program finds out that flags are checked (v5.11)
SA_EXPOSE_TAGBITS: Final = 0x800
#: what sigaction(2) keeps of sa_flags since v5.11 (23acdc76f179, "signal: clear non-uapi flag bits when
#: passing/returning sa_flags")
UAPI_SA_FLAGS: Final = (
    SA_NOCLDSTOP | SA_NOCLDWAIT | SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER | SA_RESETHAND | SA_EXPOSE_TAGBITS
    | SA_RESTORER
)

# stack_t.ss_flags
SS_ONSTACK: Final = 1
SS_DISABLE: Final = 2
SS_AUTODISARM: Final = 1 << 31          # disable while a handler runs on it
SS_FLAG_BITS: Final = SS_AUTODISARM
MINSIGSTKSZ: Final = 2048

# si_code of signals that programs and timers send
SI_USER: Final = 0
SI_KERNEL: Final = 0x80
SI_QUEUE: Final = -1
SI_TIMER: Final = -2
SI_TKILL: Final = -6

# sigevent.sigev_notify
SIGEV_SIGNAL: Final = 0
SIGEV_NONE: Final = 1
SIGEV_THREAD: Final = 2                 # a matter of the C library: a signal to the kernel
SIGEV_THREAD_ID: Final = 4

# allow_signal(): a kernel thread's action for a signal that it takes (names since v5.4; allow_kernel_signal() too)
SIG_KTHREAD: Final = 2
SIG_KTHREAD_KERNEL: Final = 3

# signal_struct.flags
SIGNAL_STOP_STOPPED: Final = 0x1        # job control stop in effect
SIGNAL_STOP_CONTINUED: Final = 0x2      # SIGCONT since WCONTINUED reaped
SIGNAL_GROUP_EXIT: Final = 0x4          # group exit in progress
SIGNAL_GROUP_COREDUMP: Final = 0x8
SIGNAL_CLD_STOPPED: Final = 0x10
SIGNAL_CLD_CONTINUED: Final = 0x20
SIGNAL_CLD_MASK: Final = SIGNAL_CLD_STOPPED | SIGNAL_CLD_CONTINUED
SIGNAL_UNKILLABLE: Final = 0x40         # for init: ignore fatal signals
SIGNAL_STOP_MASK: Final = SIGNAL_CLD_MASK | SIGNAL_STOP_STOPPED | SIGNAL_STOP_CONTINUED

# task_struct.jobctl
JOBCTL_STOP_SIGMASK: Final = 0xFFFF
JOBCTL_STOP_DEQUEUED: Final = 1 << 16
JOBCTL_STOP_PENDING: Final = 1 << 17
JOBCTL_STOP_CONSUME: Final = 1 << 18
JOBCTL_TRAP_STOP: Final = 1 << 19
JOBCTL_TRAP_NOTIFY: Final = 1 << 20
JOBCTL_TRAPPING: Final = 1 << 21
JOBCTL_LISTENING: Final = 1 << 22
JOBCTL_PTRACE_FROZEN: Final = 1 << 24   # these three since v5.19: Switches.traced_in_jobctl
JOBCTL_STOPPED: Final = 1 << 26
JOBCTL_TRACED: Final = 1 << 27
JOBCTL_TRAP_MASK: Final = JOBCTL_TRAP_STOP | JOBCTL_TRAP_NOTIFY
JOBCTL_PENDING_MASK: Final = JOBCTL_STOP_PENDING | JOBCTL_TRAP_MASK

# Resource limits (include/uapi/asm-generic/resource.h) and their number.
RLIMIT_CPU: Final = 0
RLIMIT_FSIZE: Final = 1
RLIMIT_DATA: Final = 2
RLIMIT_STACK: Final = 3
RLIMIT_CORE: Final = 4
RLIMIT_RSS: Final = 5
RLIMIT_NPROC: Final = 6
RLIMIT_NOFILE: Final = 7
RLIMIT_MEMLOCK: Final = 8
RLIMIT_AS: Final = 9
RLIMIT_LOCKS: Final = 10
RLIMIT_SIGPENDING: Final = 11
RLIMIT_MSGQUEUE: Final = 12
RLIMIT_NICE: Final = 13
RLIMIT_RTPRIO: Final = 14
RLIMIT_RTTIME: Final = 15
RLIM_NLIMITS: Final = 16
RLIM_INFINITY: Final = (1 << 64) - 1


class Siginfo:
    """struct siginfo, the fields that the model's signals carry."""

    __slots__ = (
        "si_addr", "si_code", "si_errno", "si_pid", "si_signo", "si_status", "si_stime", "si_uid", "si_utime",
        "si_value",
    )

    #: of a timer's signal; see `TimerSiginfo`
    si_tid = 0
    si_overrun = 0
    si_sys_private = 0

    def __init__(self, si_signo: int, si_code: int, si_pid: int = 0, si_uid: int = 0) -> None:
        self.si_signo = si_signo
        self.si_errno = 0
        self.si_code = si_code
        self.si_pid = si_pid
        self.si_uid = si_uid
        self.si_status = 0
        self.si_utime = 0                   # clock ticks
        self.si_stime = 0
        self.si_value: Any = 0
        self.si_addr = 0                    # of a fault

    def copy(self) -> Siginfo:
        """Return another with the same fields (copy_siginfo())."""
        new = type(self).__new__(type(self))
        for name in Siginfo.__slots__:
            setattr(new, name, getattr(self, name))
        return new


class TimerSiginfo(Siginfo):
    """What a POSIX timer sends: the union's _timer member."""

    __slots__ = ("si_overrun", "si_sys_private", "si_tid")

    def __init__(self, si_signo: int, si_tid: int) -> None:
        super().__init__(si_signo, SI_TIMER)
        self.si_tid = si_tid                # the timer's id, si_timerid for programs
        self.si_overrun = 0                 # expiries for which no signal was sent
        self.si_sys_private = 0             # the kernel's: whether the timer is to go on when this is taken

    def copy(self) -> TimerSiginfo:
        """See `Siginfo.copy`."""
        new = super().copy()
        assert isinstance(new, TimerSiginfo)
        new.si_tid, new.si_overrun, new.si_sys_private = self.si_tid, self.si_overrun, self.si_sys_private
        return new


class Sigevent(NamedTuple):
    """struct sigevent: what a timer's expiry does."""

    sigev_notify: int = SIGEV_SIGNAL
    sigev_signo: int = 14
    sigev_value: Any = 0
    sigev_notify_thread_id: int = 0


class SignalStack(NamedTuple):
    """stack_t: an alternate signal stack."""

    ss_sp: int = 0
    ss_flags: int = SS_DISABLE
    ss_size: int = 0


class Sigframe(NamedTuple):
    """struct rt_sigframe, what sigreturn reads of it: the user half of a handler that runs."""

    oldset: int                             # uc_sigmask: blocked again afterwards
    uc_stack: tuple[int, int, int]          # sas_ss_sp, _flags and _size: the alternate stack set again afterwards
    stack: int                              # ss_sp of the alternate stack that the handler runs on, 0: none


# What send_signal() takes in place of a siginfo: sent by current, by the kernel, forced by the kernel.
SEND_SIG_NOINFO: Final = 0
SEND_SIG_PRIV: Final = 1
SEND_SIG_FORCED: Final = 2


class Sigqueue:
    """struct sigqueue: one queued signal with its siginfo."""

    __slots__ = ("info", "list", "user")

    #: SIGQUEUE_PREALLOC in flags: a timer's own entry, which is not freed when the signal is taken
    preallocated = False

    def __init__(self, user: Any) -> None:
        self.list = ListHead(self)
        self.info: Siginfo = None  # type: ignore[assignment]  # filled by __send_signal()
        self.user = user


class SigqueuePrealloc(Sigqueue):
    """A timer's queue entry (SIGQUEUE_PREALLOC)."""

    __slots__ = ("preallocated",)

    def __init__(self, user: Any) -> None:
        super().__init__(user)
        self.preallocated = True


class SigPending:
    """struct sigpending: the set of pending signals and the queue of those with a siginfo."""

    __slots__ = ("list", "signal")

    def __init__(self) -> None:
        self.list = ListHead()
        self.signal = 0


class KSigaction:
    """struct k_sigaction: what a process wants done with a signal.  Never changed in place: replaced."""

    __slots__ = ("sa_flags", "sa_handler", "sa_mask", "sa_restorer")

    def __init__(self, sa_handler: Any = SIG_DFL, sa_flags: int = 0, sa_mask: int = 0) -> None:
        self.sa_handler = sa_handler        # SIG_DFL, SIG_IGN, or what the program calls
        self.sa_flags = sa_flags
        self.sa_mask = sa_mask
        self.sa_restorer: Any = None


class SighandStruct:
    """struct sighand_struct: the table of signal actions; shared by CLONE_SIGHAND."""

    __slots__ = ("action", "count", "siglock", "signalfd_wqh")

    def __init__(self, action: list[KSigaction]) -> None:
        self.count = 1
        self.action = action                # [signal - 1]
        self.siglock = Spinlock("siglock")
        self.signalfd_wqh: Any = None


class Rlimit(NamedTuple):
    """struct rlimit.  Never changed in place: replaced."""

    rlim_cur: int
    rlim_max: int


class SignalStruct:
    """struct signal_struct: what the threads of a process share; shared by CLONE_THREAD."""

    __slots__ = (
        "audit_tty", "autogroup", "cgtime", "cmaj_flt", "cmin_flt", "cnivcsw", "cnvcsw", "coredump", "cred_guard_mutex",
        "cstime", "curr_target", "cutime", "flags", "group_exit_code", "group_exit_task", "group_stop_count",
        "has_child_subreaper", "inblock", "is_child_subreaper", "it", "leader", "live", "maj_flt", "min_flt",
        "multiprocess",
        "nivcsw", "notify_count", "nr_threads", "nvcsw", "oom_mm", "oom_score_adj", "oom_score_adj_min", "pids",
        "posix_timers", "quick_threads", "real_timer",
        "rlim", "shared_pending", "sigcnt", "stats_lock", "stime", "sum_sched_runtime",
        "thread_head", "tty", "tty_old_pgrp", "utime", "wait_chldexit",
    )

    # atomic:
    sigcnt: int                             # references: the threads that are not yet freed
    live: int                               # threads that have not passed do_exit()
    # siglock:
    nr_threads: int
    quick_threads: int                      # those that have not called do_exit()
    thread_head: ListHead                   # of task.thread_node
    wait_chldexit: Any                      # where wait4() sleeps: a wait_queue_head
    curr_target: Task | None                # whom a group signal goes to next
    shared_pending: SigPending
    multiprocess: ListHead                  # forks in progress that collect group signals
    group_exit_code: int
    notify_count: int                       # threads de_thread() waits for
    group_exit_task: Task | None
    coredump: Any                           # core_state: the dump in progress (mm_struct's before v5.16)
    group_stop_count: int
    flags: int
    is_child_subreaper: bool
    has_child_subreaper: bool
    posix_timers: Any                       # posix_timers.PosixTimers by id, None if there never was one
    real_timer: Any                         # hrtimer of ITIMER_REAL and alarm()
    it: Any                                 # posix_cpu_timers.CpuTimers, None if there never was one
    # tasklist_lock:
    pids: list[Pid]                         # [PIDTYPE_*]; the entry of PIDTYPE_PID is not used
    leader: bool                            # session leader
    tty: Any
    tty_old_pgrp: Any
    # siglock and stats_lock: of threads that are gone, and of children that were waited for
    stats_lock: Any
    utime: int
    stime: int
    cutime: int
    cstime: int
    nvcsw: int
    nivcsw: int
    cnvcsw: int
    cnivcsw: int
    min_flt: int
    maj_flt: int
    cmin_flt: int
    cmaj_flt: int
    sum_sched_runtime: int
    # task_lock(group_leader):
    rlim: list[Rlimit]
    oom_mm: Any                             # of an OOM victim: the mm that it was chosen for
    oom_score_adj: int
    oom_score_adj_min: int
    cred_guard_mutex: Any


def sigmask(sig: int) -> int:
    """Return the set that has one signal."""
    return 1 << (sig - 1)


def siginmask(sig: int, mask: int) -> bool:
    """Tell whether a signal below SIGRTMIN is in a set."""
    return 0 < sig < SIGRTMIN and bool(mask >> (sig - 1) & 1)


SIG_KERNEL_ONLY_MASK: Final = 1 << 8 | 1 << 18                          # KILL STOP
SIG_KERNEL_STOP_MASK: Final = 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21      # STOP TSTP TTIN TTOU
SIG_KERNEL_COREDUMP_MASK: Final = sum(1 << (n - 1) for n in (3, 4, 5, 6, 8, 11, 7, 31, 24, 25))
SIG_KERNEL_IGNORE_MASK: Final = 1 << 17 | 1 << 16 | 1 << 27 | 1 << 22    # CONT CHLD WINCH URG
SYNCHRONOUS_MASK: Final = sum(1 << (n - 1) for n in (11, 7, 4, 5, 8, 31))


def sig_kernel_only(sig: int) -> bool:
    """Tell whether the signal can be neither blocked, ignored nor handled."""
    return sig in (9, 19)


def sig_kernel_coredump(sig: int) -> bool:
    """Tell whether the signal's default action dumps core."""
    return siginmask(sig, SIG_KERNEL_COREDUMP_MASK)


def sig_kernel_ignore(sig: int) -> bool:
    """Tell whether the signal is ignored by default."""
    return siginmask(sig, SIG_KERNEL_IGNORE_MASK)


def sig_kernel_stop(sig: int) -> bool:
    """Tell whether the signal stops by default."""
    return siginmask(sig, SIG_KERNEL_STOP_MASK)


def sig_fatal(t: Task, sig: int) -> bool:
    """Tell whether the signal, delivered to the task now, would end it."""
    assert t.sighand is not None
    return (not siginmask(sig, SIG_KERNEL_IGNORE_MASK | SIG_KERNEL_STOP_MASK)
            and t.sighand.action[sig - 1].sa_handler == SIG_DFL)


def signal_group_exit(sig: SignalStruct) -> bool:
    """Tell whether the process is being killed, dumps core, or has an execve() that kills its other threads."""
    return bool(sig.flags & SIGNAL_GROUP_EXIT) or sig.group_exit_task is not None


def thread_group_empty(p: Task) -> bool:
    """Tell whether the process has no other thread."""
    return p.thread_group.next is p.thread_group


def delay_group_leader(p: Task) -> bool:
    """Tell whether the leader, though dead, must wait for its threads before its parent may hear of it."""
    return p.exit_signal >= 0 and p.thread_group.next is not p.thread_group


def rlimit(tsk: Task, limit: int) -> int:
    """Return the soft limit of a resource (task_rlimit())."""
    return tsk.signal.rlim[limit].rlim_cur
