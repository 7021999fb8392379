"""Printing tasks: sched_show_task() and show_state_filter() of kernel/sched/core.c, v4.19 to v6.18."""

from __future__ import annotations

import taskscope.model.fs.proc.array as array
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.lib.dump_stack as dump_stack_
from taskscope.model import machine
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.sched import Task, pid_alive


def sched_show_task(p: Task) -> None:
    """Print a task in one line, and its stack; what it has not used of the stack is not known (free is 0)."""
    version = machine.cur.flavour.version
    state = array.get_task_state(p)
    ppid = p.real_parent.pid if pid_alive(p) else 0
    flags = p.thread_info.flags
    running = "  running task    " if not p.state else ""
    if version < (5, 10):
        width = 2 * machine.cur.flavour.long_size
        printk_.printk(f"<6>{p.comm:<15.15} {state}{running}{0:5d} {p.pid:5d} {ppid:6d} 0x{flags:0{width}x}\n")
    else:
        # Named values since v5.10; to the left since v6.0; tgid came with v6.11, task_flags with v6.14.
        who = f"stack:{0:<5d} pid:{p.pid:<5d} "
        who += f"tgid:{p.tgid:<5d} " if version >= (6, 11) else ""
        who += f"ppid:{ppid:<6d} "
        who += f"task_flags:0x{p.flags:04x} " if version >= (6, 14) else ""
        printk_.printk(f"<6>task:{p.comm:<15.15} state:{state}{running} {who}flags:0x{flags:08x}\n")
    # Not modelled: print_worker_info().
    dump_stack_.show_stack(p)


def show_state_filter(state_filter: int) -> None:
    """Print all tasks, or those in a state.

    :param state_filter: TASK_*; 0 for all
    """
    # Not modelled: sysrq_sched_debug_show(), debug_show_all_locks().
    if machine.cur.flavour.version < (5, 10):
        wide = machine.cur.flavour.long_size == 8
        printk_.printk(f"<6>  task{' ' * (24 if wide else 16)}PC stack   pid father\n")
    for g in list_for_each_entry(machine.cur.init_task.tasks):
        for p in signal_send.for_each_thread(g):
            if not state_filter or p.state & state_filter:
                sched_show_task(p)
