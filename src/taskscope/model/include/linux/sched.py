"""task_struct and what stands beside it: include/linux/sched.h, sched/signal.h, v4.19.

Fields are grouped by the lock or context that guards them.  Later kernels call ``state`` ``__state`` (v5.14) and
``thread_group`` went (v6.7); the model has the spelling of 4.19 and the decoder shows that of the flavour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taskscope.abi.sched import ProcessFlag
from taskscope.model import machine
from taskscope.model.include.linux.list import ListHead

if TYPE_CHECKING:
    from greenlet import greenlet

    from taskscope.model.include.linux.pid import Pid
    from taskscope.model.include.linux.sched_signal import Sigframe, SighandStruct, SignalStruct, SigPending
    from taskscope.model.include.linux.thread_info import ThreadInfo
    from taskscope.model.kernel.sched.sched import SchedClass

TASK_COMM_LEN: Final = 16

# Used in tsk->state.  Plain integers: these are compared in every context switch.
TASK_RUNNING: Final = 0x0000
TASK_INTERRUPTIBLE: Final = 0x0001
TASK_UNINTERRUPTIBLE: Final = 0x0002
__TASK_STOPPED: Final = 0x0004
__TASK_TRACED: Final = 0x0008
# Used in tsk->exit_state:
EXIT_DEAD: Final = 0x0010
EXIT_ZOMBIE: Final = 0x0020
EXIT_TRACE: Final = EXIT_ZOMBIE | EXIT_DEAD
# Used in tsk->state again:
TASK_PARKED: Final = 0x0040
TASK_DEAD: Final = 0x0080
TASK_WAKEKILL: Final = 0x0100
TASK_WAKING: Final = 0x0200
TASK_NOLOAD: Final = 0x0400
TASK_NEW: Final = 0x0800
TASK_STATE_MAX: Final = 0x1000

TASK_KILLABLE: Final = TASK_WAKEKILL | TASK_UNINTERRUPTIBLE
TASK_STOPPED: Final = TASK_WAKEKILL | __TASK_STOPPED
TASK_TRACED: Final = TASK_WAKEKILL | __TASK_TRACED
TASK_IDLE: Final = TASK_UNINTERRUPTIBLE | TASK_NOLOAD
TASK_NORMAL: Final = TASK_INTERRUPTIBLE | TASK_UNINTERRUPTIBLE
TASK_REPORT: Final = 0x7F

PF_IDLE: Final = int(ProcessFlag.PF_IDLE)
PF_EXITING: Final = int(ProcessFlag.PF_EXITING)
PF_EXITPIDONE: Final = 0x8                          # until v5.5
PF_WQ_WORKER: Final = int(ProcessFlag.PF_WQ_WORKER)
PF_FORKNOEXEC: Final = int(ProcessFlag.PF_FORKNOEXEC)
PF_SUPERPRIV: Final = int(ProcessFlag.PF_SUPERPRIV)
PF_DUMPCORE: Final = int(ProcessFlag.PF_DUMPCORE)
PF_SIGNALED: Final = int(ProcessFlag.PF_SIGNALED)
PF_MEMALLOC: Final = int(ProcessFlag.PF_MEMALLOC)
PF_NPROC_EXCEEDED: Final = int(ProcessFlag.PF_NPROC_EXCEEDED)
PF_NOFREEZE: Final = int(ProcessFlag.PF_NOFREEZE)
PF_KSWAPD: Final = 0x20000
PF_KTHREAD: Final = int(ProcessFlag.PF_KTHREAD)
PF_RANDOMIZE: Final = int(ProcessFlag.PF_RANDOMIZE)
PF_NO_SETAFFINITY: Final = int(ProcessFlag.PF_NO_SETAFFINITY)
PF_SUSPEND_TASK: Final = int(ProcessFlag.PF_SUSPEND_TASK)


# task_struct.on_rq
TASK_ON_RQ_QUEUED: Final = 1
TASK_ON_RQ_MIGRATING: Final = 2

SCHED_NORMAL: Final = 0
SCHED_FIFO: Final = 1
SCHED_RR: Final = 2
SCHED_BATCH: Final = 3
SCHED_IDLE: Final = 5
SCHED_DEADLINE: Final = 6
SCHED_RESET_ON_FORK: Final = 0x40000000

# include/linux/sched/prio.h
MAX_NICE: Final = 19
MIN_NICE: Final = -20
MAX_USER_RT_PRIO: Final = 100
MAX_RT_PRIO: Final = 100
MAX_PRIO: Final = 140
DEFAULT_PRIO: Final = 120


class LoadWeight:
    """struct load_weight; inv_weight is 2**32 / weight, 0 until it is needed."""

    __slots__ = ("inv_weight", "weight")

    def __init__(self, weight: int = 0, inv_weight: int = 0) -> None:
        self.weight = weight
        self.inv_weight = inv_weight


class SchedEntity:
    """struct sched_entity: a task's place in the fair class.  Guarded by rq.lock."""

    __slots__ = (
        "exec_start", "load", "nr_migrations", "on_rq", "prev_sum_exec_runtime", "sum_exec_runtime", "task",
        "vruntime",
    )

    def __init__(self, task: Task) -> None:
        self.task = task
        self.load = LoadWeight()
        self.on_rq = 0
        self.exec_start = 0
        self.sum_exec_runtime = 0
        self.vruntime = 0
        self.prev_sum_exec_runtime = 0
        self.nr_migrations = 0


