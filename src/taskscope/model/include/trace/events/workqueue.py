"""The events of workqueues: include/trace/events/workqueue.h, v4.19 to v6.18."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from taskscope.model import machine
from taskscope.model.include.linux.trace_events import Declaration, TraceEventFile
from taskscope.model.include.linux.workqueue import WORK_CPU_UNBOUND
from taskscope.model.kernel.trace import trace_events

if TYPE_CHECKING:
    from taskscope.model.include.linux.workqueue import WorkFunc, WorkStruct
    from taskscope.model.kernel.workqueue.pwq import PoolWorkqueue
    from taskscope.model.machine import Machine


def trace_workqueue_queue_work(req_cpu: int, pwq: PoolWorkqueue, work: WorkStruct) -> None:
    """Trace that a work is queued; `req_cpu` is what the caller asked for."""
    probes = machine.cur.tp.workqueue_queue_work
    if probes:
        for probe, data in probes:
            probe(data, req_cpu, pwq, work)


def trace_workqueue_activate_work(work: WorkStruct) -> None:
    """Trace that a work goes on the list of its pool, right after it is queued or when max_active allows it."""
    probes = machine.cur.tp.workqueue_activate_work
    if probes:
        for probe, data in probes:
            probe(data, work)


def trace_workqueue_execute_start(work: WorkStruct) -> None:
    """Trace that a worker begins a work."""
    probes = machine.cur.tp.workqueue_execute_start
    if probes:
        for probe, data in probes:
            probe(data, work)


def trace_workqueue_execute_end(work: WorkStruct, function: WorkFunc) -> None:
    """Trace that a work's function has returned; the work may be gone."""
    probes = machine.cur.tp.workqueue_execute_end
    if probes:
        for probe, data in probes:
            probe(data, work, function)


# ---- probes ----------------------------------------------------------------------------------------------


def trace_event_raw_event_workqueue_queue_work(
    file: TraceEventFile, req_cpu: int, pwq: PoolWorkqueue, work: WorkStruct
) -> None:
    """Write the record of a work queued."""
    cur = machine.cur
    if req_cpu == WORK_CPU_UNBOUND:
        req_cpu = nr_cpus(cur)
    address, function = trace_events.kernel_word(cur, work), trace_events.kernel_word(cur, work.func)
    values: tuple[Any, ...]
    if file.event_call.dynamic:
        values = (address, function, pwq.wq.name, req_cpu, pwq.pool.cpu)
    else:
        # A workqueue has no address here; the numbers were unsigned.
        values = (address, function, 0, req_cpu, pwq.pool.cpu & 0xFFFF_FFFF)
    trace_events.trace_event_buffer_commit(file, values)


def trace_event_raw_event_workqueue_work(file: TraceEventFile, work: WorkStruct) -> None:
    """Write the record of a work activated or begun."""
    cur = machine.cur
    values: tuple[Any, ...] = (trace_events.kernel_word(cur, work),)
    if file.event_call.field("function") is not None:
        values = (*values, trace_events.kernel_word(cur, work.func))
    trace_events.trace_event_buffer_commit(file, values)


def trace_event_raw_event_workqueue_execute_end(file: TraceEventFile, work: WorkStruct, function: WorkFunc) -> None:
    """Write the record of a work ended."""
    cur = machine.cur
    values: tuple[Any, ...] = (trace_events.kernel_word(cur, work),)
    if file.event_call.field("function") is not None:
        values = (*values, trace_events.kernel_word(cur, function))
    trace_events.trace_event_buffer_commit(file, values)


def nr_cpus(cur: Machine) -> int:
    """Return NR_CPUS as the flavour's kernel is configured: what WORK_CPU_UNBOUND is in its records."""
    return {"4.19-arm": 4, "6.1-x86_64": 8192, "6.18-x86_64": 256}[cur.flavour.name]


# ---- text ------------------------------------------------------------------------------------------------

_WORK_FMT: Final = '"work struct %p", REC->work'
_FUNCTION_FMT: Final = '"work struct %p: function %p{}", REC->work, REC->function'
_QUEUE_419: Final = "void * work; void * function; void * workqueue; unsigned int req_cpu; unsigned int cpu"
_QUEUE: Final = "void * work; void * function; __data_loc char[] workqueue; int req_cpu; int cpu"

EVENTS: Final = (
    Declaration(
        "workqueue",
        "workqueue_queue_work",
        _QUEUE_419,
        '"work struct=%p function=%pf workqueue=%p req_cpu=%u cpu=%u", REC->work, REC->function, REC->workqueue, '
        "REC->req_cpu, REC->cpu",
        trace_event_raw_event_workqueue_queue_work,
        None,
        before=(5, 2),
    ),
    # Between v5.2 and v5.19 the name of the workqueue and signed numbers came; no flavour stands there.
    Declaration(
        "workqueue",
        "workqueue_queue_work",
        _QUEUE,
        '"work struct=%p function=%ps workqueue=%s req_cpu=%d cpu=%d", REC->work, REC->function, '
        "__get_str(workqueue), REC->req_cpu, REC->cpu",
        trace_event_raw_event_workqueue_queue_work,
        None,
        since=(5, 19),
    ),
    Declaration(
        "workqueue",
        "workqueue_activate_work",
        "void * work",
        _WORK_FMT,
        trace_event_raw_event_workqueue_work,
        None,
        before=(6, 10),
    ),
    Declaration(
        "workqueue",
        "workqueue_activate_work",
        "void * work; void * function",
        '"work struct %p function=%ps ", REC->work, REC->function',
        trace_event_raw_event_workqueue_work,
        None,
        since=(6, 10),
    ),
    Declaration(
        "workqueue",
        "workqueue_execute_start",
        "void * work; void * function",
        _FUNCTION_FMT.format("f"),
        trace_event_raw_event_workqueue_work,
        None,
        before=(5, 2),
    ),
    Declaration(
        "workqueue",
        "workqueue_execute_start",
        "void * work; void * function",
        _FUNCTION_FMT.format("s"),
        trace_event_raw_event_workqueue_work,
        None,
        since=(5, 2),
    ),
    # 1c5da0ec7f20, "workqueue: add worker function to workqueue_execute_end tracepoint"
    Declaration(
        "workqueue",
        "workqueue_execute_end",
        "void * work",
        _WORK_FMT,
        trace_event_raw_event_workqueue_execute_end,
        None,
        before=(5, 6),
    ),
    Declaration(
        "workqueue",
        "workqueue_execute_end",
        "void * work; void * function",
        _FUNCTION_FMT.format("s"),
        trace_event_raw_event_workqueue_execute_end,
        None,
        since=(5, 6),
    ),
)
