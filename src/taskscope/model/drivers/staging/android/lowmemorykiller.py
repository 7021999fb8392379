"""Android's low-memory killer as study notes show it: drivers/staging/android/lowmemorykiller.c, v3.7.

A shrinker that kills: when few pages are free, of the processes whose oom_score_adj is high enough for the shortage,
the one with the highest goes; among equals the largest.  The driver left the kernel with v4.12; here it is a module out
of the tree.  Since v3.12 a shrinker has two functions where v3.7 has one that is asked with nr_to_scan 0 first:
`lowmem_count` and `lowmem_scan` call `lowmem_shrink` for both.
"""

from __future__ import annotations

from errno import EINVAL
from typing import Final

import taskscope.model.fs.proc.inode as proc_inode
import taskscope.model.fs.super as super_
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.signal.send as signal_send
import taskscope.model.mm.oom_kill as oom_kill
import taskscope.model.mm.vmscan as vmscan
from taskscope.model import machine
from taskscope.model.include.linux.list import list_for_each_entry
from taskscope.model.include.linux.pid import PIDTYPE_TGID
from taskscope.model.include.linux.sched import PF_KTHREAD, Task
from taskscope.model.include.linux.sched_signal import SEND_SIG_NOINFO
from taskscope.model.mm.vmscan import DEFAULT_SEEKS, ShrinkControl, Shrinker

SIGKILL: Final = 9
OOM_SCORE_ADJ_MAX: Final = 1000
ARRAY_SIZE: Final = 6


class Lowmem:
    """The variables of this file."""

    __slots__ = ("adj", "deathpending_timeout", "debug_level", "minfree")

    def __init__(self) -> None:
        self.debug_level = 2
        self.adj = [0, 1, 6, 12]
        # pages: 6 MiB, 8 MiB, 16 MiB, 64 MiB
        self.minfree = [3 * 512, 2 * 1024, 4 * 1024, 16 * 1024]
        self.deathpending_timeout = 0           # jiffies


def lowmem_print(level: int, text: str) -> None:
    """Print if the module is as talkative as that."""
    if machine.cur.lowmem.debug_level >= level:
        printk_.printk(f"<4>{text}")


def lowmem_shrink(s: Shrinker, sc: ShrinkControl) -> int:
    """Kill a process if memory is short, or (with nr_to_scan 0) say how many pages programs have.

    :return: how many pages there are to be had, less those of the process that was killed
    """
    del s
    m = machine.cur
    state: Lowmem = m.lowmem
    zone = m.zone
    selected: Task | None = None
    rem = 0
    min_score_adj = OOM_SCORE_ADJ_MAX + 1
    selected_tasksize = 0
    other_free = zone.nr_free - zone.totalreserve_pages
    other_file = zone.nr_file - zone.nr_shmem
    array_size = min(ARRAY_SIZE, len(state.adj), len(state.minfree))
    for i in range(array_size):
        if other_free < state.minfree[i] and other_file < state.minfree[i]:
            min_score_adj = state.adj[i]
            break
    gfp = f"{sc.gfp_mask.bits_4_19:x}"
    if sc.nr_to_scan > 0:
        lowmem_print(
            3, f"lowmem_shrink {sc.nr_to_scan}, {gfp}, ofree {other_free} {other_file}, ma {min_score_adj}\n"
        )
    # the LRU lists: what the page cache has of files stays in memory for good and is on none
    rem = zone.nr_anon + zone.nr_shmem
    if sc.nr_to_scan <= 0 or min_score_adj == OOM_SCORE_ADJ_MAX + 1:
        lowmem_print(5, f"lowmem_shrink {sc.nr_to_scan}, {gfp}, return {rem}\n")
        return rem
    selected_oom_score_adj = min_score_adj
    # rcu_read_lock()
    for tsk in list_for_each_entry(m.init_task.tasks):
        if tsk.flags & PF_KTHREAD:
            continue
        p = oom_kill.find_lock_task_mm(tsk)
        if p is None:
            continue
        if p.thread_info.flags & m.tif.MEMDIE and m.jiffies <= state.deathpending_timeout:
            return 0
        oom_score_adj = p.signal.oom_score_adj
        if oom_score_adj < min_score_adj:
            continue
        tasksize = p.mm.rss
        if tasksize <= 0:
            continue
        if selected is not None:
            if oom_score_adj < selected_oom_score_adj:
                continue
            if oom_score_adj == selected_oom_score_adj and tasksize <= selected_tasksize:
                continue
        selected = p
        selected_tasksize = tasksize
        selected_oom_score_adj = oom_score_adj
        lowmem_print(2, f"select {p.pid} ({p.comm}), adj {oom_score_adj}, size {tasksize}, to kill\n")
    if selected is not None:
        lowmem_print(
            1,
            f"send sigkill to {selected.pid} ({selected.comm}), adj {selected_oom_score_adj}, size "
            f"{selected_tasksize}\n",
        )
        state.deathpending_timeout = m.jiffies + m.hz
        # send_sig(SIGKILL, selected, 0)
        signal_send.do_send_sig_info(SIGKILL, SEND_SIG_NOINFO, selected, PIDTYPE_TGID)
        selected.thread_info.flags |= m.tif.MEMDIE
        rem -= selected_tasksize
    lowmem_print(4, f"lowmem_shrink {sc.nr_to_scan}, {gfp}, return {rem}\n")
    return rem


def lowmem_count(s: Shrinker, sc: ShrinkControl) -> int:
    """Say how many pages there are to be had."""
    sc.nr_to_scan = 0
    return lowmem_shrink(s, sc)


def lowmem_scan(s: Shrinker, sc: ShrinkControl) -> int:
    """Kill if memory is short."""
    lowmem_shrink(s, sc)
    # The pages come back when the process dies, not now: nothing was freed here.
    return 0


def param_show(name: str) -> str:
    """Show a parameter of the module."""
    value = getattr(machine.cur.lowmem, name)
    return (",".join(map(str, value)) if isinstance(value, list) else str(value)) + "\n"


def param_store(name: str, data: bytes) -> int:
    """Set a parameter of the module: a number, or up to six with commas between."""
    state: Lowmem = machine.cur.lowmem
    try:
        numbers = [int(word) for word in data.split(b",")]
    except ValueError:
        return -EINVAL
    if name == "debug_level":
        state.debug_level = numbers[0]
        return len(data)
    if len(numbers) > ARRAY_SIZE:
        return -EINVAL
    setattr(state, name, numbers)
    return len(data)


def lowmem_init() -> int:
    """Register the shrinker, and the parameters in /sys/module/lowmemorykiller/parameters."""
    m = machine.cur
    m.lowmem = Lowmem()
    for name in ("adj", "minfree", "debug_level"):
        entry = proc_inode.ProcEntry(param_show, param_store, name)
        super_.kern_add(
            f"/sys/module/lowmemorykiller/parameters/{name}", proc_inode.proc_get_inode(0o644, entry)
        )
    return vmscan.register_shrinker(Shrinker("lowmem_shrinker", lowmem_count, lowmem_scan, DEFAULT_SEEKS * 16))
