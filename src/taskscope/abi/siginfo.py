"""si_code: why a signal was sent (include/uapi/asm-generic/siginfo.h of Linux 6.18).

Codes up to 0 say which call sent it, whatever the signal; positive codes come from the kernel, and their meaning
depends on the signal.  0x80 (SI_KERNEL) is the kernel without more to say.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from taskscope.abi.signal import Signal


class SiCode(IntEnum):
    """Codes that any signal can have."""

    SI_USER = 0
    SI_KERNEL = 0x80
    SI_QUEUE = -1
    SI_TIMER = -2
    SI_MESGQ = -3
    SI_ASYNCIO = -4
    SI_SIGIO = -5
    SI_TKILL = -6
    SI_DETHREAD = -7
    SI_ASYNCNL = -60


SI_MEANINGS: Final = {
    SiCode.SI_USER: "sent by a process: kill()",
    SiCode.SI_KERNEL: "sent by the kernel",
    SiCode.SI_QUEUE: "sent by a process: sigqueue()",
    SiCode.SI_TIMER: "a POSIX timer expired",
    SiCode.SI_MESGQ: "a POSIX message queue changed",
    SiCode.SI_ASYNCIO: "asynchronous I/O completed",
    SiCode.SI_SIGIO: "queued SIGIO",
    SiCode.SI_TKILL: "sent by a process to one thread: tkill(), tgkill(), pthread_kill(), raise()",
    SiCode.SI_DETHREAD: "execve() kills the other threads; defined, not sent",
    SiCode.SI_ASYNCNL: "asynchronous name lookup of glibc completed",
}

#: signal -> code -> (name, meaning); the codes above 0 that only this signal has
SPECIFIC: Final[dict[int, dict[int, tuple[str, str]]]] = {
    Signal.SIGILL: {
        1: ("ILL_ILLOPC", "illegal opcode"),
        2: ("ILL_ILLOPN", "illegal operand"),
        3: ("ILL_ILLADR", "illegal addressing mode"),
        4: ("ILL_ILLTRP", "illegal trap"),
        5: ("ILL_PRVOPC", "privileged opcode"),
        6: ("ILL_PRVREG", "privileged register"),
        7: ("ILL_COPROC", "coprocessor error"),
        8: ("ILL_BADSTK", "internal stack error"),
        9: ("ILL_BADIADDR", "unimplemented instruction address"),
    },
    Signal.SIGFPE: {
        1: ("FPE_INTDIV", "integer division by zero"),
        2: ("FPE_INTOVF", "integer overflow"),
        3: ("FPE_FLTDIV", "floating point division by zero"),
        4: ("FPE_FLTOVF", "floating point overflow"),
        5: ("FPE_FLTUND", "floating point underflow"),
        6: ("FPE_FLTRES", "floating point result is inexact"),
        7: ("FPE_FLTINV", "invalid floating point operation"),
        8: ("FPE_FLTSUB", "subscript out of range"),
        14: ("FPE_FLTUNK", "undiagnosed floating point exception"),
        15: ("FPE_CONDTRAP", "trap on condition"),
    },
    Signal.SIGSEGV: {
        1: ("SEGV_MAPERR", "nothing is mapped at the address"),
        2: ("SEGV_ACCERR", "the mapping does not permit the access"),
        3: ("SEGV_BNDERR", "address bound check failed"),
        4: ("SEGV_PKUERR", "protection key check failed"),
        5: ("SEGV_ACCADI", "ADI is not enabled for the mapping"),
        6: ("SEGV_ADIDERR", "disrupting memory corruption detected (ADI)"),
        7: ("SEGV_ADIPERR", "precise memory corruption exception (ADI)"),
        8: ("SEGV_MTEAERR", "asynchronous tag check fault (ARM MTE)"),
        9: ("SEGV_MTESERR", "synchronous tag check fault (ARM MTE)"),
        10: ("SEGV_CPERR", "control protection fault"),
    },
    Signal.SIGBUS: {
        1: ("BUS_ADRALN", "misaligned address"),
        2: ("BUS_ADRERR", "no memory behind the address"),
        3: ("BUS_OBJERR", "hardware error of the object"),
        4: ("BUS_MCEERR_AR", "memory error was consumed: action required"),
        5: ("BUS_MCEERR_AO", "memory error was found, not consumed: action optional"),
    },
    Signal.SIGTRAP: {
        1: ("TRAP_BRKPT", "breakpoint"),
        2: ("TRAP_TRACE", "trace trap: a single step"),
        3: ("TRAP_BRANCH", "a branch was taken"),
        4: ("TRAP_HWBKPT", "hardware breakpoint or watchpoint"),
        5: ("TRAP_UNK", "undiagnosed trap"),
        6: ("TRAP_PERF", "perf event with sigtrap set"),
    },
    Signal.SIGCHLD: {
        1: ("CLD_EXITED", "the child exited"),
        2: ("CLD_KILLED", "a signal killed the child"),
        3: ("CLD_DUMPED", "a signal killed the child, core dumped"),
        4: ("CLD_TRAPPED", "the traced child has trapped"),
        5: ("CLD_STOPPED", "the child stopped"),
        6: ("CLD_CONTINUED", "the child continued"),
    },
    Signal.SIGIO: {
        1: ("POLL_IN", "input is there"),
        2: ("POLL_OUT", "output can be written"),
        3: ("POLL_MSG", "an input message is there"),
        4: ("POLL_ERR", "I/O error"),
        5: ("POLL_PRI", "urgent input is there"),
        6: ("POLL_HUP", "the other end hung up"),
    },
    Signal.SIGSYS: {
        1: ("SYS_SECCOMP", "a seccomp filter refused the system call"),
        2: ("SYS_USER_DISPATCH", "system call user dispatch"),
    },
}


def si_code_name(sig: int | None, code: int) -> str | None:
    """Name an si_code: ``SI_TKILL``, ``SEGV_MAPERR``; None if it has no name.

    :param sig: the signal; None if unknown, then only the codes common to all signals have a name
    """
    if code in SiCode._value2member_map_:
        return SiCode(code).name
    entry = SPECIFIC.get(sig or 0, {}).get(code)
    return entry[0] if entry else None


def si_code_meaning(sig: int | None, code: int) -> str | None:
    """Say in a short phrase what an si_code means; None if it has no meaning."""
    if code in SiCode._value2member_map_:
        return SI_MEANINGS[SiCode(code)]
    entry = SPECIFIC.get(sig or 0, {}).get(code)
    return entry[1] if entry else None


def si_code_number(name: str) -> tuple[int | None, int] | None:
    """Return (signal, code) of an si_code's name in any case; the signal is None for a code that all have."""
    word = name.upper()
    if word in SiCode.__members__:
        return None, SiCode[word].value
    for sig, codes in SPECIFIC.items():
        for code, (known, _) in codes.items():
            if known == word:
                return sig, code
    return None


def from_user(code: int) -> bool:
    """Tell whether a process asked for the signal (SI_FROMUSER): the codes up to 0."""
    return code <= 0
