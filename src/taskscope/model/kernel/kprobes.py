"""Probes on functions and events, for whoever looks at a machine from outside (kernel/kprobes.c, v4.19).

A probe on a function runs at its entry, a probe on an event where the event is traced; both get the arguments of the
call.  A breakpoint is a probe that stops the machine there, in the middle of the kernel's code, until it is run again.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from taskscope.model.include.linux.tracepoint import Tracepoints, tracepoint_probe_register, tracepoint_probe_unregister
from taskscope.model.kernel import kallsyms
from taskscope.model.kernel.trace import ftrace

if TYPE_CHECKING:
    from taskscope.model.machine import Machine

_VARARGS: Final = 0x04


class Kprobe:
    """struct kprobe: where it is, and what it does."""

    __slots__ = ("do", "event", "function", "hits", "symbol_name", "takes", "when")

    def __init__(self, symbol_name: str, do: Callable[..., Any], when: Callable[..., Any] | None) -> None:
        self.symbol_name = symbol_name
        self.do = do
        self.when = when
        self.hits = 0  # times that it ran
        code = getattr(do, "__code__", None)
        # What takes no arguments at all is called without: dump_stack() is such a one.
        self.takes = code is None or bool(code.co_argcount - hasattr(do, "__self__") or code.co_flags & _VARARGS)
        self.function: FunctionType | None = None
        self.event: str | None = None  # the tracepoint

    def on_function(self, cur: Machine, record: ftrace.DynFtrace, args: tuple[Any, ...]) -> None:
        """Run at the entry of the function; called by its stub."""
        del cur, record
        self.run(args)

    def on_event(self, data: Any, *args: Any) -> None:
        """Run where the event is traced."""
        del data
        self.run(args)

    def run(self, args: tuple[Any, ...]) -> None:
        """Run, if the condition holds."""
        if self.when is not None and not self.when(*args):
            return
        self.hits += 1
        if self.takes:
            self.do(*args)
        else:
            self.do()


def register_kprobe(cur: Machine, probe: Kprobe) -> int:
    """Put a probe at its place; return 0, or -ENOENT where there is no such function or event.

    A function goes by the name that the kernel at hand has for it, or by that of 4.19; an event by its own
    (``sched_switch``, ``sched:sched_switch``).
    """
    name = probe.symbol_name
    function = _function(cur, name)
    if function is not None:
        probe.function = function
        ftrace.register_ftrace_function(cur, function, probe.on_function)
        return 0
    event = name.rpartition(":")[2]
    if event not in Tracepoints.__slots__:
        return -errno.ENOENT
    probe.event = event
    tracepoint_probe_register(cur.tp, event, probe.on_event, probe)
    return 0


def unregister_kprobe(cur: Machine, probe: Kprobe) -> None:
    """Take a probe away."""
    if probe.function is not None:
        ftrace.unregister_ftrace_function(cur, probe.function, probe.on_function)
        probe.function = None
    elif probe.event is not None:
        tracepoint_probe_unregister(cur.tp, probe.event, probe.on_event, probe)
        probe.event = None


def _function(cur: Machine, name: str) -> FunctionType | None:
    table = kallsyms.kallsyms(cur)
    symbol = table.by_name.get(name) or table.by_name.get(kallsyms.symbol_name(name, cur))
    return symbol.function if symbol is not None and not symbol.notrace else None


def kprobe_break(cur: Machine, name: str, when: Callable[..., Any] | None = None) -> Kprobe | int:
    """Stop the machine whenever it comes to a function or an event; return the probe, or -ENOENT.

    `Machine.run_until` returns there, and goes on from there when it is called again.
    """
    probe = Kprobe(name, cur.pause, when)
    status = register_kprobe(cur, probe)
    return status if status else probe
