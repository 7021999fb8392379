"""From a bio to the driver and back: block/{bio,blk-core,blk-mq,blk-softirq}.c, v4.19.

A driver ends a request in its interrupt: `blk_mq_complete_request`.  With one hardware queue for several CPUs what is
left is done in BLOCK_SOFTIRQ, on a CPU that shares a cache with the one that has submitted it.

Not modelled: plugging, merging, schedulers, partitions, timeouts of the block layer, kblockd: a request that the driver
had no room for is started where the one before it ends.
"""

from __future__ import annotations

from typing import Any

import taskscope.model.kernel.sched.core as sched_core
import taskscope.model.kernel.smp as smp
import taskscope.model.kernel.softirq as softirq
from taskscope.model import machine
from taskscope.model.include.linux.blkdev import BLK_STS_RESOURCE, Bio, Request, RequestQueue
from taskscope.model.include.linux.interrupt import BLOCK_SOFTIRQ
from taskscope.model.include.linux.preempt import (
    local_irq_disable,
    local_irq_enable,
    local_irq_restore,
    local_irq_save,
    preempt_disable,
    preempt_enable,
)


def blk_mq_init() -> None:
    """Name the softirq, and make each CPU's list of requests that are done (blk_softirq_init())."""
    m = machine.cur
    for cpu in m.cpus:
        cpu.pcpu["blk_cpu_done"] = []
    softirq.open_softirq(BLOCK_SOFTIRQ, blk_done_softirq)


# ---- down --------------------------------------------------------------------------------------------------


def submit_bio(q: RequestQueue, bio: Bio) -> None:
    """Hand a bio to the device; ``bi_end_io`` is called when it is done.

    Context: process context.
    """
    # blk_mq_make_request()
    blk_mq_try_issue_directly(Request(q, bio, machine.cur.cpu.id))


def blk_mq_try_issue_directly(rq: Request) -> None:
    """Let the driver start a request, or keep it until it has room."""
    q = rq.q
    if q.dispatch or q.mq_ops.queue_rq(rq) == BLK_STS_RESOURCE:
        q.dispatch.append(rq)
        return
    q.in_flight += 1


def blk_mq_run_hw_queue(q: RequestQueue) -> None:
    """Let the driver start requests that it had no room for."""
    while q.dispatch:
        if q.mq_ops.queue_rq(q.dispatch[0]) == BLK_STS_RESOURCE:
            return
        del q.dispatch[0]
        q.in_flight += 1


# ---- up ----------------------------------------------------------------------------------------------------


def blk_mq_complete_request(rq: Request) -> None:
    """Take a request that the device is done with; its end is a softirq's business.

    Since v6.1 (blk_mq_complete_request_remote()) a queue with one CPU ends it here and now.
    Context: hard interrupt or softirq.
    """
    m = machine.cur
    if m.flavour.switches.blk_completes_locally and m.nr_cpus == 1:
        rq.q.mq_ops.complete(rq)
        return
    # Select completion CPU: QUEUE_FLAG_SAME_COMP
    if rq.mq_ctx_cpu != m.cpu.id and not sched_core.cpus_share_cache(m.cpu.id, rq.mq_ctx_cpu):
        smp.smp_call_function_single(rq.mq_ctx_cpu, blk_mq_raise_softirq, rq, False)
        return
    blk_mq_raise_softirq(rq)


def blk_mq_raise_softirq(rq: Request) -> None:
    """Put a request on this CPU's list of those that are done (__blk_complete_request() until v5.10)."""
    preempt_disable()
    flags = local_irq_save()
    done: list[Request] = machine.cur.cpu.pcpu["blk_cpu_done"]
    done.append(rq)
    # if the list only contains our just added request, signal a raise of the softirq
    if len(done) == 1:
        softirq.raise_softirq_irqoff(BLOCK_SOFTIRQ)
    local_irq_restore(flags)
    preempt_enable()


def blk_done_softirq() -> None:
    """End the requests that are done on this CPU.

    Context: softirq.
    """
    cpu = machine.cur.cpu
    local_irq_disable()
    done: list[Request] = cpu.pcpu["blk_cpu_done"]
    cpu.pcpu["blk_cpu_done"] = []
    local_irq_enable()
    for rq in done:
        rq.q.mq_ops.complete(rq)


def blk_mq_end_request(rq: Request, error: int) -> None:
    """End a request: tell whoever submitted its bio."""
    rq.q.in_flight -= 1
    rq.bio.bi_status = error
    bio_endio(rq.bio)
    blk_mq_run_hw_queue(rq.q)


def bio_endio(bio: Bio) -> None:
    """Call who is to be told of a bio's end."""
    bio.bi_end_io(bio)


def blk_mq_init_queue(mq_ops: Any, queuedata: Any) -> RequestQueue:
    """Make a device's queue."""
    return RequestQueue(mq_ops, queuedata)
