"""The events of interrupts between CPUs: include/trace/events/ipi.h, v6.18.

x86-64 has ipi_send_cpu and ipi_send_cpumask since v6.4.  Not modelled: ipi_raise, ipi_entry, ipi_exit of ARM.
"""

from __future__ import annotations

from typing import Any, Final

from taskscope.model import machine
from taskscope.model.include.linux.trace_events import Declaration, TraceEventFile
from taskscope.model.kernel.trace import trace_events


def trace_ipi_send_cpu(cpu: int, callsite: Any, callback: Any) -> None:
    """Trace that a CPU is interrupted.

    :param callsite: the function that does it
    :param callback: what is called there; None: it only looks whether it should reschedule
    """
    probes = machine.cur.tp.ipi_send_cpu
    if probes:
        for probe, data in probes:
            probe(data, cpu, callsite, callback)


def trace_event_raw_event_ipi_send_cpu(file: TraceEventFile, cpu: int, callsite: Any, callback: Any) -> None:
    """Write the record of an interrupt."""
    cur = machine.cur
    words = [0 if function is None else trace_events.kernel_word(cur, function) for function in (callsite, callback)]
    trace_events.trace_event_buffer_commit(file, (cpu, *words))


_SEND: Final = "callsite=%pS callback=%pS"
_ARGS: Final = "REC->callsite, REC->callback"

EVENTS: Final = (
    Declaration(
        "ipi",
        "ipi_send_cpu",
        "unsigned int cpu; void * callsite; void * callback",
        f'"cpu=%u {_SEND}", REC->cpu, {_ARGS}',
        trace_event_raw_event_ipi_send_cpu,
        None,
        since=(6, 4),
    ),
)
