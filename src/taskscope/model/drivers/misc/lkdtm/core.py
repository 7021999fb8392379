"""The kernel's own test of its crashes: drivers/misc/lkdtm/core.c, v4.19.

``echo EXCEPTION > /sys/kernel/debug/provoke-crash/DIRECT`` has the writing task crash in that way, inside the kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL
from typing import Any

import taskscope.model.drivers.misc.lkdtm.bugs as bugs
import taskscope.model.fs.proc.inode as proc_inode
import taskscope.model.fs.super as super_
import taskscope.model.kernel.printk as printk_


def crashtypes() -> dict[str, Callable[[], None]]:
    """Return what can be asked for."""
    return {
        "PANIC": bugs.lkdtm_PANIC,
        "BUG": bugs.lkdtm_BUG,
        "EXCEPTION": bugs.lkdtm_EXCEPTION,
        "LOOP": bugs.lkdtm_LOOP,
        "SOFTLOCKUP": bugs.lkdtm_SOFTLOCKUP,
        "HUNG_TASK": bugs.lkdtm_HUNG_TASK,
    }


def lkdtm_module_init() -> int:
    """Make the file of debugfs; 0.

    Not modelled: crash points, which are kprobes.
    """
    inode = proc_inode.proc_get_inode(0o644, proc_inode.ProcEntry(lkdtm_debugfs_read, direct_entry, None))
    super_.kern_add("/sys/kernel/debug/provoke-crash/DIRECT", inode)
    printk_.printk("<6>lkdtm: No crash points registered, enable through debugfs\n")
    return 0


def lkdtm_debugfs_read(private: Any) -> str:
    """List what can be asked for."""
    del private
    return "Available crash types:\n" + "".join(f"{name}\n" for name in crashtypes())


def direct_entry(private: Any, data: bytes) -> int:
    """Crash here and now."""
    del private
    name = data.decode(errors="replace").strip()
    crashtype = crashtypes().get(name)
    if crashtype is None:
        return -EINVAL
    printk_.printk(f"<6>lkdtm: Performing direct entry {name}\n")
    lkdtm_do_action(crashtype)
    return len(data)


def lkdtm_do_action(crashtype: Callable[[], None]) -> None:
    """Do it."""
    crashtype()
