"""RCU's readers: include/linux/rcupdate.h, v4.19.  Writers' side: kernel/rcu/tree.py.

A reader is one step of the machine, which no grace period can end in; that it must not sleep is checked by disabling
preemption, as kernels without CONFIG_PREEMPT do.
"""

from __future__ import annotations

from taskscope.model import machine


def rcu_read_lock() -> None:
    """Begin to read: what is found stays until rcu_read_unlock()."""
    machine.cur.cpu.preempt_count += 1


def rcu_read_unlock() -> None:
    """End to read."""
    cpu = machine.cur.cpu
    assert cpu.preempt_count & 0xFF, "rcu_read_unlock() without rcu_read_lock()"
    cpu.preempt_count -= 1
