"""The first task: init/init_task.c, v4.19.  It is not made by a fork: the boot loader jumps into it.

It becomes the idle task of the boot CPU, pid 0, named swapper.  Its stack is part of the kernel's image.
"""

from __future__ import annotations

from typing import Final

from taskscope.model import machine
from taskscope.model.include.linux.list import ListHead, list_add
from taskscope.model.include.linux.mm_types import MmStruct
from taskscope.model.include.linux.pid import PIDTYPE_MAX, PIDTYPE_PGID, PIDTYPE_PID, PIDTYPE_SID, PIDTYPE_TGID, Pid
from taskscope.model.include.linux.sched import (
    DEFAULT_PRIO,
    PF_KTHREAD,
    SCHED_NORMAL,
    TASK_RUNNING,
    SchedEntity,
    SchedInfo,
    SchedRtEntity,
    Task,
)
from taskscope.model.include.linux.sched_signal import (
    RLIM_INFINITY,
    RLIM_NLIMITS,
    RLIMIT_CORE,
    RLIMIT_MEMLOCK,
    RLIMIT_MSGQUEUE,
    RLIMIT_NICE,
    RLIMIT_NOFILE,
    RLIMIT_NPROC,
    RLIMIT_RTPRIO,
    RLIMIT_SIGPENDING,
    RLIMIT_STACK,
    KSigaction,
    Rlimit,
    SighandStruct,
    SignalStruct,
    SigPending,
)
from taskscope.model.include.linux.spinlock import Spinlock
from taskscope.model.include.linux.thread_info import ThreadInfo
from taskscope.model.include.linux.wait import WaitQueueHead
from taskscope.model.kernel import cred, fork, nsproxy
from taskscope.model.kernel.user import UserStruct

#: where the image has init_task and its stack, from the start of memory
INIT_STACK: Final = 0x00C0_0000
INIT_TASK: Final = 0x00C0_8000
INIT_MM: Final = 0x00C0_A000


