"""Flavours: which kernel, on which architecture, a machine is.

A flavour is pinned to a point release.  It selects symbol names, event formats, system call tables, layouts and
boot threads.  Behaviour that differs between the kernels is a switch here, each with the change that made the
difference; everything else is written once.  The fair class is CFS in every flavour; EEVDF is not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Final, Literal

from taskscope.abi.era import Version
from taskscope.abi.threadinfo import SYSCALL_WORK, THREAD_FLAGS
from taskscope.errors import UsageError

Preempt = Literal["none", "voluntary", "full"]


@dataclass(frozen=True, slots=True)
class ThreadFlags:
    """The masks (1 << TIF_x) that the model's kernel code tests and sets."""

    SIGPENDING: int
    NEED_RESCHED: int
    NOTIFY_RESUME: int
    UPROBE: int
    SYSCALL_TRACE: int
    SYSCALL_TRACEPOINT: int
    MEMDIE: int
    RESTORE_SIGMASK: int


@dataclass(frozen=True, slots=True)
class SyscallWork:
    """The bits that send a system call the long way: of thread_info.flags, or of thread_info.syscall_work."""

    SYSCALL_TRACE: int
    SYSCALL_TRACEPOINT: int
    SYSCALL_EMU: int

    @property
    def mask(self) -> int:
        """All of them: _TIF_SYSCALL_WORK as far as the model has it."""
        return self.SYSCALL_TRACE | self.SYSCALL_TRACEPOINT | self.SYSCALL_EMU


