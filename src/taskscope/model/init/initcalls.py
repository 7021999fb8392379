"""The initcalls, in the order in which the linker collects them: what starts the kernel threads of each flavour.

do_pre_smp_initcalls() calls the early ones on the boot CPU, do_initcalls() the others when all CPUs are up.  Each
function named here belongs to the subsystem that owns the thread; those without code in the model wait for work that
never comes (`idle_kthread`), under their owner's name, priority and state.
"""

from __future__ import annotations

from typing import Any, Final

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.rcu.tree as rcu
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.syscalls as sched_syscalls
import taskscope.model.kernel.softirq as softirq
import taskscope.model.kernel.stop_machine as stop_machine
import taskscope.model.kernel.workqueue as workqueue
from taskscope.model import machine
from taskscope.model.include.linux.sched import TASK_IDLE, TASK_INTERRUPTIBLE, Task, set_current_state
from taskscope.model.kernel.workqueue import WQ_MEM_RECLAIM


def init_mm_internals() -> None:
    """Set up the statistics of memory (mm/vmstat.c)."""
    machine.cur.mm_percpu_wq = workqueue.alloc_workqueue("mm_percpu_wq", WQ_MEM_RECLAIM, 0)


def idle_kthread(state: int) -> int:
    """Be a thread whose work is not modelled: sleep in `state`."""
    while True:
        set_current_state(state)
        if kthread.kthread_should_stop():
            return 0
        sched_core.schedule()


def do_pre_smp_initcalls() -> None:
    """Call the early initcalls."""
    softirq.spawn_ksoftirqd()
    rcu_spawn_gp_kthread()
    stop_machine.cpu_stop_init()


def rcu_spawn_gp_kthread() -> None:
    """Start the thread that drives grace periods (kernel/rcu/tree.c)."""
    m = machine.cur
    name = "rcu_preempt" if m.kernel_preempt else "rcu_sched"
    t = kthread.kthread_create(rcu.rcu_gp_kthread, m.rcu_state, name)
    assert isinstance(t, Task), f"{name}: {t}"
    m.rcu_state.gp_kthread = t
    sched_core.wake_up_process(t)


#: (what, name, nice) in the order of their making: "wq" a workqueue's rescuer, "S" and "I" a thread that sleeps so
_LATER: Final = {
    "4.19-arm": (
        ("wq", "netns", 0), ("S", "khungtaskd", 0), ("S", "oom_reaper", 0), ("wq", "writeback", 0), ("S", "kcompactd0", 0),
        ("wq", "crypto", 0), ("wq", "kblockd", 0), ("S", "watchdogd", -51), ("wq", "rpciod", 0), ("wq", "xprtiod", 0),
        ("S", "kswapd0", 0), ("wq", "nfsiod", 0),
    ),
    "6.1-x86_64": (("S", "kauditd", 0), ("S", "khungtaskd", 0), ("S", "oom_reaper", 0)),
    "6.18-x86_64": (("S", "kauditd", 0), ("S", "khungtaskd", 0), ("S", "oom_reaper", 0)),
}


def do_initcalls() -> None:
    """Call all other initcalls."""
    for what, name, nice in _LATER[machine.cur.flavour.name]:
        start(what, name, nice)


def start(what: str, name: str, nice: int) -> None:
    """Make one thread, or one workqueue with its rescuer."""
    if what == "wq":
        workqueue.alloc_workqueue(name, WQ_MEM_RECLAIM, 0)
        return
    state: Any = TASK_IDLE if what == "I" else TASK_INTERRUPTIBLE
    t = kthread.kthread_run(idle_kthread, state, name)
    assert isinstance(t, Task), f"{name}: {t}"
    if nice < -20:
        sched_syscalls.sched_setscheduler_nocheck(t, 1, -nice - 1)
    elif nice:
        sched_syscalls.set_user_nice(t, nice)
