"""What kernel threads run, out of kernel memory: `kthread_of`.

Follows struct kthread (kernel/kthread.c), struct worker (kernel/workqueue_internal.h), struct smpboot_thread_data
(kernel/smpboot.c) and struct irqaction, Linux 4.19 to 6.18.
"""

from __future__ import annotations

from typing import Final

from taskscope.memory.fields import Fields
from taskscope.memory.structs import Struct
from taskscope.snapshot.waits import Kthread

_PF_KTHREAD: Final = 0x20_0000
_KTHREADD: Final = 2


def kthread_of(memory: Fields, task: Struct) -> Kthread | None:
    """Return what a kernel thread runs; None for others, and where it is not found."""
    if not (memory.number(task, "flags") or 0) & _PF_KTHREAD:
        return None
    # Since v5.17 (e32cf5dfbe22) in worker_private, which old kernels do not have.
    at = memory.number(task, "worker_private")
    kthread = memory.struct("kthread", at if at is not None else memory.number(task, "set_child_tid") or 0)
    function = None if kthread is None else _function(memory, memory.number(kthread, "threadfn"))
    if kthread is None or function is None:
        # kernel_thread() makes it without one.
        return Kthread("kthreadd") if memory.number(task, "pid") == _KTHREADD else None
    data = memory.number(kthread, "data") or 0
    if function in ("worker_thread", "rescuer_thread"):
        return Kthread(function, None, _of_worker(memory, data, function))
    if function == "smpboot_thread_fn":
        user = memory.follow(memory.struct("smpboot_thread_data", data), "ht")
        return Kthread(function, _function(memory, memory.number(user, "thread_fn")))
    if function == "irq_thread":
        return Kthread(function, None, _of_irq(memory, data))
    return Kthread(function)


def _function(memory: Fields, address: int | None) -> str | None:
    symbol = memory.image.symbol_at(address) if address else None
    return symbol.name if symbol is not None and not symbol.offset else None


def _of_worker(memory: Fields, at: int, function: str) -> str | None:
    """Return what a worker does: the work's function and workqueue; of a rescuer its workqueue."""
    worker = memory.struct("worker", at)
    if worker is None:
        return None
    if function == "rescuer_thread":
        return memory.text(worker, "rescue_wq.name")
    work = _function(memory, memory.number(worker, "current_func"))
    queue = memory.text(worker, "current_pwq.wq.name")
    if work is not None:
        return f"{work} of {queue}" if queue else work
    return None


def _of_irq(memory: Fields, at: int) -> str | None:
    action = memory.struct("irqaction", at)
    irq, name = memory.number(action, "irq"), memory.string(memory.number(action, "name"))
    handler = _function(memory, memory.number(action, "thread_fn"))
    if irq is None:
        return None
    return f"irq {irq}" + (f" of {name}" if name else "") + (f": {handler}" if handler else "")
