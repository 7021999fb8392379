"""The events of signals: include/trace/events/signal.h, v4.19 (unchanged until v6.18)."""

from __future__ import annotations

from typing import Any, Final

from taskscope.model import machine
from taskscope.model.include.linux.sched import Task
from taskscope.model.include.linux.trace_events import Declaration, TraceEventFile
from taskscope.model.kernel.trace import trace_events

TRACE_SIGNAL_DELIVERED: Final = 0
TRACE_SIGNAL_IGNORED: Final = 1
TRACE_SIGNAL_ALREADY_PENDING: Final = 2
TRACE_SIGNAL_OVERFLOW_FAIL: Final = 3
TRACE_SIGNAL_LOSE_INFO: Final = 4

_SI_USER: Final = 0
_SI_KERNEL: Final = 0x80


def trace_signal_generate(sig: int, info: Any, task: Task, group: int, result: int) -> None:
    """Trace that a signal was sent; `result` is one of TRACE_SIGNAL_*."""
    probes = machine.cur.tp.signal_generate
    if probes:
        for probe, data in probes:
            probe(data, sig, info, task, group, result)


def trace_signal_deliver(sig: int, info: Any, ka: Any) -> None:
    """Trace that get_signal() has taken a signal; `ka` is the struct k_sigaction for it."""
    probes = machine.cur.tp.signal_deliver
    if probes:
        for probe, data in probes:
            probe(data, sig, info, ka)


def __store_siginfo(info: Any) -> tuple[int, int]:
    # TP_STORE_SIGINFO(): SEND_SIG_NOINFO (0) and SEND_SIG_FORCED (2) are from user space, SEND_SIG_PRIV (1) from the
    # kernel.
    if isinstance(info, int):
        return 0, _SI_KERNEL if info == 1 else _SI_USER
    return info.si_errno, info.si_code


def trace_event_raw_event_signal_generate(
    file: TraceEventFile, sig: int, info: Any, task: Task, group: int, result: int
) -> None:
    """Write the record of a signal sent."""
    errno, code = __store_siginfo(info)
    trace_events.trace_event_buffer_commit(file, (sig, errno, code, task.comm16, task.pid, int(group), result))


def trace_event_raw_event_signal_deliver(file: TraceEventFile, sig: int, info: Any, ka: Any) -> None:
    """Write the record of a signal delivered."""
    errno, code = __store_siginfo(info)
    handler = trace_events.user_word(machine.cur, ka.sa_handler)
    trace_events.trace_event_buffer_commit(file, (sig, errno, code, handler, ka.sa_flags))


EVENTS: Final = (
    Declaration(
        "signal",
        "signal_generate",
        "int sig; int errno; int code; char comm[16]; pid_t pid; int group; int result",
        '"sig=%d errno=%d code=%d comm=%s pid=%d grp=%d res=%d", REC->sig, REC->errno, REC->code, REC->comm, REC->pid, '
        "REC->group, REC->result",
        trace_event_raw_event_signal_generate,
        None,
    ),
    Declaration(
        "signal",
        "signal_deliver",
        "int sig; int errno; int code; unsigned long sa_handler; unsigned long sa_flags",
        '"sig=%d errno=%d code=%d sa_handler=%lx sa_flags=%lx", REC->sig, REC->errno, REC->code, REC->sa_handler, '
        "REC->sa_flags",
        trace_event_raw_event_signal_deliver,
        None,
    ),
)
