"""The record that a line of a story rests on, found again in the recording, and its call stack in few words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from taskscope.abi.renames import fold
from taskscope.trace.source import UNKNOWN_TYPE, EventType
from taskscope.trace.trace import Trace

#: how many records around a time are looked at; only clocks that stand still have more of one stamp
_REACH = 512


class Evidence:
    """Finds records of a trace by time, cpu, event and field."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    @cached_property
    def _sorted(self) -> npt.NDArray[np.int64]:
        return self.trace.ts(self.trace.order)

    def rows(self, at: int, cpu: int | None = None) -> list[int]:
        """Return the rows of the records with that time stamp, on that cpu if one is given."""
        first = int(np.searchsorted(self._sorted, at, "left"))
        last = int(np.searchsorted(self._sorted, at, "right"))
        found = self.trace.order[first : min(last, first + _REACH)].tolist()
        if cpu is None:
            return [int(r) for r in found]
        of = self.trace.source.index.cpu
        return [int(r) for r in found if int(of[r]) == cpu]

    def type(self, row: int) -> EventType | None:
        """Return the event type of a row."""
        number = int(self.trace.source.index.type[row])
        return None if number == UNKNOWN_TYPE else self.trace.types[number]

    def find(
        self, at: int | None, cpu: int | None, events: Sequence[str], fields: Mapping[str, int] | None = None
    ) -> int | None:
        """Return the row of the first of `events` that was recorded at that time, None if none was.

        :param fields: values that the record must have, in those of the fields that its type has
        """
        if at is None:
            return None
        here = [(row, t) for row in self.rows(at, cpu) if (t := self.type(row)) is not None]
        for event in events:
            for row, t in here:
                if t.name == event and self._fits(row, t, fields or {}):
                    return row
        return None

    def _fits(self, row: int, kind: EventType, fields: Mapping[str, int]) -> bool:
        return all(self.value(row, name) == wanted for name, wanted in fields.items() if kind.field(name) is not None)

    def value(self, row: int, field: str) -> int | None:
        """Return an integer field of a record, None if its type has no such field."""
        t = self.type(row)
        if t is None or (found := t.field(field)) is None or found.shape != "int":
            return None
        return int(self.trace.source.column(t, field, np.array([row], np.int64))[0])

    def name(self, row: int) -> str:
        """Return the event's name; for a function-tracer record the function with ``()``."""
        t = self.type(row)
        if t is None:
            return "?"
        if t.name != "function":
            return t.name
        stack = self.trace.stacks.get(row)
        return f"{plain(stack[0])}()" if stack else "function"

    def pid(self, row: int) -> int:
        """Return the pid of the task that was current."""
        return int(self.trace.source.pids(np.array([row], np.int64))[0])

    def irq(self, row: int) -> str | None:
        """Say from which interrupt context a record was written: ``softirq``, ``irq``, ``NMI``; None for a task's own.

        Bits of the kernel's ``enum trace_flag_type`` (include/linux/trace_events.h, v6.12).
        """
        flags = int(self.trace.source.flags(np.array([row], np.int64))[0])
        if flags & 0x40:
            return "NMI"
        if flags & 0x08:
            return "irq"
        return "softirq" if flags & 0x10 else None

    def text(self, row: int) -> list[str]:
        """Return the record as ``taskscope report`` prints it, without the comm's padding."""
        shown = b"".join(self.trace.report(np.array([row], np.int64), then=True))
        return [line.strip() for line in shown.decode("utf-8", "backslashreplace").splitlines()]


# Entry code that stands at the outer end of every stack, and the inner end of every switch: it tells nothing.
_ENTRY = re.compile(
    r"(asm_|entry_|do_syscall_|__do_syscall|do_fast_syscall_|__do_fast_syscall_|do_SYSENTER|do_int80|x64_sys_call|"
    r"ia32_sys_call|system_call|el0|invoke_syscall|ret_from_|exit_to_user_mode|__exit_to_user_mode|syscall_exit_to_user|"
    r"irqentry_exit|irqentry_|prepare_exit_to_usermode|arch_do_signal|do_notify_resume|work_notifysig|secondary_startup|"
    r"start_secondary|ret_fast_syscall|__sys_trace|vector_swi|sysvec_|resume_userspace|int80|syscall_return|0x)"
)
_SUFFIX = re.compile(r"\.(isra|constprop|part|cold|llvm)\b.*")
_DRAW = 6


def plain(frame: str) -> str:
    """Return a function's name without what the compiler and the syscall macros added.

    >>> plain("__x64_sys_clone"), plain("do_execveat_common.isra.0")
    ('sys_clone', 'do_execveat_common')
    """
    return fold(_SUFFIX.sub("", frame))


def essential(frames: Sequence[str], most: int = _DRAW) -> list[str]:
    """Fold a stack to the frames that tell the way it went: outermost first, entry code left out.

    >>> essential(("copy_process", "kernel_clone", "__do_sys_clone", "do_syscall_64", "entry_SYSCALL_64_after_hwframe"))
    ['sys_clone', 'kernel_clone', 'copy_process']
    """
    kept: list[str] = []
    for frame in reversed(frames):
        name = plain(frame)
        if _ENTRY.match(name) or (kept and kept[-1] == name):
            continue
        kept.append(name)
    if len(kept) > most:
        kept = [*kept[:2], "…", *kept[len(kept) - most + 3 :]]
    return kept or [plain(f) for f in reversed(frames)][-most:]


def arrows(frames: Sequence[str] | None, most: int = _DRAW) -> str | None:
    """Show a folded stack as ``sys_clone → kernel_clone → copy_process``, None if there is none."""
    return " → ".join(essential(frames, most)) if frames else None


# The functions that a sleep goes through, between the reason for it and the switch.
_SLEEPERS = re.compile(
    r"(__schedule|schedule|schedule_\w+|__schedule_\w+|io_schedule\w*|preempt_schedule\w*|__cond_resched|_cond_resched|"
    r"wait_woken|__wait_\w+|wait_for_completion\w*|wait_for_common|do_wait_for_common|bit_wait\w*|__wait_on_bit\w*|"
    r"out_of_line_wait_\w+|prepare_to_\w+|__traceiter_\w+|__mutex_lock\w*|mutex_lock\w*|rwsem_down_\w+|down_\w+|"
    r"__down\w*|rt_mutex_\w+)"
)
_WAKERS = re.compile(
    r"(try_to_wake_up|ttwu_\w+|wake_up_\w+|__wake_up\w*|default_wake_function|autoremove_wake_function|wake_q_\w+|"
    r"woken_wake_function|ep_autoremove_wake_function|complete\w*|__complete\w*|swake_up_\w+|signal_wake_up\w*|"
    r"__traceiter_\w+|wake_up|pollwake|child_wait_callback|ttwu_do_activate|enqueue_task\w*|activate_task|"
    r"sched_ttwu_pending)"
)


def wchan(frames: Sequence[str] | None) -> str | None:
    """Return the function in which a task sleeps, as ps(1)'s WCHAN: the innermost one that is not the scheduler's."""
    for frame in frames or ():
        name = plain(frame)
        if not _SLEEPERS.fullmatch(name):
            return None if _ENTRY.match(name) else name
    return None


def wake_function(frames: Sequence[str] | None) -> str | None:
    """Return the function that woke a task: the innermost one that is not part of waking itself."""
    for frame in frames or ():
        name = plain(frame)
        if not _WAKERS.fullmatch(name):
            return None if _ENTRY.match(name) else name
    return None
