"""The thread that reports tasks in uninterruptible sleep for too long: kernel/hung_task.c, v4.19 to v6.18."""

from __future__ import annotations

import sys
from typing import Final

import taskscope.model.kernel.kthread as kthread
import taskscope.model.kernel.panic as panic_
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.sched.core.show as show
import taskscope.model.kernel.sched.syscalls as sched_syscalls
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.kernel.sysctl as sysctl
import taskscope.model.kernel.time.timer as timer
from taskscope.model import machine
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.sched import TASK_NOLOAD, TASK_UNINTERRUPTIBLE, TASK_WAKEKILL, Task
from taskscope.model.include.trace.events.sched import trace_sched_process_hang

#: seconds (CONFIG_DEFAULT_HUNG_TASK_TIMEOUT)
DEFAULT_TIMEOUT: Final = 120
PID_MAX_LIMIT: Final = 4 << 20
MAX_SCHEDULE_TIMEOUT: Final = sys.maxsize


class HungTask:
    """The variables of this file, and what C keeps in task_struct: when a task was last seen to have switched."""

    __slots__ = ("call_panic", "check_count", "check_interval_secs", "detect_count", "panic", "seen", "timeout_secs",
                 "warnings", "watchdog_task")

    def __init__(self) -> None:
        self.check_count = PID_MAX_LIMIT        # how many tasks a look takes in at most
        self.timeout_secs = DEFAULT_TIMEOUT     # 0: never
        self.check_interval_secs = 0            # 0: the timeout
        self.warnings = 10                      # how many reports are left; -1: no limit
        self.panic = 0
        self.detect_count = 0
        self.call_panic = False
        self.watchdog_task: Task | None = None
        # by address of task_struct: last_switch_count, last_switch_time (jiffies)
        self.seen: dict[int, tuple[int, int]] = {}


def hung_task_init() -> int:
    """Start khungtaskd: 0 or a negative errno."""
    m = machine.cur
    state = m.hung_task = HungTask()
    version = m.flavour.version
    sysctl.register_sysctl("kernel/hung_task_check_count", state, "check_count")
    sysctl.register_sysctl("kernel/hung_task_timeout_secs", state, "timeout_secs", changed=hung_task_timeout_changed)
    sysctl.register_sysctl("kernel/hung_task_check_interval_secs", state, "check_interval_secs",
                           changed=hung_task_timeout_changed)
    sysctl.register_sysctl("kernel/hung_task_warnings", state, "warnings", least=-1)
    sysctl.register_sysctl("kernel/hung_task_panic", state, "panic", most=1)
    if version >= (6, 17):
        sysctl.register_sysctl("kernel/hung_task_detect_count", state, "detect_count", mode=0o444)
    t = kthread.kthread_run(watchdog, state, "khungtaskd")
    if not isinstance(t, Task):
        return t
    state.watchdog_task = t
    return 0


def hung_task_timeout_changed() -> None:
    """Have the new timeout looked at at once (proc_dohung_task_timeout_secs())."""
    task = machine.cur.hung_task.watchdog_task
    if task is not None:
        sched_core.wake_up_process(task)


def hung_timeout_jiffies(last_checked: int, timeout: int) -> int:
    """Return how long to sleep until the next look (jiffies)."""
    m = machine.cur
    return last_checked - m.jiffies + timeout * m.hz if timeout else MAX_SCHEDULE_TIMEOUT


def watchdog(dummy: HungTask) -> int:
    """Be khungtaskd: look every two minutes."""
    state = dummy
    m = machine.cur
    hung_last_checked = m.jiffies
    sched_syscalls.set_user_nice(m.cpu.curr, 0)
    while True:
        timeout = state.timeout_secs
        interval = min(state.check_interval_secs or timeout, timeout)
        t = hung_timeout_jiffies(hung_last_checked, interval)
        if t <= 0:
            check_hung_uninterruptible_tasks(state, timeout)
            hung_last_checked = m.jiffies
            continue
        timer.schedule_timeout_interruptible(t)


def check_hung_uninterruptible_tasks(state: HungTask, timeout: int) -> None:
    """Report every task in state D (not killable) that has not run for `timeout` seconds."""
    m = machine.cur
    # If the system crashed already then all bets are off, do not report extra hung tasks:
    if panic_.panic_state().tainted_mask >> panic_.TAINT_DIE & 1 or m.panicked:
        return
    state.call_panic = False
    max_count = state.check_count
    there: set[int] = set()
    for p in list_for_each_entry(m.init_task.tasks):
        for t in signal_send.for_each_thread(p):
            if max_count == 0:
                break
            max_count -= 1
            # use "==" to skip the TASK_KILLABLE tasks waiting on NFS; later kernels spell it out
            if t.state & TASK_UNINTERRUPTIBLE and not t.state & (TASK_WAKEKILL | TASK_NOLOAD):
                there.add(t.address)
                check_hung_task(state, t, timeout)
    state.seen = {address: when for address, when in state.seen.items() if address in there}
    if state.call_panic:
        panic_.panic("hung_task: blocked tasks")


def check_hung_task(state: HungTask, t: Task, timeout: int) -> None:
    """Report one task if it has not run since the last looks."""
    m = machine.cur
    switch_count = t.nvcsw + t.nivcsw
    # When a freshly created task is scheduled once, changes its state to TASK_UNINTERRUPTIBLE without having ever been
    # switched out once, it musn't be checked.
    if not switch_count:
        return
    last_switch_count, last_switch_time = state.seen.get(t.address, (-1, 0))
    if switch_count != last_switch_count:
        state.seen[t.address] = (switch_count, m.jiffies)
        return
    if m.jiffies < last_switch_time + timeout * m.hz:
        return
    state.detect_count += 1
    trace_sched_process_hang(t)
    if state.panic:
        state.call_panic = True
    # Ok, the task did not get scheduled for more than 2 minutes, complain:
    if not state.warnings:
        return
    if state.warnings > 0:
        state.warnings -= 1
    seconds = (m.jiffies - last_switch_time) // m.hz
    printk_.printk(f"<3>INFO: task {t.comm}:{t.pid} blocked for more than {seconds} seconds.\n")
    printk_.printk(f"<3>      {panic_.print_tainted()} {m.flavour.release} #1\n")
    printk_.printk('<3>"echo 0 > /proc/sys/kernel/hung_task_timeout_secs" disables this message.\n')
    show.sched_show_task(t)
    # Not modelled: debug_show_all_locks(); who holds what the task waits for (v6.15).
    if not state.warnings and m.flavour.version >= (6, 3):
        printk_.printk("<6>Future hung task reports are suppressed, see sysctl kernel.hung_task_warnings\n")