def init_task() -> Task:
    """Return init_task as the image holds it: INIT_TASK, INIT_SIGNALS, INIT_SIGHAND, INIT_CRED."""
    m = machine.cur
    tsk = Task()
    for slot in fork.SLOTS:
        setattr(tsk, slot, None)
    base = m.flavour.page_offset
    m.memory = {}
    m.ka_default = KSigaction()
    m.ka_ignore = KSigaction(1)
    m.init_mm = MmStruct(base + INIT_MM, base + 0x4000, 2)
    m.init_mm.mm_users = 2
    m.init_struct_pid = Pid(0)
    m.root_user = UserStruct(0)
    m.root_user.processes = 1
    m.uidhash = {0: m.root_user}

    tsk.address = base + INIT_TASK
    m.memory[tsk.address] = tsk
    tsk.pid = tsk.tgid = 0
    tsk.comm = "swapper"
    tsk.comm16 = b"swapper".ljust(16, b"\0")
    tsk.state = TASK_RUNNING
    tsk.flags = PF_KTHREAD
    tsk.usage = 2
    tsk.rcu_users = 2
    tsk.stack = base + INIT_STACK
    tsk.stack_refcount = 1
    tsk.thread_info = ThreadInfo(tsk)
    if not m.flavour.switches.thread_info_in_task:
        m.memory[tsk.stack] = tsk.thread_info
    # scheduler
    tsk.prio = tsk.static_prio = tsk.normal_prio = DEFAULT_PRIO
    tsk.rt_priority = 0
    tsk.policy = SCHED_NORMAL
    tsk.se = SchedEntity(tsk)
    tsk.se.load.weight = 1024
    tsk.rt = SchedRtEntity(tsk)
    tsk.sched_info = SchedInfo()
    tsk.cpus_allowed = (1 << m.nr_cpus) - 1
    tsk.nr_cpus_allowed = m.nr_cpus
    tsk.sched_reset_on_fork = False
    tsk.sched_contributes_to_load = False
    tsk.pi_lock = Spinlock("pi_lock")
    # family
    # The head of the list of processes has no owner: for_each_process() leaves it out.
    tsk.tasks = ListHead()
    tsk.real_parent = tsk.parent = tsk
    tsk.group_leader = tsk
    tsk.children = ListHead()
    tsk.sibling = ListHead(tsk)
    tsk.thread_group = ListHead(tsk)
    tsk.ptraced = ListHead()
    tsk.ptrace_entry = ListHead(tsk)
    tsk.ptracer_cred = tsk.last_siginfo = None
    tsk.thread_pid = m.init_struct_pid
    tsk.pid_links = {type_: ListHead(tsk) for type_ in (PIDTYPE_PID, PIDTYPE_TGID, PIDTYPE_PGID, PIDTYPE_SID)}
    # signals
    tsk.signal = init_signals(tsk)
    tsk.sighand = SighandStruct([m.ka_default] * 64)
    tsk.pending = SigPending()
    # the rest
    tsk.cred = cred.Cred(m.root_user)
    tsk.nsproxy = nsproxy.NsProxy()
    tsk.active_mm = m.init_mm
    for slot in (
        "on_cpu",
        "on_rq",
        "wake_cpu",
        "nvcsw",
        "nivcsw",
        "ptrace",
        "ptrace_message",
        "exit_state",
        "exit_signal",
        "exit_code",
        "pdeath_signal",
        "self_exec_id",
        "parent_exec_id",
        "blocked",
        "real_blocked",
        "saved_sigmask",
        "jobctl",
        "personality",
        "utime",
        "stime",
        "min_flt",
        "maj_flt",
        "start_time",
        "start_boottime",
        "fail_nth",
        "atomic_flags",
    ):
        setattr(tsk, slot, 0)
    tsk.in_execve = tsk.in_iowait = tsk.restore_sigmask = False
    tsk.robust_list = None
    tsk.pi = None
    tsk.sas_ss_sp = (0, 0, 0)
    tsk.sigframes = ()
    tsk.restart_block = None
    return tsk


def init_signals(tsk: Task) -> SignalStruct:
    """Return init_task's signal_struct with the limits that all others inherit (INIT_SIGNALS, INIT_RLIMITS)."""
    m = machine.cur
    sig = SignalStruct()
    fork.zero_signal_struct(sig)
    sig.nr_threads = sig.quick_threads = sig.live = sig.sigcnt = 1
    sig.thread_head = ListHead()
    tsk.thread_node = ListHead(tsk)
    list_add(tsk.thread_node, sig.thread_head)
    sig.wait_chldexit = WaitQueueHead("wait_chldexit")
    sig.curr_target = tsk
    sig.shared_pending = SigPending()
    sig.multiprocess = ListHead()
    sig.posix_timers = sig.real_timer = sig.it = sig.cred_guard_mutex = None
    sig.oom_score_adj = sig.oom_score_adj_min = 0
    sig.pids = [m.init_struct_pid] * PIDTYPE_MAX
    sig.rlim = [Rlimit(RLIM_INFINITY, RLIM_INFINITY) for _ in range(RLIM_NLIMITS)]
    for number, soft, hard in (
        (RLIMIT_STACK, 8 << 20, RLIM_INFINITY),
        (RLIMIT_CORE, 0, RLIM_INFINITY),
        (RLIMIT_NPROC, 0, 0),
        (RLIMIT_NOFILE, 1024, 4096),
        (RLIMIT_MEMLOCK, 64 << 10, 64 << 10),
        (RLIMIT_SIGPENDING, 0, 0),
        (RLIMIT_MSGQUEUE, 819200, 819200),
        (RLIMIT_NICE, 0, 0),
        (RLIMIT_RTPRIO, 0, 0),
    ):
        sig.rlim[number] = Rlimit(soft, hard)
    return sig
