"""Trace events at work: writing their records, and switching them on and off (kernel/trace/trace_events.c, v4.19).

An event that is on has its probe on the tracepoint; off, the kernel's code sees an empty slot.  Most records go the
short way through `trace_event_buffer_commit`; filters, triggers and strings take the long one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from taskscope.abi.preempt import HARDIRQ_MASK, NMI_MASK, SOFTIRQ_MASK, SOFTIRQ_OFFSET
from taskscope.model import machine
from taskscope.model.include.linux.trace_events import (
    EVENT_FILE_FL_FILTERED,
    EVENT_FILE_FL_MIGRATION,
    EVENT_FILE_FL_PID_FILTER,
    EVENT_FILE_FL_SLOW,
    EVENT_FILE_FL_SOFT_DISABLED,
    EVENT_FILE_FL_STACKTRACE,
    EVENT_FILE_FL_TRIGGER,
    Abi,
    Declaration,
    TraceEventCall,
    TraceEventFile,
)
from taskscope.model.include.linux.tracepoint import tracepoint_probe_register, tracepoint_probe_unregister
from taskscope.model.kernel.trace import ring_buffer

if TYPE_CHECKING:
    from taskscope.model.include.linux.sched import Task
    from taskscope.model.kernel.trace.trace import TraceArray
    from taskscope.model.machine import Machine

TRACE_FLAG_IRQS_OFF: Final = 0x01
TRACE_FLAG_NEED_RESCHED: Final = 0x04
TRACE_FLAG_HARDIRQ: Final = 0x08
TRACE_FLAG_SOFTIRQ: Final = 0x10
TRACE_FLAG_PREEMPT_RESCHED: Final = 0x20
TRACE_FLAG_NMI: Final = 0x40
TRACE_FLAG_BH_OFF: Final = 0x80

_MAX_HEAD: Final = (ring_buffer.MAX_DELTA << 5) - 1
_HEAD: Final = struct.Struct("<HBBi")
_EINVAL: Final = 22


def tracing_gen_ctx(cur: Machine) -> int:
    """Return what a record says of its context, flags << 16 | preempt_count << 24 (tracing_generic_entry_update())."""
    cpu = cur.cpu
    count = cpu.preempt_count
    flags = TRACE_FLAG_IRQS_OFF if cpu.irqs_off else 0
    if count > 0xFF:
        if count & NMI_MASK:
            flags |= TRACE_FLAG_NMI
        if count & HARDIRQ_MASK:
            flags |= TRACE_FLAG_HARDIRQ
        if count & SOFTIRQ_OFFSET:
            flags |= TRACE_FLAG_SOFTIRQ
        if count & SOFTIRQ_MASK & ~SOFTIRQ_OFFSET and cur.flavour.version >= (5, 19):
            flags |= TRACE_FLAG_BH_OFF
    if cpu.curr.thread_info.flags & cur.tif_need_resched:
        flags |= TRACE_FLAG_NEED_RESCHED
        # x86 folds the flag into preempt_count, so that both say it: at once if this CPU has set it, else in the
        # interrupt by which the other CPU tells.
        if cur.flavour.arch == "x86_64" and cpu.resched_by_ipi is not cpu.curr:
            flags |= TRACE_FLAG_PREEMPT_RESCHED
    count &= 0xFF
    if cur.flavour.version >= (5, 14):
        count = min(count, 15)
        if cur.migration_disabled:
            count |= min(migration_disable_value(cur), 15) << 4
    return flags << 16 | count << 24


def migration_disable_value(cur: Machine) -> int:
    """Return how often the running task has migration disabled."""
    pinned = cur.migration_disabled.get(cur.cpu.curr)
    return 0 if pinned is None else pinned.count


def trace_migration(cur: Machine, on: bool) -> None:
    """Let records take the long way, on which they say whether migration is disabled, or the short one again."""
    for tr in cur.ftrace_trace_arrays:
        for file in tr.events.values():
            event_file_set_flag(file, EVENT_FILE_FL_MIGRATION, on)


def trace_event_buffer_commit(file: TraceEventFile, values: tuple[Any, ...]) -> None:
    """Write the record of an event: reserve its place, fill it in, commit.

    :param values: of its fields, in their order; strings are bytes
    """
    cur = machine.cur
    if file.flags:
        __trace_event_buffer_commit(cur, file, values)
        return
    cpu = cur.cpu
    curr = cpu.curr
    count = cpu.preempt_count
    if count > 15 or curr.thread_info.flags & cur.tif_need_resched:
        context = tracing_gen_ctx(cur)
    else:
        context = count << 24 | 0x10000 if cpu.irqs_off else count << 24
    cpu_buffer = file.buffers[cpu.id]
    ts = cur.now
    pos = cpu_buffer.pos
    head = (ts - cpu_buffer.write_stamp) << 5
    if head > _MAX_HEAD or pos + file.length > cpu_buffer.limit:
        pos = ring_buffer.rb_move_tail(cpu_buffer, ts, file.length)
        if pos < 0:
            return
        head = 0
    file.pack_into(cpu_buffer.page, pos, head | file.type_len, file.head | context, curr.pid, *values)
    cpu_buffer.pos = pos + file.length
    cpu_buffer.write_stamp = ts
    cpu_buffer.entries += 1


def __trace_event_buffer_commit(cur: Machine, file: TraceEventFile, values: tuple[Any, ...]) -> None:
    from taskscope.model.kernel.trace import trace, trace_events_filter, trace_events_trigger

    flags = file.flags
    tr = file.tr
    cpu = cur.cpu
    if flags & EVENT_FILE_FL_PID_FILTER and trace_event_ignore_this_pid(file, cpu.curr, values):
        return
    context = tracing_gen_ctx(cur)
    event_call = file.event_call
    record = (event_call.id, context >> 16 & 0xFF, context >> 24, cpu.curr.pid, *values)
    post = None
    if flags & EVENT_FILE_FL_TRIGGER:
        post = trace_events_trigger.event_triggers_call(file, record)
    if not flags & EVENT_FILE_FL_SOFT_DISABLED and (
        not flags & EVENT_FILE_FL_FILTERED or trace_events_filter.filter_match_preds(file.filter, record)
    ):
        cpu_buffer = file.buffers[cpu.id]
        if cpu_buffer.recording:
            data = event_call.record.pack(*record) if not event_call.dynamic else __dynamic_record(event_call, record)
            ring_buffer.ring_buffer_write(cpu_buffer, trace.trace_clock_of(cur, tr), data)
            if flags & EVENT_FILE_FL_STACKTRACE:
                trace.ftrace_trace_stack(cur, tr)
    if post:
        trace_events_trigger.event_triggers_post_call(file, post, record)


def __dynamic_record(event_call: TraceEventCall, record: tuple[Any, ...]) -> bytes:
    """Make a record with strings behind its fixed part; a __data_loc word is (length << 16 | offset)."""
    fixed = list(record)
    behind = bytearray()
    for i, field in enumerate(event_call.fields, 4):
        if field.dynamic:
            text = record[i]
            text = text.encode() if isinstance(text, str) else text
            text = text.partition(b"\0")[0] + b"\0"
            fixed[i] = len(text) << 16 | (event_call.size + len(behind))
            behind += text
    return event_call.record.pack(*fixed) + behind


def trace_event_ignore_this_pid(file: TraceEventFile, task: Task, values: tuple[Any, ...]) -> bool:
    """Tell whether set_event_pid leaves a record out: it names neither the task nor, at a switch, the other."""
    pids = file.tr.filtered_pids
    if pids is None or task.pid in pids:
        return False
    name = file.event_call.name
    if name == "sched_switch":
        return values[1] not in pids and values[5] not in pids
    return not (name.startswith("sched_wak") and values[1] in pids)


def comm_bytes(comm: str | bytes) -> bytes:
    """Return a comm as char[16] holds it."""
    raw = comm.encode() if isinstance(comm, str) else comm
    return raw[:15].ljust(16, b"\0")


def user_word(cur: Machine, value: Any) -> int:
    """Return a register that holds an argument or an address of a program.

    A Python object has no address in user space: its register is 0.
    """
    if isinstance(value, int):
        return value & (0xFFFF_FFFF if cur.flavour.long_size == 4 else 0xFFFF_FFFF_FFFF_FFFF)
    address = getattr(value, "address", 0)
    return address if isinstance(address, int) else 0


def kernel_word(cur: Machine, thing: Any) -> int:
    """Return the address of a kernel object or function; 0 for what has none."""
    if callable(thing):
        from taskscope.model.kernel import kallsyms

        return kallsyms.kallsyms_address(cur, thing)
    return user_word(cur, thing)


def syscall_get_arguments(cur: Machine, regs: Sequence[Any]) -> tuple[int, ...]:
    """Return the six argument registers."""
    words = [user_word(cur, value) for value in regs[:6]]
    return tuple(words + [0] * (6 - len(words)))


# ---- events of this kernel -------------------------------------------------------------------------------


def trace_abi(cur: Machine) -> Abi:
    """Return what the layout of records depends on: ARM's char is unsigned, x86's since v6.2 (-funsigned-char)."""
    return Abi(cur.flavour.long_size, cur.flavour.arch == "x86_64" and cur.flavour.version < (6, 2))


def event_calls(cur: Machine) -> list[TraceEventCall]:
    """Make the events that this kernel has, with its ids."""
    from taskscope.model.kernel.trace import trace_entries, trace_syscalls

    abi = trace_abi(cur)
    version = cur.flavour.version
    ids = trace_entries.event_ids(cur.flavour.name)
    calls = []
    for declaration in declarations():
        if declaration.since <= version < declaration.before:
            number = ids.get((declaration.system, declaration.name))
            if number is not None:
                calls.append(TraceEventCall(declaration, number, abi))
    calls += trace_syscalls.syscall_event_calls(cur, abi)
    return calls


def declarations() -> Iterator[Declaration]:
    """Iterate over all shapes of all events."""
    from taskscope.model.include.trace.events import (
        ipi,
        irq,
        oom,
        printk,
        sched,
        signal,
        syscalls,
        task,
        timer,
        workqueue,
    )
    from taskscope.model.kernel.trace import trace_entries

    for module in (trace_entries, task, signal, sched, irq, ipi, printk, oom, timer, workqueue, syscalls):
        yield from module.EVENTS


def trace_event_files(cur: Machine, tr: TraceArray) -> dict[tuple[str, str], TraceEventFile]:
    """Make the files of an instance for all events that a probe can write (event_trace_add_tracer())."""
    files = {}
    for event_call in cur.trace_events:
        if event_call.system != "ftrace":
            file = TraceEventFile(event_call, tr)
            if event_call.dynamic or not event_call.type_len:
                file.flags = EVENT_FILE_FL_SLOW
            if cur.migration_disabled:
                file.flags |= EVENT_FILE_FL_MIGRATION
            files[event_call.system, event_call.name] = file
    return files


# ---- on and off ------------------------------------------------------------------------------------------


def ftrace_event_enable_disable(file: TraceEventFile, enable: bool) -> None:
    """Switch an event on or off in its instance."""
    if file.enabled != enable:
        file.enabled = enable
        update_event_file(file)


def update_event_file(file: TraceEventFile) -> None:
    """Bring the probe in line with what is wanted: the record, or triggers that need it (soft mode)."""
    cur = machine.cur
    wanted = file.enabled or file.soft_mode > 0
    if not file.enabled and wanted:
        file.flags |= EVENT_FILE_FL_SOFT_DISABLED
    else:
        file.flags &= ~EVENT_FILE_FL_SOFT_DISABLED
    if file.event_call.probe is not None and wanted != file.registered:
        file.registered = wanted
        if file.event_call.system == "syscalls":
            from taskscope.model.kernel.trace import trace_syscalls

            trace_syscalls.syscall_register(cur, file, wanted)
            update_cmdline_record(cur)
            return
        name = file.event_call.declaration.tracepoint or file.event_call.name
        if wanted:
            tracepoint_probe_register(cur.tp, name, file.event_call.probe, file)
        else:
            tracepoint_probe_unregister(cur.tp, name, file.event_call.probe, file)
    update_cmdline_record(cur)


def update_cmdline_record(cur: Machine) -> None:
    """Learn names of tasks at switches while anything is recorded (tracing_start_sched_switch())."""
    files = [f for tr in cur.ftrace_trace_arrays for f in tr.events.values() if f.registered]
    wanted = bool(files) or any(tr.current_trace != "nop" for tr in cur.ftrace_trace_arrays)
    # The probe of the event sched_switch does it itself.
    alone = wanted and not any(f.event_call.name == "sched_switch" for f in files)
    there = any(probe is probe_sched_switch for probe, _ in cur.tp.sched_switch)
    if alone and not there:
        tracepoint_probe_register(cur.tp, "sched_switch", probe_sched_switch, cur)
    elif there and not alone:
        tracepoint_probe_unregister(cur.tp, "sched_switch", probe_sched_switch, cur)


def probe_sched_switch(cur: Machine, preempt: bool, prev: Task, next: Task) -> None:
    """Keep the names of the tasks (kernel/trace/trace_sched_switch.c)."""
    del preempt
    cur.savedcmd[prev.pid] = prev.comm16
    cur.savedcmd[next.pid] = next.comm16


def set_event(tr: TraceArray, system: str | None, name: str | None, enable: bool) -> int:
    """Switch events on or off: one, all of a system, or all (__ftrace_set_clr_event_nolock()).

    :param system: None for any
    :param name: None for any
    :return: 0, or -EINVAL where there is no such event
    """
    found = False
    for (s, n), file in tr.events.items():
        if system in (None, s) and name in (None, n):
            found = True
            ftrace_event_enable_disable(file, enable)
    return 0 if found else -_EINVAL


def ftrace_set_clr_event(tr: TraceArray, text: str, enable: bool) -> int:
    """Switch events on or off by what set_event takes: SYSTEM:EVENT, SYSTEM:*, SYSTEM, EVENT, or *:*."""
    system, colon, name = text.partition(":")
    if colon:
        return set_event(tr, None if system in ("", "*") else system, None if name in ("", "*") else name, enable)
    both = [file for key, file in tr.events.items() if text in key]
    for file in both:
        ftrace_event_enable_disable(file, enable)
    return 0 if both else -_EINVAL


def apply_event_filter(file: TraceEventFile, text: str) -> int:
    """Give an event a filter; ``0`` takes it away.  Return 0 or a negative errno, when the file shows what is wrong."""
    from taskscope.model.kernel.trace import trace_events_filter

    if text == "0":
        file.filter, file.filter_text = None, ""
        event_file_set_flag(file, EVENT_FILE_FL_FILTERED, False)
        return 0
    try:
        file.filter = trace_events_filter.create_filter(file.event_call, text)
    except trace_events_filter.FilterError as error:
        # The mistake is shown where the filter was; the event has none then.
        file.filter, file.filter_text = None, trace_events_filter.error_text(text, error)
        event_file_set_flag(file, EVENT_FILE_FL_FILTERED, False)
        return -error.errno
    file.filter_text = text
    event_file_set_flag(file, EVENT_FILE_FL_FILTERED, True)
    return 0


def event_file_set_flag(file: TraceEventFile, flag: int, on: bool) -> None:
    """Set or clear a flag of the long way."""
    file.flags = file.flags | flag if on else file.flags & ~flag


# ---- what follows tasks through their lives --------------------------------------------------------------


def follow(cur: Machine, tr: TraceArray, name: str, probe: Callable[..., None], enable: bool) -> None:
    """Register a probe of a trace array at a tracepoint, or take it off, whichever is not done yet."""
    there = any(p is probe and data is tr for p, data in getattr(cur.tp, name))
    if enable and not there:
        tracepoint_probe_register(cur.tp, name, probe, tr)
    elif there and not enable:
        tracepoint_probe_unregister(cur.tp, name, probe, tr)


def trace_event_follow_fork(cur: Machine, tr: TraceArray, enable: bool) -> None:
    """Let children of the tasks in set_event_pid be recorded too, and forget those that go (option event-fork)."""
    follow(cur, tr, "sched_process_fork", event_filter_pid_sched_process_fork, enable)
    follow(cur, tr, "sched_process_free", event_filter_pid_sched_process_exit, enable)


def event_filter_pid_sched_process_fork(tr: TraceArray, parent: Task, child: Task) -> None:
    """Add the child of a task that is recorded."""
    if tr.filtered_pids is not None and parent.pid in tr.filtered_pids:
        tr.filtered_pids.add(child.pid)


def event_filter_pid_sched_process_exit(tr: TraceArray, task: Task) -> None:
    """Forget a task that is freed: its pid will be another's."""
    if tr.filtered_pids is not None:
        tr.filtered_pids.discard(task.pid)