class SchedRtEntity:
    """struct sched_rt_entity: a task's place in the realtime class.  Guarded by rq.lock."""

    __slots__ = ("on_list", "on_rq", "run_list", "time_slice", "timeout")

    def __init__(self, task: Task) -> None:
        self.run_list = ListHead(task)
        self.timeout = 0
        self.time_slice = 0
        self.on_rq = 0
        self.on_list = 0


class SchedInfo:
    """struct sched_info: how often and how late a task got its CPU (ns)."""

    __slots__ = ("last_arrival", "last_queued", "pcount", "run_delay")

    def __init__(self) -> None:
        self.pcount = 0
        self.run_delay = 0
        self.last_arrival = 0
        self.last_queued = 0


class _Switched:
    """What a switch touches of a task_struct: a base class's slots stand together, in few lines of the cache."""

    __slots__ = (
        "active_mm",
        "comm16",
        "exit_state",
        "flags",
        "journal",
        "mm",
        "nivcsw",
        "nvcsw",
        "on_cpu",
        "pid",
        "prio",
        "sched_class",
        "sched_info",
        "se",
        "stack",
        "stack_greenlet",
        "state",
        "thread_info",
    )


class Task(_Switched):
    """struct task_struct.

    Made by dup_task_struct() and, for init_task, by init/init_task.py; never by hand.
    """

    __slots__ = (
        "__weakref__",
        "address",
        "atomic_flags",
        "blocked",
        "children",
        "clear_child_tid",
        "comm",
        "cpus_allowed",
        "cred",
        "exit_code",
        "exit_signal",
        "fail_nth",
        "files",
        "fs",
        "futex_exit_mutex",
        "futex_state",
        "group_leader",
        "in_execve",
        "in_iowait",
        "jobctl",
        "kthread",
        "last_siginfo",
        "maj_flt",
        "min_flt",
        "normal_prio",
        "nr_cpus_allowed",
        "nsproxy",
        "on_rq",
        "parent",
        "parent_exec_id",
        "pdeath_signal",
        "pending",
        "personality",
        "pi",
        "pi_lock",
        "pid_links",
        "policy",
        "ptrace",
        "ptrace_entry",
        "ptrace_message",
        "ptraced",
        "ptracer_cred",
        "rcu_users",
        "real_blocked",
        "real_parent",
        "restart_block",
        "restore_sigmask",
        "robust_list",
        "rt",
        "rt_priority",
        "sas_ss_sp",
        "saved_sigmask",
        "sched_contributes_to_load",
        "sched_reset_on_fork",
        "self_exec_id",
        "set_child_tid",
        "sibling",
        "sigframes",
        "sighand",
        "signal",
        "stack_refcount",
        "stack_vm_area",
        "start_boottime",
        "start_time",
        "static_prio",
        "stime",
        "task_works",
        "tasks",
        "tgid",
        "thread_group",
        "thread_node",
        "thread_pid",
        "usage",
        "utime",
        "vfork_done",
        "wake_cpu",
        "wake_entry",
    )

    # identity
    pid: int
    tgid: int
    comm: str                           # at most 15 bytes in UTF-8; set by __set_task_comm() only
    comm16: bytes                       # the same as char[16]: what tracepoints store
    address: int                        # of this task_struct in the slab

    # written by current, or under rq.lock / pi_lock by a waker:
    state: int
    flags: int                          # written by current only
    ptrace: int

    # stack
    stack: int                          # lowest address of the kernel stack; 0 once it is freed
    stack_greenlet: greenlet | None     # the stack itself
    stack_refcount: int
    stack_vm_area: Any                  # struct vm_struct of a stack that is mapped by vmalloc
    thread_info: ThreadInfo
    usage: int                          # references: see get_task_struct()
    rcu_users: int                      # who keeps one of them together: the lists, and the CPU that it runs on (v5.4)

    # rq.lock of the task's runqueue (and pi_lock for what a waker changes):
    on_cpu: int
    on_rq: int
    wake_cpu: int
    prio: int
    static_prio: int
    normal_prio: int
    rt_priority: int
    policy: int
    sched_class: SchedClass
    se: SchedEntity
    rt: SchedRtEntity
    cpus_allowed: int                   # bit mask
    nr_cpus_allowed: int
    sched_info: SchedInfo
    sched_reset_on_fork: bool
    sched_contributes_to_load: bool
    nvcsw: int
    nivcsw: int
    pi_lock: Any

    # tasklist_lock:
    tasks: ListHead                     # on init_task.tasks, thread group leaders only
    real_parent: Task                   # who created us; changes on reparenting
    parent: Task                        # who gets SIGCHLD and wait()s: the tracer, or real_parent
    children: ListHead                  # of sibling
    sibling: ListHead
    group_leader: Task
    thread_group: ListHead
    thread_node: ListHead               # on signal.thread_head
    ptraced: ListHead
    ptrace_entry: ListHead
    ptracer_cred: Any                   # the tracer's struct cred when it attached
    thread_pid: Pid | None
    pid_links: dict[int, ListHead]      # by PIDTYPE_*
    exit_state: int
    exit_signal: int                    # -1: a thread that is not the leader
    pdeath_signal: int
    self_exec_id: int
    parent_exec_id: int

    # siglock:
    signal: SignalStruct
    sighand: SighandStruct | None
    blocked: int                        # signal sets are integers, bit n-1 is signal n
    real_blocked: int
    saved_sigmask: int
    restore_sigmask: bool               # where the architecture has no TIF_RESTORE_SIGMASK
    pending: SigPending
    jobctl: int
    last_siginfo: Any                   # of the stop for a tracer that the task is in

    # current only:
    ptrace_message: int                 # for PTRACE_GETEVENTMSG
    exit_code: int                      # wait status, not the argument of exit()
    personality: int
    atomic_flags: int                   # no_new_privs
    wake_entry: bool                    # sched_remote_wakeup: put on the wake list by a CPU that migrated it
    in_execve: bool
    in_iowait: bool
    mm: Any
    active_mm: Any
    files: Any
    fs: Any
    nsproxy: Any
    cred: Any
    set_child_tid: Any
    clear_child_tid: Any
    vfork_done: Any                     # struct completion
    utime: int                          # ns
    stime: int
    min_flt: int
    maj_flt: int
    start_time: int                     # ns, monotonic
    start_boottime: int
    restart_block: Any
    pi: Any                             # pi_lock: struct rtmutex.PiState; None until it is wanted
    futex_state: int                    # FUTEX_STATE_*, since v5.5
    futex_exit_mutex: Any               # held while a task that exits or execs cleans its futexes up; None: never yet
    robust_list: Any                    # where in user memory the locks stand that it holds (futex)
    task_works: Any
    kthread: Any                        # struct kthread of a kernel thread
    fail_nth: int                       # lib/fault_inject.py: which of the places that can fail is to fail, 0 none
    journal: Any                        # the user half of the task: user/python.py
    sigframes: tuple[Sigframe, ...]     # frames of running handlers on the user stack, innermost last
    sas_ss_sp: tuple[int, int, int]     # sigaltstack: address, flags, size

    def __repr__(self) -> str:
        return f"<task {getattr(self, 'pid', '?')} {getattr(self, 'comm', '?')}>"


