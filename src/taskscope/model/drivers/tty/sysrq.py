"""Requests to the kernel itself: drivers/tty/sysrq.c, v4.19 to v6.18; by /proc/sysrq-trigger.

Not modelled: the key on a keyboard, and the requests that are not in `sysrq_keys`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import taskscope.model.fs.proc.inode as proc_inode
import taskscope.model.kernel.panic as panic_
import taskscope.model.kernel.printk as printk_
import taskscope.model.kernel.sched.core.show as show
import taskscope.model.mm.oom_kill as oom_kill
import taskscope.model.mm.show_mem as show_mem_
from taskscope.model import machine
from taskscope.model.include.linux.compiler import WRITE_ONCE
from taskscope.model.include.linux.gfp import GFP_KERNEL
from taskscope.model.include.linux.sched import TASK_UNINTERRUPTIBLE


def sysrq_handle_crash() -> None:
    """Crash: by a bad pointer with panic_on_oops until v5.1."""
    if machine.cur.flavour.switches.sysrq_panics:
        panic_.panic("sysrq triggered crash\n")
    panic_.panic_state().panic_on_oops = 1          # force panic
    WRITE_ONCE(0, 1)


def sysrq_handle_moom() -> None:
    """Call the OOM killer (moom_callback(), by a worker in C)."""
    if not oom_kill.out_of_memory(oom_kill.OomControl(GFP_KERNEL, -1)):
        printk_.printk("<6>OOM request ignored. No task eligible\n")


def sysrq_handle_showmem() -> None:
    """Print what there is of memory."""
    show_mem_.show_mem()


def sysrq_handle_showstate() -> None:
    """Print all tasks."""
    show.show_state_filter(0)


def sysrq_handle_showstate_blocked() -> None:
    """Print the tasks in D."""
    show.show_state_filter(TASK_UNINTERRUPTIBLE)


def sysrq_keys() -> dict[str, tuple[str, Callable[[], None]]]:
    """Return the requests by key, each with what is printed first."""
    return {
        "c": ("Trigger a crash", sysrq_handle_crash),
        "f": ("Manual OOM execution", sysrq_handle_moom),
        "m": ("Show Memory", sysrq_handle_showmem),
        "t": ("Show State", sysrq_handle_showstate),
        "w": ("Show Blocked State", sysrq_handle_showstate_blocked),
    }


def __handle_sysrq(key: str) -> None:
    found = sysrq_keys().get(key)
    prefix = "sysrq: " if machine.cur.flavour.version >= (5, 1) else "sysrq: SysRq : "
    if found is None:
        known = " ".join(f"{text.lower().replace(' ', '-')}({name})" for name, (text, _) in sysrq_keys().items())
        printk_.printk(f"<6>{prefix}HELP : {known}\n")
        return
    action, handler = found
    printk_.printk(f"<6>{prefix}{action}\n")
    handler()


def write_sysrq_trigger(private: Any, data: bytes) -> int:
    """/proc/sysrq-trigger: the first character is the request."""
    del private
    if data:
        __handle_sysrq(chr(data[0]))
    return len(data)


def sysrq_init() -> int:
    """Make /proc/sysrq-trigger."""
    proc_inode.proc_create("sysrq-trigger", 0o200, None, write_sysrq_trigger)
    return 0
