"""Spinlocks and rwlocks: include/linux/spinlock.h, rwlock.h, v4.19.

Kernel code between two parking places is one step of the machine, so a lock is never contended.  What a lock does here
is to raise preempt_count, to be asserted (``lock.held``), and to find code that parks or schedules while it holds one.
Who holds it is kept with asserts on only.  The order in which locks nest is in kernel/README.md.
"""

from __future__ import annotations

from taskscope.model import machine


class Spinlock:
    """raw_spinlock_t, spinlock_t and rwlock_t."""

    __slots__ = ("name", "owner", "readers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.owner: machine.Cpu | None = None
        self.readers = 0

    @property
    def held(self) -> bool:
        """Whether the executing CPU holds it (a rwlock: for writing)."""
        return self.owner is machine.cur.cpu

    def __repr__(self) -> str:
        return f"<lock {self.name}>"


def raw_spin_lock(lock: Spinlock) -> None:
    """Take the lock."""
    cpu = machine.cur.cpu
    cpu.preempt_count += 1
    if __debug__:
        assert lock.owner is None, f"{lock.name} is held by cpu {lock.owner.id}"
        assert not lock.readers, f"{lock.name} is held for reading"
        lock.owner = cpu


def raw_spin_unlock(lock: Spinlock) -> None:
    """Release the lock; preemption that became due meanwhile happens here (CONFIG_PREEMPT)."""
    m = machine.cur
    cpu = m.cpu
    if __debug__:
        assert lock.owner is cpu, f"{lock.name} is not held here"
        lock.owner = None
    cpu.preempt_count -= 1
    need = m.chooses or cpu.curr.thread_info.flags & m.tif_need_resched
    if need and m.kernel_preempt and not cpu.preempt_count and not cpu.irqs_off:
        m.preempt_schedule()


def raw_spin_lock_irq(lock: Spinlock) -> None:
    """Disable interrupts and take the lock."""
    cpu = machine.cur.cpu
    cpu.irqs_off = True
    cpu.preempt_count += 1
    if __debug__:
        assert lock.owner is None, f"{lock.name} is held by cpu {lock.owner.id}"
        assert not lock.readers, f"{lock.name} is held for reading"
        lock.owner = cpu


def raw_spin_unlock_irq(lock: Spinlock) -> None:
    """Release the lock and enable interrupts."""
    machine.cur.cpu.irqs_off = False
    raw_spin_unlock(lock)


def raw_spin_lock_irqsave(lock: Spinlock) -> bool:
    """Disable interrupts and take the lock; return what `raw_spin_unlock_irqrestore` needs."""
    cpu = machine.cur.cpu
    flags = cpu.irqs_off
    cpu.irqs_off = True
    cpu.preempt_count += 1
    if __debug__:
        assert lock.owner is None, f"{lock.name} is held by cpu {lock.owner.id}"
        assert not lock.readers, f"{lock.name} is held for reading"
        lock.owner = cpu
    return flags


def raw_spin_unlock_irqrestore(lock: Spinlock, flags: bool) -> None:
    """Release the lock and put the interrupt flag back."""
    m = machine.cur
    cpu = m.cpu
    if __debug__:
        assert lock.owner is cpu, f"{lock.name} is not held here"
        lock.owner = None
    cpu.preempt_count -= 1
    cpu.irqs_off = flags
    need = m.chooses or cpu.curr.thread_info.flags & m.tif_need_resched
    if need and not flags and m.kernel_preempt and not cpu.preempt_count:
        m.preempt_schedule()


spin_lock = raw_spin_lock
spin_unlock = raw_spin_unlock
spin_lock_irq = raw_spin_lock_irq
spin_unlock_irq = raw_spin_unlock_irq
spin_lock_irqsave = raw_spin_lock_irqsave
spin_unlock_irqrestore = raw_spin_unlock_irqrestore
write_lock = raw_spin_lock
write_unlock = raw_spin_unlock
write_lock_irq = raw_spin_lock_irq
write_unlock_irq = raw_spin_unlock_irq


def read_lock(lock: Spinlock) -> None:
    """Take an rwlock for reading."""
    machine.cur.cpu.preempt_count += 1
    assert lock.owner is None, f"{lock.name} is held for writing"
    lock.readers += 1


def read_unlock(lock: Spinlock) -> None:
    """Release a reader's hold; preemption that became due meanwhile happens here (CONFIG_PREEMPT)."""
    assert lock.readers > 0, f"{lock.name} is not held for reading"
    lock.readers -= 1
    m = machine.cur
    cpu = m.cpu
    cpu.preempt_count -= 1
    need = m.chooses or cpu.curr.thread_info.flags & m.tif_need_resched
    if need and m.kernel_preempt and not cpu.preempt_count and not cpu.irqs_off:
        m.preempt_schedule()
