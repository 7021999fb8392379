"""The events of the OOM killer: include/trace/events/oom.h, v4.19 to v6.18."""

from __future__ import annotations

from typing import Final

from taskscope.model import machine
from taskscope.model.include.linux.mm_types import MM_ANONPAGES, MM_FILEPAGES, MM_SHMEMPAGES
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.trace_events import Declaration, TraceEventFile
from taskscope.model.kernel.trace import trace_events


def trace_oom_score_adj_update(task: Task) -> None:
    """Trace that a process has another oom_score_adj."""
    probes = machine.cur.tp.oom_score_adj_update
    if probes:
        for probe, data in probes:
            probe(data, task)


def trace_reclaim_retry_zone(
    order: int, reclaimable: int, available: int, min_wmark: int, no_progress_loops: int, wmark_check: bool
) -> None:
    """Trace the question whether reclaim is worth another round; numbers of pages."""
    probes = machine.cur.tp.reclaim_retry_zone
    if probes:
        for probe, data in probes:
            probe(data, order, reclaimable, available, min_wmark, no_progress_loops, wmark_check)


def trace_mark_victim(task: Task) -> None:
    """Trace that the OOM killer has chosen a task, whose mm is still there."""
    probes = machine.cur.tp.mark_victim
    if probes:
        for probe, data in probes:
            probe(data, task)


def trace_wake_reaper(pid: int) -> None:
    """Trace that oom_reaper is asked to reap a victim."""
    probes = machine.cur.tp.wake_reaper
    if probes:
        for probe, data in probes:
            probe(data, pid)


def trace_start_task_reaping(pid: int) -> None:
    """Trace that oom_reaper begins."""
    probes = machine.cur.tp.start_task_reaping
    if probes:
        for probe, data in probes:
            probe(data, pid)


def trace_finish_task_reaping(pid: int) -> None:
    """Trace that oom_reaper is done."""
    probes = machine.cur.tp.finish_task_reaping
    if probes:
        for probe, data in probes:
            probe(data, pid)


def trace_skip_task_reaping(pid: int) -> None:
    """Trace that oom_reaper finds nothing to reap."""
    probes = machine.cur.tp.skip_task_reaping
    if probes:
        for probe, data in probes:
            probe(data, pid)


def trace_event_raw_event_oom_score_adj_update(file: TraceEventFile, task: Task) -> None:
    """Write the record of a new oom_score_adj."""
    trace_events.trace_event_buffer_commit(file, (task.pid, task.comm16, task.signal.oom_score_adj))


def trace_event_raw_event_reclaim_retry_zone(
    file: TraceEventFile, order: int, reclaimable: int, available: int, min_wmark: int, no_progress_loops: int,
    wmark_check: bool,
) -> None:
    """Write the record of a question; the node and its zone are the only ones."""
    zone_idx = 0 if machine.cur.flavour.arch == "arm" else 2
    trace_events.trace_event_buffer_commit(
        file, (0, zone_idx, order, reclaimable, available, min_wmark, no_progress_loops, int(wmark_check))
    )


def trace_event_raw_event_mark_victim(file: TraceEventFile, task: Task) -> None:
    """Write the record of a victim: its pid, and later what it has (KiB)."""
    if file.event_call.declaration is _MARK_VICTIM:
        trace_events.trace_event_buffer_commit(file, (task.pid,))
        return
    from taskscope.model.mm import memory

    mm = task.mm
    stat = mm.rss_stat
    trace_events.trace_event_buffer_commit(
        file,
        (
            task.pid, task.comm16.rstrip(b"\0"), mm.total_vm << 2, stat[MM_ANONPAGES] << 2, stat[MM_FILEPAGES] << 2,
            stat[MM_SHMEMPAGES] << 2, task.cred.uid, memory.mm_pgtables_bytes(mm) >> 10, task.signal.oom_score_adj,
        ),
    )


def trace_event_raw_event_wake_reaper(file: TraceEventFile, pid: int) -> None:
    """Write the record of a request to oom_reaper."""
    trace_events.trace_event_buffer_commit(file, (pid,))


def trace_event_raw_event_start_task_reaping(file: TraceEventFile, pid: int) -> None:
    """Write the record of a reaping that begins."""
    trace_events.trace_event_buffer_commit(file, (pid,))


def trace_event_raw_event_finish_task_reaping(file: TraceEventFile, pid: int) -> None:
    """Write the record of a reaping that is done."""
    trace_events.trace_event_buffer_commit(file, (pid,))