@dataclass(frozen=True, slots=True)
class Switches:
    """What differs in behaviour; the closed list.  The field's comment says which change made the difference."""

    #: sched_process_exit is traced before exit_mm(), with group_dead= (v6.16)
    exit_event_first: bool = False
    #: do_exit() marks a finished futex clean-up with PF_EXITPIDONE (until v5.5: 3d4775df0a89, "futex: Replace
    #: PF_EXITPIDONE with a state")
    pf_exitpidone: bool = False
    #: do_group_exit() calls zap_other_threads() also for a single thread (seen in 6.1)
    zap_always: bool = False
    #: the last thread that calls do_exit() decides the wait status of its process: synchronize_group_exit(), which v6.1
    #: has and v4.19 has not (there it is the first thread's, unless exit_group() or a signal ended the process)
    last_thread_decides: bool = False
    #: the last reference of release_task() goes through put_task_struct_rcu_user() (v5.4)
    rcu_user_reference: bool = False
    #: kernel stacks come from vmalloc, with a cache of two per cpu (CONFIG_VMAP_STACK)
    vmap_stack: bool = False
    #: thread_info is the first member of task_struct (CONFIG_THREAD_INFO_IN_TASK)
    thread_info_in_task: bool = False
    #: execve() traces sched_prepare_exec before the old address space goes (v6.10)
    sched_prepare_exec: bool = False
    #: system call entry flags stand in thread_info.syscall_work (v5.11, x86)
    syscall_work: bool = False
    #: signal_struct.exec_update_lock, clone3() and pidfds exist (v5.3)
    clone3: bool = False
    #: a core dump is a group exit from its begin (signal->core_state, v5.17), and threads wait for it at the top of
    #: do_exit() (v5.16), not in exit_mm()
    coredump_is_group_exit: bool = False
    #: SIGKILL needs no queue entry, whoever sends it (v4.20: the kernel only, SEND_SIG_FORCED)
    sigkill_is_special: bool = False
    #: signals to a process that dies are dropped ("signal: Drop signals received after a fatal signal has been
    #: processed"; of one series with what last_thread_decides and zap_always name)
    dying_drops_signals: bool = False
    #: sigaction(2) forgets bits of sa_flags that mean nothing (23acdc76f179, v5.11)
    sa_flags_cleared: bool = False
    #: a POSIX timer's pending signal goes with the setting that sent it, and an ignored timer rests until the signal is
    #: no longer ignored (v6.13: "posix-timers: Cure the SIG_IGN mess")
    timer_signals_checked: bool = False
    #: pidfd_send_signal() takes PIDFD_SIGNAL_* flags (v6.9), and PIDFD_SELF (v6.14)
    pidfd_signal_flags: bool = False
    #: close(2) closes the file itself, not by task work on the way out (v6.6: 021a160abf62, "fs: use __fput_sync in
    #: close(2)")
    close_syncs: bool = False
    #: a tracer can ask at which system call a task is stopped: PTRACE_GET_SYSCALL_INFO (v5.3: 201766a20e30)
    ptrace_syscall_info: bool = False
    #: ptrace() fails for a pid that changed hands in an execve() which the tracer has not waited for (v5.13:
    #: dbb5afad100a, "ptrace: make ptrace() fail if the tracee changed its pid unexpectedly")
    ptrace_knows_its_pid: bool = False
    #: task_struct.jobctl says whether a task is stopped or traced, and whether SIGKILL may wake it; TASK_TRACED has no
    #: TASK_WAKEKILL (v5.19: "sched,signal,ptrace: Rework TASK_TRACED, TASK_STOPPED state")
    traced_in_jobctl: bool = False
    #: ptrace_stop() sets PTRACE_GETEVENTMSG's word at every stop, and does not stop a task that is being killed (v5.18,
    #: v5.19); before, the word of the last event stays
    ptrace_fresh_message: bool = False
    #: PTRACE_KILL sends a SIGKILL (v5.19); before, it resumes a stopped task with one, and does nothing to another
    ptrace_kill_sends: bool = False
    #: softirqs that are raised while ksoftirqd is runnable are left to it (until v6.5: d15121be7485, "Revert "softirq:
    #: Let ksoftirqd do its job"")
    ksoftirqd_goes_first: bool = False
    #: a handler that threadirqs made a thread runs with interrupts off (v5.12: 81e2073c175b, "genirq: Disable
    #: interrupts for force threaded handlers")
    forced_threads_irqs_off: bool = False
    #: tasklet_kill() sleeps until the tasklet is off its list (v5.13: 697d8c63c4a2, "tasklets: Replace spin wait in
    #: tasklet_kill()"); before, it calls yield()
    tasklet_kill_sleeps: bool = False
    #: a block device's request that is done on the only CPU of its queue is ended in the interrupt, not in a softirq
    #: (v6.1: "blk-mq: don't redirect completion for hctx withs only one ctx mapping")
    blk_completes_locally: bool = False
    #: the boot argument preempt= chooses the preemption model (CONFIG_PREEMPT_DYNAMIC, v5.12)
    preempt_dynamic: bool = False
    #: task_struct.state is called __state (v5.14: 2f064a59a11f, "sched: Change task_struct::state")
    state_is_dunder: bool = False
    #: a worker's sleep and return are accounted outside of rq.lock, by wq_worker_running() (v5.2: 6d25be5782e4,
    #: "sched/core, workqueues: Distangle worker accounting from rq lock"); until then by wq_worker_waking_up()
    wq_worker_running: bool = False
    #: idle workers are ended by a work, not by a timer (v6.3: 3f959aa3b338, "workqueue: Convert the idle_timer to a
    #: timer + work_struct")
    idle_cull_work: bool = False
    #: wq_worker_tick() takes a worker that computes for 10 ms for CPU intensive (v6.5: 616db8779b1e)
    wq_worker_tick: bool = False
    #: pool_workqueues are released by a kthread_worker of their own (v6.6: 687a9aa56f81)
    pwq_release_worker: bool = False
    #: each CPU has two more worker pools, without threads, for BH workqueues (v6.9: 4cb1ef64609f)
    wq_bh_pools: bool = False
    #: /proc names workers anew, in full length, and a dying one keeps its comm (v6.11: 2a1b02bcba78, 68f83057b913)
    format_worker_id: bool = False
    #: oom_badness() may be negative, and LONG_MIN says that a task must not be killed; before, 0 said so and all
    #: others had 1 at least (v5.9: 9066e5cfb73c, "mm, oom: make the calculation of oom badness more accurate")
    oom_signed_badness: bool = False
    #: the OOM killer kills whom it chose, not one of its children (v5.1: bbbe48029720, "mm, oom: remove 'prefer
    #: children over parent' heuristic")
    oom_spares_children: bool = False
    #: oom_reaper begins two seconds after the kill (v5.18: e4a38402c36e, "oom_kill.c: futex: delay the OOM reaper to
    #: allow time for proper futex cleanup")
    oom_reaper_waits: bool = False
    #: a page fault that found no memory is tried again and kills nobody (v5.16: 60e2793d440a, "mm, oom: do not trigger
    #: out_of_memory from the #PF")
    pagefault_spares: bool = False
    #: a mapping is refused only if it is larger than all memory (v5.2: 8c7829b04c52, "mm: fix false-positive
    #: OVERCOMMIT_GUESS failures")
    overcommit_by_total: bool = False
    #: a soft lockup is reported again and again (v5.13: 9bf3bc949f8a, "watchdog: cleanup handling of false positives")
    softlockup_repeats: bool = False
    #: the sysrq c panics, instead of following a bad pointer (v5.1: 8341f2f222d7, "sysrq: Use panic() to force a
    #: crash")
    sysrq_panics: bool = False


