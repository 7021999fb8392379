"""Signals: numbers, names, what each does by default, and the kernel's predicates about them.

One table serves x86, ARM, arm64, s390, riscv, powerpc and every other architecture that takes
include/uapi/asm-generic/signal.h or repeats it.  Alpha, MIPS, PA-RISC and SPARC number their signals differently
and are left out.  The predicates carry the names of include/linux/signal.h.  si_code is in `taskscope.abi.siginfo`.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final


class Signal(IntEnum):
    """The 31 standard signals; 32 to 64 are real-time signals without names of their own."""

    SIGHUP = 1
    SIGINT = 2
    SIGQUIT = 3
    SIGILL = 4
    SIGTRAP = 5
    SIGABRT = 6
    SIGBUS = 7
    SIGFPE = 8
    SIGKILL = 9
    SIGUSR1 = 10
    SIGSEGV = 11
    SIGUSR2 = 12
    SIGPIPE = 13
    SIGALRM = 14
    SIGTERM = 15
    SIGSTKFLT = 16
    SIGCHLD = 17
    SIGCONT = 18
    SIGSTOP = 19
    SIGTSTP = 20
    SIGTTIN = 21
    SIGTTOU = 22
    SIGURG = 23
    SIGXCPU = 24
    SIGXFSZ = 25
    SIGVTALRM = 26
    SIGPROF = 27
    SIGWINCH = 28
    SIGIO = 29
    SIGPWR = 30
    SIGSYS = 31


#: other names for the same numbers
ALIASES: Final = {"SIGIOT": 6, "SIGCLD": 17, "SIGPOLL": 29, "SIGUNUSED": 31}

#: first real-time signal of the kernel, and the first that glibc leaves to programs (32 and 33 serve its threads)
SIGRTMIN_KERNEL: Final = 32
SIGRTMIN: Final = 34
SIGRTMAX: Final = 64
NSIG: Final = 64


class Action(Enum):
    """What a signal does to a process that has neither a handler nor ignores it; names as in signal(7)."""

    TERM = "Term"
    CORE = "Core"
    IGN = "Ign"
    STOP = "Stop"
    CONT = "Cont"


ACTION_MEANINGS: Final = {
    Action.TERM: "ends the process",
    Action.CORE: "ends the process and dumps core",
    Action.IGN: "ignored",
    Action.STOP: "stops the process",
    Action.CONT: "continues the process if it is stopped",
}

#: what the signal is sent for
MEANINGS: Final = {
    Signal.SIGHUP: "terminal hung up, or its session leader died",
    Signal.SIGINT: "interrupt from the keyboard (^C)",
    Signal.SIGQUIT: "quit from the keyboard (^\\)",
    Signal.SIGILL: "illegal instruction",
    Signal.SIGTRAP: "breakpoint or trace trap",
    Signal.SIGABRT: "abort()",
    Signal.SIGBUS: "bad memory access: alignment, or nothing behind the mapping",
    Signal.SIGFPE: "arithmetic error",
    Signal.SIGKILL: "kill; cannot be caught, blocked or ignored",
    Signal.SIGUSR1: "for the program's own use",
    Signal.SIGSEGV: "invalid memory reference",
    Signal.SIGUSR2: "for the program's own use",
    Signal.SIGPIPE: "write to a pipe or socket that nobody reads",
    Signal.SIGALRM: "alarm() or ITIMER_REAL expired",
    Signal.SIGTERM: "request to end",
    Signal.SIGSTKFLT: "coprocessor stack fault; the kernel does not send it",
    Signal.SIGCHLD: "a child ended, stopped or continued",
    Signal.SIGCONT: "continue if stopped",
    Signal.SIGSTOP: "stop; cannot be caught, blocked or ignored",
    Signal.SIGTSTP: "stop from the keyboard (^Z)",
    Signal.SIGTTIN: "background process reads from the terminal",
    Signal.SIGTTOU: "background process writes to the terminal",
    Signal.SIGURG: "urgent data on a socket",
    Signal.SIGXCPU: "RLIMIT_CPU exceeded",
    Signal.SIGXFSZ: "RLIMIT_FSIZE exceeded",
    Signal.SIGVTALRM: "ITIMER_VIRTUAL expired",
    Signal.SIGPROF: "ITIMER_PROF expired",
    Signal.SIGWINCH: "terminal window changed its size",
    Signal.SIGIO: "I/O is possible",
    Signal.SIGPWR: "power failure",
    Signal.SIGSYS: "bad system call, or stopped by seccomp",
}

_ONLY = frozenset({9, 19})
_STOP = frozenset({19, 20, 21, 22})
_COREDUMP = frozenset({3, 4, 5, 6, 7, 8, 11, 24, 25, 31})
_IGNORE = frozenset({17, 18, 23, 28})
_SYNCHRONOUS = frozenset({4, 5, 7, 8, 11, 31})
_SPECIFIC_SICODES = frozenset({4, 5, 7, 8, 11, 17, 29, 31})


def sig_kernel_only(sig: int) -> bool:
    """Tell whether the signal cannot be caught, blocked or ignored: SIGKILL, SIGSTOP."""
    return sig in _ONLY


def sig_kernel_stop(sig: int) -> bool:
    """Tell whether the signal stops by default: SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU."""
    return sig in _STOP


def sig_kernel_coredump(sig: int) -> bool:
    """Tell whether the signal ends the process with a core dump by default."""
    return sig in _COREDUMP


def sig_kernel_ignore(sig: int) -> bool:
    """Tell whether the signal does nothing by default: SIGCHLD, SIGCONT (beyond continuing), SIGURG, SIGWINCH."""
    return sig in _IGNORE


def sig_specific_sicodes(sig: int) -> bool:
    """Tell whether the signal has si_codes of its own, above 0."""
    return sig in _SPECIFIC_SICODES


def sig_synchronous(sig: int) -> bool:
    """Tell whether the signal is delivered before others, being caused by the task itself (SYNCHRONOUS_MASK)."""
    return sig in _SYNCHRONOUS


def fatal_by_default(sig: int) -> bool:
    """Tell whether the signal ends a process that has no handler; as sig_fatal() under SIG_DFL."""
    return 1 <= sig <= NSIG and sig not in _IGNORE and sig not in _STOP


def default_action(sig: int) -> Action:
    """Return what the signal does by default.

    :raises ValueError: there is no such signal
    """
    if not 1 <= sig <= NSIG:
        raise ValueError(f"there is no signal {sig}; they go from 1 to {NSIG}")
    if sig == Signal.SIGCONT:
        return Action.CONT
    if sig in _COREDUMP:
        return Action.CORE
    if sig in _STOP:
        return Action.STOP
    return Action.IGN if sig in _IGNORE else Action.TERM


def signal_name(sig: int) -> str:
    """Name a signal as programs know it: ``SIGKILL``, ``SIGRTMIN+2``; 32 and 33, which glibc keeps, by number.

    Real-time signals are counted from glibc's SIGRTMIN (34) in the lower half and back from SIGRTMAX in the upper, as
    ``kill -l`` of bash does.  A number that is no signal is returned as text.
    """
    if 1 <= sig <= 31:
        return Signal(sig).name
    if sig == SIGRTMIN:
        return "SIGRTMIN"
    if sig == SIGRTMAX:
        return "SIGRTMAX"
    if SIGRTMIN < sig < 50:
        return f"SIGRTMIN+{sig - SIGRTMIN}"
    if 50 <= sig < SIGRTMAX:
        return f"SIGRTMAX-{SIGRTMAX - sig}"
    return str(sig)


def signal_number(name: str) -> int | None:
    """Return the number of a signal name in any case, with or without ``SIG``; None if there is none.

    ``SIGRTMIN+n`` and ``SIGRTMAX-n`` count as glibc does, from 34 and from 64.
    """
    word = name.upper()
    if not word.startswith("SIG"):
        word = "SIG" + word
    if word in Signal.__members__:
        return Signal[word].value
    if word in ALIASES:
        return ALIASES[word]
    for base, number, sign in (("SIGRTMIN", SIGRTMIN, "+"), ("SIGRTMAX", SIGRTMAX, "-")):
        if word == base:
            return number
        rest = word[len(base) + 1:]
        if word.startswith(base + sign) and rest.isascii() and rest.isdecimal():
            found = number + int(sign + rest)
            return found if SIGRTMIN <= found <= SIGRTMAX else None
    return None


class Result(IntEnum):
    """``result`` of the signal_generate event (enum in include/trace/events/signal.h)."""

    TRACE_SIGNAL_DELIVERED = 0
    TRACE_SIGNAL_IGNORED = 1
    TRACE_SIGNAL_ALREADY_PENDING = 2
    TRACE_SIGNAL_OVERFLOW_FAIL = 3
    TRACE_SIGNAL_LOSE_INFO = 4


RESULT_MEANINGS: Final = {
    Result.TRACE_SIGNAL_DELIVERED: "queued for the target",
    Result.TRACE_SIGNAL_IGNORED: "the target ignores it: not queued",
    Result.TRACE_SIGNAL_ALREADY_PENDING: "one is pending already: not queued again",
    Result.TRACE_SIGNAL_OVERFLOW_FAIL: "the queue is full: not sent",
    Result.TRACE_SIGNAL_LOSE_INFO: "sent, but the queue is full: without siginfo",
}


def sigset(signals: int) -> list[int]:
    """Return the numbers in a signal mask as /proc/PID/status shows it: bit n - 1 is signal n."""
    return [bit + 1 for bit in range(NSIG) if signals >> bit & 1]