def trace_event_raw_event_skip_task_reaping(file: TraceEventFile, pid: int) -> None:
    """Write the record of a victim without anything to reap."""
    trace_events.trace_event_buffer_commit(file, (pid,))


_ARM_ZONES: Final = '{0, "Normal"}, {1, "Movable"}'
_X86_ZONES: Final = '{0, "DMA"}, {1, "DMA32"}, {2, "Normal"}, {3, "Movable"}'
_RETRY_FIELDS: Final = (
    "int node; int zone_idx; int order; unsigned long reclaimable; unsigned long available; unsigned long min_wmark; "
    "int no_progress_loops; bool wmark_check"
)
_RETRY_FMT: Final = (
    '"node=%d zone=%-8s order=%d reclaimable=%lu available=%lu min_wmark=%lu no_progress_loops=%d wmark_check=%d", '
    "REC->node, __print_symbolic(REC->zone_idx, {}), REC->order, REC->reclaimable, REC->available, REC->min_wmark, "
    "REC->no_progress_loops, REC->wmark_check"
)
_PID: Final = '"pid=%d", REC->pid'
_MARK_VICTIM: Final = Declaration(
    "oom", "mark_victim", "int pid", _PID, trace_event_raw_event_mark_victim, None, before=(6, 1)
)

EVENTS: Final = (
    Declaration(
        "oom",
        "oom_score_adj_update",
        "pid_t pid; char comm[16]; short oom_score_adj",
        '"pid=%d comm=%s oom_score_adj=%hd", REC->pid, REC->comm, REC->oom_score_adj',
        trace_event_raw_event_oom_score_adj_update,
        None,
    ),
    # The zones that a kernel is built with: until v5.2 only flavours for 32-bit ARM are modelled here.
    Declaration(
        "oom", "reclaim_retry_zone", _RETRY_FIELDS, _RETRY_FMT.replace("{}", _ARM_ZONES, 1),
        trace_event_raw_event_reclaim_retry_zone, None, before=(5, 2),
    ),
    Declaration(
        "oom", "reclaim_retry_zone", _RETRY_FIELDS, _RETRY_FMT.replace("{}", _X86_ZONES, 1),
        trace_event_raw_event_reclaim_retry_zone, None, since=(5, 2),
    ),
    # 72ba14deb40a ("tracing: add more information to mark_victim", v6.9), which 6.1's stable releases have, too.
    _MARK_VICTIM,
    Declaration(
        "oom",
        "mark_victim",
        "int pid; __data_loc char[] comm; unsigned long total_vm; unsigned long anon_rss; unsigned long file_rss; "
        "unsigned long shmem_rss; uid_t uid; unsigned long pgtables; short oom_score_adj",
        '"pid=%d comm=%s total-vm=%lukB anon-rss=%lukB file-rss:%lukB shmem-rss:%lukB uid=%u pgtables=%lukB '
        'oom_score_adj=%hd", REC->pid, __get_str(comm), REC->total_vm, REC->anon_rss, REC->file_rss, REC->shmem_rss, '
        "REC->uid, REC->pgtables, REC->oom_score_adj",
        trace_event_raw_event_mark_victim,
        None,
        since=(6, 1),
    ),
    *(
        Declaration("oom", name, "int pid", _PID, probe, None)
        for name, probe in (
            ("wake_reaper", trace_event_raw_event_wake_reaper),
            ("start_task_reaping", trace_event_raw_event_start_task_reaping),
            ("finish_task_reaping", trace_event_raw_event_finish_task_reaping),
            ("skip_task_reaping", trace_event_raw_event_skip_task_reaping),
        )
    ),
    # Not modelled: compaction.
    Declaration(
        "oom",
        "compact_retry",
        "int order; int priority; int result; int retries; int max_retries; bool ret",
        '"order=%d priority=%s compaction_result=%s retries=%d max_retries=%d should_retry=%d", REC->order, '
        '__print_symbolic(REC->priority, {0, "COMPACT_PRIO_SYNC_FULL"}, {1, "COMPACT_PRIO_SYNC_LIGHT"}, '
        '{2, "COMPACT_PRIO_ASYNC"}), __print_symbolic(REC->result, {1, "failed"}, {2, "withdrawn"}, '
        '{3, "progress"}), REC->retries, REC->max_retries, REC->ret',
        None,
        None,
    ),
)
