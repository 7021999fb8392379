"""Calls of kernel functions that a recording shows: by the function tracer or by a probe on the function.

Both are optional; they say what no event of the scheduler says (who released a task, with which wait status
do_exit() was called).
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from taskscope.abi.arch import arch_of
from taskscope.abi.syscalls import call_of_name
from taskscope.lives.records import Rec, records
from taskscope.trace.trace import Trace

#: functions of the life cycle that are looked for, under each name that kernels gave them
FORK = ("copy_process", "kernel_clone", "_do_fork", "do_fork", "wake_up_new_task")
EXIT = ("do_exit",)
RELEASE = ("release_task",)
_WANTED = frozenset((*FORK, *EXIT, *RELEASE))


class Functions:
    """Finds calls of the wanted functions."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    @cached_property
    def _calls(self) -> dict[str, list[Rec]]:
        """Calls recorded by the function tracer, by name, in order of time."""
        trace = self._trace
        rows = trace.rows("ftrace:function")
        type_ = trace.type("ftrace:function")
        calls: dict[str, list[Rec]] = {name: [] for name in _WANTED}
        if type_ is None or not len(rows):
            return calls
        ip = trace.column("ftrace:function", "ip", rows)
        unique, inverse = np.unique(ip, return_inverse=True)
        if unique.dtype.kind in "iu":
            names = trace.source.field_text(type_, "ip", unique)
        else:
            names = [bytes(x).decode("ascii", "replace") for x in unique.tolist()]
        # A name may carry an offset (ftrace's "fentry" is some bytes into the function) and a suffix of the compiler.
        short = [n.strip().split("+")[0].split(".")[0].split(" ")[0] for n in names]
        wanted = np.array([s in _WANTED for s in short], bool)
        hits = np.flatnonzero(wanted.take(inverse.reshape(-1))) if len(unique) else np.empty(0, np.int64)
        by_row = {int(rows[h]): short[int(inverse.reshape(-1)[h])] for h in hits.tolist()}
        for rec in records(trace, "ftrace:function", rows=rows[hits]):
            calls[by_row[rec.row]].append(rec)
        return calls

    def calls(self, *names: str) -> list[Rec]:
        """Return the calls of functions in order of time."""
        found = [r for n in names for r in self._calls.get(n, [])]
        found.sort(key=lambda r: r.key)
        return found

    def probes(self, function: str, *fields: str) -> list[tuple[Rec, int]]:
        """Return the records of probes on a function that carry one of the fields, with its value.

        A probe is an event that somebody defined (kprobe, fprobe): its name tells the function, as perf and the
        kernel name them (``do_exit``, ``p_do_exit_0``, ``kernel_wait4__return``).
        """
        trace = self._trace
        found: list[tuple[Rec, int]] = []
        for type_ in trace.types:
            if function not in type_.name or (not any(f.name.startswith("__probe_") for f in type_.fields) \
                    and not self._looks_like_probe(type_.system)):
                continue
            field = next((n for n in fields if type_.field(n) is not None), None)
            if field is None:
                continue
            name = f"{type_.system}:{type_.name}"
            for rec in records(trace, name, field, rows=trace.rows(name)):
                value: Any = rec.f[field]
                if isinstance(value, int):
                    found.append((rec, value))
        found.sort(key=lambda x: x[0].key)
        return found

    @staticmethod
    def _looks_like_probe(system: str) -> bool:
        """Text recordings declare no __probe_ip; the systems that kernels and tools use for probes remain."""
        return system in ("", "kprobes", "probe", "fprobes")


def syscall_number(machine: str | None, name: str) -> int | None:
    """Return the number of a system call on a machine (uname -m), None if either is not known."""
    if machine is None or arch_of(machine) is None:
        return None
    call = call_of_name(machine, name)
    return call.number if call is not None else None