@dataclass(frozen=True, slots=True)
class Flavour:
    """One kernel on one architecture."""

    name: str
    release: str                 # uname -r
    version: Version
    arch: Literal["arm", "x86_64"]
    machine: str                 # uname -m
    long_size: int
    thread_size: int             # bytes of a kernel stack
    hz: int
    preempt: Preempt
    page_offset: int             # where the kernel's direct mapping begins
    text_base: int               # where kernel functions begin
    switches: Switches = field(default_factory=Switches)

    @property
    def tif(self) -> ThreadFlags:
        """The thread flags as this kernel numbers them; 0 where it has no such flag."""
        family: Literal["arm", "x86"] = "x86" if self.arch == "x86_64" else "arm"
        bits = {row.name: row.value for row in THREAD_FLAGS[family].at(self.version)}
        return ThreadFlags(**{f.name: bits.get("TIF_" + f.name, 0) for f in fields(ThreadFlags)})

    @property
    def syscall_work_bits(self) -> SyscallWork:
        """The flags of system call entry as this kernel numbers them."""
        if self.switches.syscall_work:
            bits = {row.name.removeprefix("SYSCALL_WORK_"): row.value for row in SYSCALL_WORK.at(self.version)}
        else:
            family: Literal["arm", "x86"] = "x86" if self.arch == "x86_64" else "arm"
            bits = {row.name.removeprefix("TIF_"): row.value for row in THREAD_FLAGS[family].at(self.version)}
        return SyscallWork(**{f.name: bits.get(f.name, 0) for f in fields(SyscallWork)})


_SINCE_5: Final = {
    "oom_signed_badness": True, "oom_spares_children": True, "oom_reaper_waits": True, "pagefault_spares": True,
    "overcommit_by_total": True, "softlockup_repeats": True, "sysrq_panics": True,
}
FLAVOURS: Final[dict[str, Flavour]] = {f.name: f for f in (
    Flavour("4.19-arm", "4.19.73-v7+", (4, 19), "arm", "armv7l", 4, 8192, 100, "full", 0x8000_0000, 0x8000_8000,
            Switches(pf_exitpidone=True, ksoftirqd_goes_first=True)),
    Flavour("6.1-x86_64", "6.1.0-56-cloud-amd64", (6, 1), "x86_64", "x86_64", 8, 16384, 250, "voluntary",
            0xFFFF_8880_0000_0000, 0xFFFF_FFFF_8100_0000,
            Switches(zap_always=True, last_thread_decides=True, rcu_user_reference=True, vmap_stack=True,
                     thread_info_in_task=True, syscall_work=True, clone3=True, state_is_dunder=True,
                     wq_worker_running=True,
                     ksoftirqd_goes_first=True, blk_completes_locally=True, forced_threads_irqs_off=True,
                     tasklet_kill_sleeps=True, preempt_dynamic=True, ptrace_syscall_info=True,
                     ptrace_fresh_message=True, ptrace_kill_sends=True, traced_in_jobctl=True,
                     ptrace_knows_its_pid=True, coredump_is_group_exit=True,
                     sigkill_is_special=True, dying_drops_signals=True, sa_flags_cleared=True, **_SINCE_5)),
    Flavour("6.18-x86_64", "6.18.44", (6, 18), "x86_64", "x86_64", 8, 16384, 250, "voluntary",
            0xFFFF_8880_0000_0000, 0xFFFF_FFFF_8100_0000,
            Switches(exit_event_first=True, zap_always=True, last_thread_decides=True, rcu_user_reference=True,
                     vmap_stack=True, thread_info_in_task=True, sched_prepare_exec=True, syscall_work=True, clone3=True,
                     state_is_dunder=True, wq_worker_running=True, idle_cull_work=True, wq_worker_tick=True,
                     pwq_release_worker=True, wq_bh_pools=True, format_worker_id=True,
                     blk_completes_locally=True, forced_threads_irqs_off=True,
                     tasklet_kill_sleeps=True, preempt_dynamic=True, close_syncs=True, ptrace_syscall_info=True,
                     ptrace_fresh_message=True, ptrace_kill_sends=True, traced_in_jobctl=True,
                     ptrace_knows_its_pid=True, coredump_is_group_exit=True,
                     sigkill_is_special=True, dying_drops_signals=True, sa_flags_cleared=True,
                     timer_signals_checked=True,
                     pidfd_signal_flags=True, **_SINCE_5)),
)}
DEFAULT: Final = "4.19-arm"


def flavour(name: str) -> Flavour:
    """Return the flavour of that name.

    :raises UsageError: there is none
    """
    found = FLAVOURS.get(name)
    if found is None:
        raise UsageError(f"there is no flavour {name!r}; it is one of {', '.join(FLAVOURS)}")
    return found
