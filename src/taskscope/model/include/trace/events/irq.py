"""The events of interrupts, softirqs and tasklets: include/trace/events/irq.h, v4.19 to v6.18.

Tasklets have events on the later flavours only; the others are the same in all.
"""

from __future__ import annotations

from typing import Any, Final

from taskscope.model import machine
from taskscope.model.include.linux.trace_events import Declaration, TraceEventFile
from taskscope.model.kernel.trace import trace_events

SOFTIRQS: Final = ("HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU")


def trace_irq_handler_entry(irq: int, action: Any) -> None:
    """Trace that the handler of a struct irqaction is called."""
    probes = machine.cur.tp.irq_handler_entry
    if probes:
        for probe, data in probes:
            probe(data, irq, action)


def trace_irq_handler_exit(irq: int, action: Any, ret: int) -> None:
    """Trace that a handler has returned; `ret` is IRQ_HANDLED (1) or not."""
    probes = machine.cur.tp.irq_handler_exit
    if probes:
        for probe, data in probes:
            probe(data, irq, action, ret)


def trace_softirq_raise(vec_nr: int) -> None:
    """Trace that a softirq is made pending."""
    probes = machine.cur.tp.softirq_raise
    if probes:
        for probe, data in probes:
            probe(data, vec_nr)


def trace_softirq_entry(vec_nr: int) -> None:
    """Trace that the action of a softirq is called."""
    probes = machine.cur.tp.softirq_entry
    if probes:
        for probe, data in probes:
            probe(data, vec_nr)


def trace_softirq_exit(vec_nr: int) -> None:
    """Trace that the action of a softirq has returned."""
    probes = machine.cur.tp.softirq_exit
    if probes:
        for probe, data in probes:
            probe(data, vec_nr)


def trace_tasklet_entry(t: Any, func: Any) -> None:
    """Trace that a tasklet's function is called."""
    probes = machine.cur.tp.tasklet_entry
    if probes:
        for probe, data in probes:
            probe(data, t, func)


def trace_tasklet_exit(t: Any, func: Any) -> None:
    """Trace that a tasklet's function has returned."""
    probes = machine.cur.tp.tasklet_exit
    if probes:
        for probe, data in probes:
            probe(data, t, func)


def trace_event_raw_event_irq_handler_entry(file: TraceEventFile, irq: int, action: Any) -> None:
    """Write the record of a handler's call."""
    trace_events.trace_event_buffer_commit(file, (irq, action.name))


def trace_event_raw_event_irq_handler_exit(file: TraceEventFile, irq: int, action: Any, ret: int) -> None:
    """Write the record of a handler's return."""
    del action
    trace_events.trace_event_buffer_commit(file, (irq, int(ret)))


def trace_event_raw_event_softirq(file: TraceEventFile, vec_nr: int) -> None:
    """Write the record of a softirq."""
    trace_events.trace_event_buffer_commit(file, (vec_nr,))


def trace_event_raw_event_tasklet(file: TraceEventFile, t: Any, func: Any) -> None:
    """Write the record of a tasklet."""
    cur = machine.cur
    trace_events.trace_event_buffer_commit(
        file, (trace_events.kernel_word(cur, t), trace_events.kernel_word(cur, func)))


def trace_raw_output_irq_handler_exit(v: Any) -> str:
    """Print a handler's return."""
    return f"irq={v[0]} ret={'handled' if v[1] else 'unhandled'}"


def trace_raw_output_softirq(v: Any) -> str:
    """Print a softirq."""
    return f"vec={v[0]} [action={SOFTIRQS[v[0]] if v[0] < len(SOFTIRQS) else hex(v[0])}]"


_SOFTIRQ: Final = (
    '"vec=%u [action=%s]", REC->vec, __print_symbolic(REC->vec, '
    + ", ".join(f'{{ {i}, "{name}" }}' for i, name in enumerate(SOFTIRQS))
    + ")"
)
_TASKLET: Final = '"tasklet=%ps function=%ps", REC->tasklet, REC->func'

EVENTS: Final = (
    Declaration(
        "irq",
        "irq_handler_entry",
        "int irq; __data_loc char[] name",
        '"irq=%d name=%s", REC->irq, __get_str(name)',
        trace_event_raw_event_irq_handler_entry,
        None,
    ),
    Declaration(
        "irq",
        "irq_handler_exit",
        "int irq; int ret",
        '"irq=%d ret=%s", REC->irq, REC->ret ? "handled" : "unhandled"',
        trace_event_raw_event_irq_handler_exit,
        trace_raw_output_irq_handler_exit,
    ),
    *(
        Declaration("irq", name, "unsigned int vec", _SOFTIRQ, trace_event_raw_event_softirq, trace_raw_output_softirq)
        for name in ("softirq_raise", "softirq_entry", "softirq_exit")
    ),
    *(
        Declaration("irq", name, "void * tasklet; void * func", _TASKLET, trace_event_raw_event_tasklet, None,
                    since=(6, 0))
        for name in ("tasklet_entry", "tasklet_exit")
    ),
)