def ftrace_pid_follow_fork(cur: Machine, tr: TraceArray, enable: bool) -> None:
    """Trace the functions of children too where set_ftrace_pid names the parent (option function-fork)."""
    follow(cur, tr, "sched_process_fork", ftrace_pid_follow_sched_process_fork, enable)
    follow(cur, tr, "sched_process_free", ftrace_pid_follow_sched_process_exit, enable)


def ftrace_pid_follow_sched_process_fork(tr: TraceArray, parent: Task, child: Task) -> None:
    """Add the child of a task whose functions are traced."""
    if tr.function_pids is not None and parent.pid in tr.function_pids:
        tr.function_pids.add(child.pid)


def ftrace_pid_follow_sched_process_exit(tr: TraceArray, task: Task) -> None:
    """Forget a task that is freed."""
    if tr.function_pids is not None:
        tr.function_pids.discard(task.pid)


def trace_event_record_tgid(cur: Machine, enable: bool) -> None:
    """Keep the thread group of each task that runs (option record-tgid)."""
    there = any(p is probe_sched_switch_tgid for p, _ in cur.tp.sched_switch)
    if enable and not there:
        tracepoint_probe_register(cur.tp, "sched_switch", probe_sched_switch_tgid, cur)
    elif there and not enable:
        tracepoint_probe_unregister(cur.tp, "sched_switch", probe_sched_switch_tgid, cur)


def probe_sched_switch_tgid(cur: Machine, preempt: bool, prev: Task, next: Task) -> None:
    """Keep the thread groups of two tasks."""
    del preempt
    cur.saved_tgids[prev.pid] = prev.tgid
    cur.saved_tgids[next.pid] = next.tgid


def set_soft_disabled(file: TraceEventFile, off: bool) -> None:
    """Let the records of an event through or not, its probe staying where it is (triggers enable_event …)."""
    event_file_set_flag(file, EVENT_FILE_FL_SOFT_DISABLED, off)
    file.enabled = not off
