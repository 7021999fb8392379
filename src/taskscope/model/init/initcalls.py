"""The initcalls, in the order in which the linker collects them: what starts the kernel threads of each flavour.

do_pre_smp_initcalls() calls the early ones on the boot CPU, do_initcalls() the others when all CPUs are up.  The
threads are those of a Raspberry Pi's 4.19, Debian's 6.1 and a 6.18 on x86-64, without those of drivers.  A subsystem
that has nothing but a workqueue here is a name in `_LATER`; what has a thread has a file of its own.
"""

from __future__ import annotations

from typing import Final

import taskscope.model.block.blk_mq as blk_mq
import taskscope.model.drivers.block.virtio_blk as virtio_blk
import taskscope.model.drivers.char.hostctl as hostctl
import taskscope.model.drivers.mmc.host.bcm2835_mmc as bcm2835_mmc
import taskscope.model.drivers.tty.sysrq as sysrq
import taskscope.model.drivers.tty.tty_io as tty_io
import taskscope.model.drivers.watchdog.watchdog_dev as watchdog_dev
import taskscope.model.kernel.audit as audit
import taskscope.model.kernel.hung_task as hung_task
import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.module as module
import taskscope.model.kernel.panic as panic
import taskscope.model.kernel.rcu.tasks as rcu_tasks
import taskscope.model.kernel.rcu.tree as rcu
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.softirq as softirq
import taskscope.model.kernel.stop_machine as stop_machine
import taskscope.model.kernel.watchdog as watchdog
import taskscope.model.kernel.workqueue as workqueue
import taskscope.model.mm.compaction as compaction
import taskscope.model.mm.khugepaged as khugepaged
import taskscope.model.mm.ksm as ksm
import taskscope.model.mm.oom_kill as oom_kill
import taskscope.model.mm.vmscan as vmscan
from taskscope.model import machine
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.workqueue import WQ_MEM_RECLAIM

# An initcall is a function; a text is a workqueue that its owner makes with WQ_MEM_RECLAIM.
_LATER: Final = {
    "4.19-arm": (
        "netns", hung_task.hung_task_init, oom_kill.oom_init, "writeback",
        compaction.kcompactd_init, "crypto", "kblockd", watchdog_dev.watchdog_dev_init, "rpciod", "xprtiod",
        vmscan.kswapd_init, "nfsiod", bcm2835_mmc.bcm2835_mmc_probe,
    ),
    "6.1-x86_64": (
        "inet_frag_wq", audit.audit_init, hung_task.hung_task_init, oom_kill.oom_init, "writeback",
        compaction.kcompactd_init,
        ksm.ksm_init, "kintegrityd", "kblockd", "blkcg_punt_bio", "quota_events_unbound", vmscan.kswapd_init,
        "kthrotld", virtio_blk.virtio_blk_probe, "mld",
        "ipv6_addrconf", "kstrp",
    ),
    "6.18-x86_64": (
        "inet_frag_wq", rcu_tasks.rcu_init_tasks_generic, audit.audit_init, hung_task.hung_task_init,
        oom_kill.oom_init, "writeback",
        compaction.kcompactd_init, ksm.ksm_init, khugepaged.start_stop_khugepaged, "kblockd", "blkcg_punt_bio",
        watchdog_dev.watchdog_dev_init,
        "quota_events_unbound", vmscan.kswapd_init, "kthrotld", virtio_blk.virtio_blk_probe, "mld",
        "ipv6_addrconf", "kstrp",
    ),
}
#: workqueues that exist before threads can be made, behind those of RCU: their rescuers come first
_EARLY: Final = {
    "4.19-arm": (),
    "6.1-x86_64": ("slub_flushwq", "netns"),
    "6.18-x86_64": ("sync_wq", "kvfree_rcu_reclaim", "slub_flushwq", "netns"),
}


def early_workqueues() -> None:
    """Make the workqueues that subsystems ask for while no thread can be made yet; called by start_kernel()."""
    for name in _EARLY[machine.cur.flavour.name]:
        workqueue.alloc_workqueue(name, WQ_MEM_RECLAIM, 0)


def init_mm_internals() -> None:
    """Set up the statistics of memory (mm/vmstat.c)."""
    machine.cur.mm_percpu_wq = workqueue.alloc_workqueue("mm_percpu_wq", WQ_MEM_RECLAIM, 0)


def do_pre_smp_initcalls() -> None:
    """Call the early initcalls."""
    m = machine.cur
    # Called by kernel_init_freeable() itself from v5.8 until it became an initcall again.
    if (5, 8) <= m.flavour.version < (6, 12):
        rcu_tasks.rcu_init_tasks_generic()
    softirq.spawn_ksoftirqd()
    rcu_spawn_gp_kthread()
    stop_machine.cpu_stop_init()


def rcu_spawn_gp_kthread() -> None:
    """Start the thread that drives grace periods (kernel/rcu/tree.c), and those of RCU's other flavours until v4.20."""
    m = machine.cur
    names = ["rcu_preempt"] if m.kernel_preempt or m.flavour.version >= (5, 12) else ["rcu_sched"]
    if m.flavour.version < (4, 20):
        # for_each_rcu_flavor(): rcu_preempt, where there is one, stands before rcu_sched and rcu_bh
        names = ["rcu_preempt", "rcu_sched", "rcu_bh"] if m.kernel_preempt else ["rcu_sched", "rcu_bh"]
    for name in names:
        first = name == names[0]
        # call_rcu() is that of the first; nobody here calls call_rcu_sched() or call_rcu_bh()
        rsp = m.rcu_state if first else rcu.RcuState(name)
        rsp.name = name
        t = kthread.kthread_create(rcu.rcu_gp_kthread, rsp, name)
        assert isinstance(t, Task), f"{name}: {t}"
        rsp.gp_kthread = t
        sched_core.wake_up_process(t)
    if m.flavour.version >= (6, 9):
        # expedited grace periods have workers of their own (rcu_spawn_exp_par_gp_kworker(), rcu_start_exp_gp_kworker())
        for name in ("rcu_exp_par_gp_kthread_worker/0", "rcu_exp_gp_kthread_worker"):
            worker = kthread.kthread_create_worker(name)
            assert not isinstance(worker, int), f"{name}: {worker}"


def start_devices() -> None:
    """Ask for the interrupts of what every machine has: the serial port, and what stands for the world outside."""
    for start in (tty_io.uart_startup, hostctl.hostctl_startup):
        ret = start()
        assert not ret, f"{start.__name__}() failed with {ret}"


def do_initcalls() -> None:
    """Call all other initcalls: those without a thread, then those of the flavour."""
    for initcall in (panic.kernel_panic_sysctls_init, oom_kill.oom_sysctls_init, watchdog.lockup_detector_init,
                     sysrq.sysrq_init, module.modules_init):
        initcall()
    blk_mq.blk_mq_init()
    for entry in _LATER[machine.cur.flavour.name]:
        if isinstance(entry, str):
            workqueue.alloc_workqueue(entry, WQ_MEM_RECLAIM, 0)
        else:
            ret = entry()
            assert not ret, f"{entry.__name__}() failed with {ret}"
