"""Calling functions on other CPUs: kernel/smp.c, v4.19."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskscope.model import costs, machine
from taskscope.model.include.linux.completion import Completion
from taskscope.model.include.trace.events.ipi import trace_ipi_send_cpu
from taskscope.model.kernel.sched import completion


def smp_send_reschedule(cpu: int) -> None:
    """Interrupt another CPU so that it looks at TIF_NEED_RESCHED and its wake list (arch/*/kernel/smp.c)."""
    m = machine.cur
    trace_ipi_send_cpu(cpu, smp_send_reschedule, None)
    m.send_ipi(m.cpus[cpu], m.ipi_reschedule, costs.IPI_LATENCY)


def generic_smp_call_function_interrupt() -> None:
    """Call what other CPUs have queued for this one.  Context: hard interrupt, irqs off."""
    cpu = machine.cur.cpu
    queue: list[tuple[Callable[[Any], None], Any, Completion | None]] = cpu.pcpu.pop("call_single_queue", [])
    for func, info, done in queue:
        func(info)
        if done is not None:
            completion.complete(done)


def smp_call_function_single(cpu: int, func: Callable[[Any], None], info: Any, wait: bool) -> int:
    """Call ``func(info)`` on a CPU, in interrupt context.

    :param wait: return when it has been done.  The kernel spins, which one step of the machine cannot; here it sleeps.
    :return: 0
    """
    m = machine.cur
    if cpu == m.cpu.id:
        off = m.cpu.irqs_off
        m.cpu.irqs_off = True
        func(info)
        m.cpu.irqs_off = off
        return 0
    target = m.cpus[cpu]
    queue = target.pcpu.setdefault("call_single_queue", [])
    done = Completion() if wait else None
    queue.append((func, info, done))
    if len(queue) == 1:
        trace_ipi_send_cpu(cpu, smp_call_function_single, generic_smp_call_function_interrupt)
        m.send_ipi(target, m.ipi_call_func, costs.IPI_LATENCY)
    if done is not None:
        completion.wait_for_completion(done)
    return 0
