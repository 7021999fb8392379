"""What a kernel thread is for, told by the function that it runs: `kind_of_kthread`.

Names of threads are chosen freely; functions are not.  The table was read from the sources of Linux 4.19 to 6.18.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: function -> kind; in the order of kernel/, mm/ and the rest
KINDS: Final[Mapping[str, str]] = {
    "kthreadd": "kthreadd",                     # kernel/kthread.c: makes all others
    "worker_thread": "kworker",                 # kernel/workqueue.c
    "rescuer_thread": "rescuer",
    "kthread_worker_fn": "kthread_worker",      # kernel/kthread.c: a queue of its own
    "irq_thread": "irq",                        # kernel/irq/manage.c: the second half of an interrupt
    "run_ksoftirqd": "ksoftirqd",               # kernel/softirq.c
    "cpu_stopper_thread": "migration",          # kernel/stop_machine.c
    "cpuhp_thread_fun": "cpuhp",                # kernel/cpu.c
    "rcu_gp_kthread": "rcu",                    # kernel/rcu/
    "rcu_cpu_kthread": "rcu",
    "rcu_boost_kthread": "rcu",
    "rcu_tasks_kthread": "rcu",
    "rcu_nocb_cb_kthread": "rcu",
    "rcu_nocb_gp_kthread": "rcu",
    "kauditd_thread": "audit",                  # kernel/audit.c
    "watchdog": "watchdog",                     # kernel/hung_task.c: khungtaskd
    "oom_reaper": "oom_reaper",                 # mm/oom_kill.c
    "kswapd": "kswapd",                         # mm/vmscan.c
    "kcompactd": "kcompactd",                   # mm/compaction.c
    "ksm_scan_thread": "ksmd",                  # mm/ksm.c
    "khugepaged": "khugepaged",                 # mm/khugepaged.c
    "kjournald2": "jbd2",                       # fs/jbd2/journal.c
    "devtmpfsd": "devtmpfs",                    # drivers/base/devtmpfs.c
    "hwrng_fillfn": "hwrng",                    # drivers/char/hw_random/core.c
    "psi_rtpoll_worker": "psi",                 # kernel/sched/psi.c
    "kdamond_fn": "kdamond",                    # mm/damon/core.c
    "vhost_worker": "vhost",                    # drivers/vhost/vhost.c, before v6.4
}
#: what runs functions of its users: the kind is theirs (kernel/smpboot.c)
SMPBOOT: Final = "smpboot_thread_fn"


def kind_of_kthread(function: str | None, inner: str | None = None) -> str | None:
    """Return a word for what a kernel thread is for; the function's own name where there is none; None if unknown.

    :param function: that it was made with
    :param inner: that `SMPBOOT` calls
    """
    named = inner if function == SMPBOOT and inner else function
    return None if named is None else KINDS.get(named, named)
