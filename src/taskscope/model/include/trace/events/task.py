"""The events of task_struct itself: include/trace/events/task.h, v4.19 to v6.18."""

from __future__ import annotations

from typing import Final

from taskscope.model import machine
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.trace_events import Declaration, TraceEventFile
from taskscope.model.kernel.trace import trace_events


def trace_task_newtask(task: Task, clone_flags: int) -> None:
    """Trace that copy_process() has made a task."""
    probes = machine.cur.tp.task_newtask
    if probes:
        for probe, data in probes:
            probe(data, task, clone_flags)


def trace_task_rename(task: Task, comm: str) -> None:
    """Trace that a task gets another name; task->comm is still the old one."""
    probes = machine.cur.tp.task_rename
    if probes:
        for probe, data in probes:
            probe(data, task, comm)


def trace_event_raw_event_task_newtask(file: TraceEventFile, task: Task, clone_flags: int) -> None:
    """Write the record of a new task."""
    trace_events.trace_event_buffer_commit(file, (task.pid, task.comm16, clone_flags, task.signal.oom_score_adj))


def trace_event_raw_event_task_rename(file: TraceEventFile, task: Task, comm: str) -> None:
    """Write the record of a new name."""
    # strlcpy(entry->newcomm, comm, TASK_COMM_LEN)
    trace_events.trace_event_buffer_commit(
        file, (task.pid, task.comm16, trace_events.comm_bytes(comm), task.signal.oom_score_adj)
    )


_NEWTASK_FMT: Final = (
    '"pid=%d comm=%s clone_flags={} oom_score_adj=%hd", REC->pid, REC->comm, REC->clone_flags, REC->oom_score_adj'
)

EVENTS: Final = (
    Declaration(
        "task",
        "task_newtask",
        "pid_t pid; char comm[16]; unsigned long clone_flags; short oom_score_adj",
        _NEWTASK_FMT.format("%lx"),
        trace_event_raw_event_task_newtask,
        None,
        before=(6, 18),
    ),
    Declaration(
        "task",
        "task_newtask",
        "pid_t pid; char comm[16]; u64 clone_flags; short oom_score_adj",
        _NEWTASK_FMT.format("%llx"),
        trace_event_raw_event_task_newtask,
        None,
        since=(6, 18),
    ),
    Declaration(
        "task",
        "task_rename",
        "pid_t pid; char oldcomm[16]; char newcomm[16]; short oom_score_adj",
        '"pid=%d oldcomm=%s newcomm=%s oom_score_adj=%hd", REC->pid, REC->oldcomm, REC->newcomm, REC->oom_score_adj',
        trace_event_raw_event_task_rename,
        None,
    ),
    # Not modelled: prctl() options that no kernel knows are not traced.
    Declaration(
        "task",
        "task_prctl_unknown",
        "int option; unsigned long arg2; unsigned long arg3; unsigned long arg4; unsigned long arg5",
        '"option=%d arg2=%ld arg3=%ld arg4=%ld arg5=%ld", REC->option, REC->arg2, REC->arg3, REC->arg4, REC->arg5',
        None,
        None,
        since=(6, 13),
    ),
)
