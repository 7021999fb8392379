"""Functions of the kernel in a recording: ``-l FUNC`` and ``--probe FUNC[:CONDITION]``.

A probe is the notes' printk() and dump_stack() without building a kernel: each call of the function is recorded, with
the stack that led there.  It is a kprobe of our own with a ``stacktrace`` trigger where the kernel has kprobes, else
the function tracer with that function alone in its filter and ``func_stack_trace``; the condition is a filter of the
kernel over the fields of the probe: common_pid, common_flags, comm, and the arguments arg1 to arg6 (unsigned), where
the kernel tells arguments ($argN, Documentation/trace/kprobetrace.rst).  The function tracer knows no conditions.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from taskscope.errors import PermissionRefusedError, UsageError
from taskscope.ftrace.functions import (
    Found,
    find_function,
    function_tracer,
    functions_of,
    kprobes,
    read_functions,
)
from taskscope.ftrace.record_events import Chosen, told
from taskscope.ftrace.tracefs import Instance, KernelRefusedError, Tracefs, start_time

#: the group of our kprobes: taskscope_PID_START
_GROUP = re.compile(r"\b([pr]\w*:)?(taskscope_(\d{1,10})_(\d{1,20}))/(\w+)")
_ARGUMENT = re.compile(r"\barg([1-6])\b")
#: the event that tells most of what a function's calls would
_NEAREST = {
    "kernel_clone": "task:task_newtask", "copy_process": "task:task_newtask", "wake_up_new_task":
    "sched:sched_wakeup_new", "do_exit": "sched:sched_process_exit", "do_group_exit": "sched:sched_process_exit",
    "release_task": "sched:sched_process_free", "free_task": "sched:sched_process_free",
    "try_to_wake_up": "sched:sched_waking", "ttwu_do_activate": "sched:sched_wakeup", "schedule": "sched:sched_switch",
    "__schedule": "sched:sched_switch", "context_switch": "sched:sched_switch", "do_wait": "sched:sched_process_wait",
    "kernel_wait4": "syscalls:sys_enter_wait4", "begin_new_exec": "sched:sched_process_exec",
    "bprm_execve": "sched:sched_process_exec", "set_task_cpu": "sched:sched_migrate_task",
    "__send_signal_locked": "signal:signal_generate", "send_signal_locked": "signal:signal_generate",
    "get_signal": "signal:signal_deliver", "__set_task_comm": "task:task_rename",
}


class Probes:
    """The probes of one recording.

    :param say: takes a sentence for people
    """

    def __init__(self, tracefs: Tracefs, say: Callable[[str], None]) -> None:
        self._tracefs, self._say = tracefs, say
        pid = os.getpid()
        self._group = f"taskscope_{pid}_{start_time(pid) or 0}"
        self._made: list[str] = []
        #: whether records of the function tracer have stacks
        self.function_stacks = False

    def set_up(self, instance: Instance, probes: Sequence[str], functions: Sequence[str], chosen: Chosen) -> None:
        """Set probes, and the filter of the function tracer.

        :param instance: where they record
        :param probes: the values of ``--probe``
        :param functions: the values of ``-l``
        :raises UsageError: there is no such function, or the kernel refuses the condition
        :raises PermissionRefusedError: a probe was asked for, and the kernel allows neither way
        """
        self._instance = instance
        for text in probes:
            self._probe(text, functions, chosen)
        if functions:
            # Looked up also where they cannot be traced: what they are called here is worth knowing.
            names = [name for asked in functions for name in self._names(asked)]
            support = function_tracer(self._tracefs.path, self._instance.path)
            if not support.works:
                events = ", ".join(sorted({e.split("/")[0] for e in chosen.events}))
                self._say(f"functions are not recorded: {support.why}. Recorded are the events of {events}"
                          f"{self._instead(names)}")
                return
            self._trace(names)

    def _instead(self, functions: Sequence[str]) -> str:
        near = {f: e for f in functions if (e := self._nearest(f))}
        return "".join(f"; for {f} look at {e}" for f, e in near.items())

    def _nearest(self, function: str) -> str | None:
        try:
            names = find_function(function, _NEAREST.keys()).names
        except UsageError:
            return None
        return _NEAREST[names[0]] if len(names) == 1 else None

    def _names(self, asked: str) -> tuple[str, ...]:
        return (asked,) if re.search(r"[*?\[]", asked) else self._find(asked).names

    def _find(self, asked: str) -> Found:
        names: frozenset[str] = frozenset()
        with contextlib.suppress(OSError):
            names = read_functions(self._tracefs.path)
        if not names:
            with contextlib.suppress(OSError):
                names = functions_of(Path("/proc/kallsyms").read_bytes())
        found = find_function(asked, names)
        if found.said:
            self._say(found.said)
        return found

    # ---- the function tracer ---------------------------------------------------------------------------------

    def _trace(self, names: Sequence[str]) -> None:
        for name in names:
            self._filter(name)
        try:
            self._instance.write("current_tracer", "function")
        except KernelRefusedError as e:
            raise UsageError(f"the kernel refuses to trace functions: {e}") from e

    def _filter(self, name: str) -> None:
        try:
            # Opened without O_TRUNC, the file takes one more function.
            self._instance.write("set_ftrace_filter", name + "\n")
        except KernelRefusedError as e:
            raise UsageError(f"-l {name!r}: the kernel has no function of that name that can be traced") from e

    # ---- probes ----------------------------------------------------------------------------------------------

    def _probe(self, text: str, functions: Sequence[str], chosen: Chosen) -> None:
        asked, _, condition = (part.strip() for part in text.partition(":"))
        if not re.fullmatch(r"[\w.]+", asked):
            raise UsageError(f"--probe {text!r} is none; it is FUNC or FUNC:CONDITION, such as "
                             "'do_exit:common_pid == 911' or 'kernel_clone:comm == \"bash\"'")
        names = self._find(asked).names
        by_kprobe = kprobes(self._tracefs.path)
        if by_kprobe.works:
            for name in names:
                self._kprobe(text, name, condition, chosen)
            return
        tracer = function_tracer(self._tracefs.path, self._instance.path)
        if tracer.works and not condition and not functions:
            for name in names:
                self._filter(name)
            self._instance.write("options/func_stack_trace", "1")
            self._instance.write("current_tracer", "function")
            self.function_stacks = True
            return
        if tracer.works:
            why = f"{by_kprobe.why}, and the function tracer knows no conditions, and not -l beside a probe"
        else:
            why = f"{by_kprobe.why}; {tracer.why}"
        near = self._nearest(names[0])
        instead = (f"; instead, with call stacks: --trigger '{near}:stacktrace'"
                   + (" (a condition goes behind: if FILTER)" if condition else "") if near else
                   "; events with call stacks are what is left: --trigger 'EVENT:stacktrace if FILTER'")
        raise PermissionRefusedError(f"--probe {asked}: no probe can be set on this machine: {why}{instead}")

    def _kprobe(self, text: str, name: str, condition: str, chosen: Chosen) -> None:
        wanted = sorted({int(m[1]) for m in _ARGUMENT.finditer(condition)})
        event = re.sub(r"\W", "_", name)
        arguments = "".join(f" arg{n}=$arg{n}:u64" for n in wanted)
        comm = " comm=$comm:string" if re.search(r"\bcomm\b", condition) else ""
        definition = f"p:{self._group}/{event} {name}{comm}{arguments}"
        try:
            self._append(definition)
        except OSError as e:
            why = "it is one that must not be probed, or inlined" if e.errno == errno.EINVAL else e.strerror
            raise UsageError(f"--probe {text!r}: the kernel sets no probe at {name}: {why}") from e
        self._made.append(event)
        trigger = f"stacktrace if {condition}" if condition else "stacktrace"
        chosen.triggers.append((f"{self._group}/{event}", trigger))
        try:
            if condition:
                self._instance.write(f"events/{self._group}/{event}/filter", condition)
            self._instance.write(f"events/{self._group}/{event}/trigger", trigger)
            self._instance.write(f"events/{self._group}/{event}/enable", "1")
        except KernelRefusedError as e:
            raise UsageError(f"--probe {text!r}: the kernel refuses the condition{told(e)}") from e

    def _append(self, line: str) -> None:
        # Without O_TRUNC, which would remove everybody's probes.
        fd = os.open(self._tracefs.path / "kprobe_events", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(fd, line.encode() + b"\n")
        finally:
            os.close(fd)

    def events(self) -> list[str]:
        """Return the events of the probes (``group/event``)."""
        return [f"{self._group}/{event}" for event in self._made]

    def with_stacks(self, chosen: Chosen) -> list[str]:
        """Return the events that may have a stack, by a trigger or as functions."""
        events = {e for e, command in chosen.triggers if command.startswith("stacktrace")}
        if self.function_stacks:
            events.add("ftrace/function")
        return sorted(events)

    def names(self) -> list[str]:
        """Return the names of what was made, for whoever has to remove it."""
        return self.events()

    def remove(self) -> None:
        """Remove the probes; the instance that used them must be gone."""
        for event in self._made:
            with contextlib.suppress(OSError):
                self._append(f"-:{self._group}/{event}")
        self._made.clear()


def remove_probes(tracefs: Tracefs) -> None:
    """Remove the kprobes of recorders that are dead."""
    path = tracefs.path / "kprobe_events"
    with contextlib.suppress(OSError):
        for m in _GROUP.finditer(path.read_text(errors="replace")):
            if start_time(int(m[3])) != int(m[4]):
                fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
                try:
                    os.write(fd, f"-:{m[2]}/{m[5]}\n".encode())
                finally:
                    os.close(fd)


