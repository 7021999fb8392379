"""Kernel call stacks, each attached to the record that it belongs to.

The kernel writes a stack as a record of its own directly behind the event that asked for it, on the same cpu and in
the same context.  Where an interrupt came between the two, the stack belongs to the nearest record before it whose
task and context are the stack's and which has no stack yet.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from taskscope.trace.source import Rows, Source, is_stack

#: frames of the tracing itself, which stand above the function that the event is about
_TRACER = ("trace_event_raw_event_", "__traceiter_", "trace_event_buffer_", "__ftrace_trace_stack", "ftrace_",
           "function_stack_trace_call", "trace_function", "__trace_stack", "perf_trace_", "stack_trace_call",
           "trampoline_", "kprobe_ftrace_handler", "kprobe_dispatcher", "kprobe_trace_func",
           "arch_ftrace_ops_list_func", "event_triggers_post_call", "stacktrace_trigger",
           "trace_event_buffer_commit", "return_to_handler", "kretprobe_", "opt_kprobe", "optimized_callback",
           "kprobe_int3_handler", "do_int3", "exc_int3", "asm_exc_int3", "aggr_pre_handler",
           "trace_dump_stack", "trace_call_bpf", "__bpf_trace_")

#: how far behind its event a stack is looked for
_REACH = 64


class Stacks:
    """Finds the stack of a record: ``stacks[row]`` is its frames, innermost first, or None."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._of = self._attach()

    def __len__(self) -> int:
        return len(self._of)

    def __repr__(self) -> str:
        return f"<Stacks of {len(self)} records>"

    def _attach(self) -> dict[int, int]:
        index = self._source.index
        kinds = [t.index for t in self._source.types if is_stack(t)]
        if not kinds or not len(index):
            return {}
        stack = np.isin(index.type, np.array(kinds, np.uint16))
        other = np.isin(index.type, np.array([t.index for t in self._source.types
                                              if t.system == "ftrace" and t.name == "user_stack"], np.uint16))
        rows = np.flatnonzero(stack)
        if not len(rows):
            return {}
        before = rows - 1
        behind = rows[before >= 0]
        before = before[before >= 0]
        direct = (~(stack | other)[before]) & (index.cpu[before] == index.cpu[behind]) \
            & (index.buffer[before] == index.buffer[behind])
        direct &= self._source.pids(before) == self._source.pids(behind)
        # The preemption count and need-resched bit may move between the two; the interrupt bits may not.
        context = np.uint16(0x08 | 0x10 | 0x40)
        flags_before, flags_behind = self._source.flags(before), self._source.flags(behind)
        direct &= (flags_before & context) == (flags_behind & context)
        of = dict(zip(before[direct].tolist(), behind[direct].tolist(), strict=True))
        for row in behind[~direct].tolist():
            event = self._search(row, of, stack | other, int(context))
            if event is not None:
                of[event] = row
        return of

    def _search(self, row: int, of: dict[int, int], not_event: npt.NDArray[np.bool_], context: int) -> int | None:
        index, source = self._source.index, self._source
        near: Rows = np.arange(max(row - _REACH, 0), row, dtype=np.int64)[::-1]
        pids, flags = source.pids(near), source.flags(near)
        pid = source.pids(np.array([row]))[0]
        flag = int(source.flags(np.array([row]))[0]) & context
        rows: list[int] = near.tolist()
        for i, r in enumerate(rows):
            if index.cpu[r] != index.cpu[row] or index.buffer[r] != index.buffer[row]:
                return None
            if not not_event[r] and r not in of and pids[i] == pid and int(flags[i]) & context == flag:
                return r
        return None

    def row(self, event: int) -> int | None:
        """Return the row of the stack record that belongs to the row `event`, or None."""
        return self._of.get(int(event))

    def raw(self, event: int) -> tuple[str, ...] | None:
        """Return the frames of a record's stack as recorded, innermost first."""
        row = self.row(event)
        return None if row is None else self._source.frames(row)

    def __getitem__(self, event: int) -> tuple[str, ...] | None:
        frames = self.raw(event)
        return None if frames is None else fold(frames)

    def get(self, event: int) -> tuple[str, ...] | None:
        """Return the folded frames of a record's stack, innermost first, None if it has none."""
        return self[event]


def fold(frames: tuple[str, ...]) -> tuple[str, ...]:
    """Drop the frames of the tracing itself from the inner end of a stack.

    >>> fold(("trace_event_raw_event_task_newtask", "copy_process", "kernel_clone"))
    ('copy_process', 'kernel_clone')
    """
    k = 0
    while k < len(frames) and (frames[k].startswith(_TRACER) or frames[k].startswith("0x")):
        k += 1
    # A stack of nothing but such frames is shown as it is.
    return frames[k:] or frames