def get_current() -> Task:
    """Return the running task; the fast path of `taskscope.model.include.linux.thread_info.current_thread_info`."""
    return machine.cur.cpu.curr


current = get_current


def set_current_state(state: int) -> None:
    """Set the state of the running task before it checks what it waits for."""
    machine.cur.cpu.curr.state = state


__set_current_state = set_current_state


def task_cpu(p: Task) -> int:
    """Return the number of the CPU whose runqueue the task is, or was last, on."""
    return p.thread_info.cpu


def thread_group_leader(p: Task) -> bool:
    """Tell whether the task is the process."""
    return p.exit_signal >= 0


def same_thread_group(p1: Task, p2: Task) -> bool:
    """Tell whether two tasks are threads of one process."""
    return p1.signal is p2.signal


def is_idle_task(p: Task) -> bool:
    """Tell whether the task is a swapper."""
    return bool(p.flags & PF_IDLE)


def is_global_init(p: Task) -> bool:
    """Tell whether the task is pid 1 or one of its threads."""
    return p.tgid == 1


def rt_prio(prio: int) -> bool:
    """Tell whether a kernel priority is that of the realtime (or stop) class."""
    return prio < MAX_RT_PRIO


def rt_task(p: Task) -> bool:
    """Tell whether the task has a realtime priority."""
    return p.prio < MAX_RT_PRIO


def task_nice(p: Task) -> int:
    """Return the nice value."""
    return p.static_prio - DEFAULT_PRIO


def signal_pending_state(state: int, p: Task) -> bool:
    """Tell whether a pending signal forbids that the task sleeps in that state."""
    if not state & (TASK_INTERRUPTIBLE | TASK_WAKEKILL):
        return False
    if not p.thread_info.flags & machine.cur.tif_sigpending:
        return False
    return bool(state & TASK_INTERRUPTIBLE) or bool(p.pending.signal & (1 << 8))  # __fatal_signal_pending(): SIGKILL


def pid_alive(p: Task) -> bool:
    """Tell whether the task has not been released."""
    return p.thread_pid is not None
