"""Wait statuses: how a child's end is packed into one integer.

The word that wait4() stores, that do_exit() takes and that ``task_struct.exit_code`` keeps: bits 0-6 the signal that
ended the task, bit 7 core dumped, bits 8-15 the exit status.  0x7f in the low byte says stopped (signal in bits 8-15,
ptrace event above), 0xffff continued.  As include/uapi/linux/wait.h, kernel/exit.c and wait(2).
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from taskscope.abi.ptrace import PtraceEvent
from taskscope.abi.signal import signal_name

CORE: Final = 0x80
STOPPED: Final = 0x7F
CONTINUED: Final = 0xFFFF

How = Literal["exited", "killed", "stopped", "continued"]

#: PTRACE_EVENT_* in bits 16-23 of a stop (include/uapi/linux/ptrace.h)
PTRACE_EVENTS: Final = {event.value: event.name for event in PtraceEvent}


class WaitStatus(NamedTuple):
    """A wait status taken apart; what does not apply is None."""

    status: int
    how: How
    code: int | None = None         # exited: 0…255
    signal: int | None = None       # killed, stopped
    core: bool | None = None        # killed
    event: int | None = None        # stopped: PTRACE_EVENT_*

    def __str__(self) -> str:
        """Say it in words: ``exited with 3``, ``killed by SIGSEGV, core dumped``."""
        if self.how == "exited":
            return f"exited with {self.code}"
        if self.how == "continued":
            return "continued by SIGCONT"
        assert self.signal is not None
        if self.how == "killed":
            return f"killed by {signal_name(self.signal)}" + (", core dumped" if self.core else "")
        # PTRACE_O_TRACESYSGOOD marks a system call stop with bit 7.
        syscall = " at a system call (PTRACE_O_TRACESYSGOOD)" if self.signal & 0x80 else ""
        event = f", {PTRACE_EVENTS.get(self.event, f'ptrace event {self.event}')}" if self.event else ""
        return f"stopped by {signal_name(self.signal & 0x7F)}{syscall}{event}"


def split(status: int) -> WaitStatus:
    """Take a wait status apart.

    :raises ValueError: no kernel makes such a word
    """
    if status == CONTINUED:
        return WaitStatus(status, "continued")
    low, high = status & 0x7F, status >> 8 & 0xFF
    if status & 0xFF == STOPPED:
        if status >> 24 or not high:
            raise ValueError(f"{status:#x} is no wait status: " + ("a stop without a signal" if not high else
                                                                   "bits above the ptrace event"))
        return WaitStatus(status, "stopped", signal=high, event=status >> 16 or None)
    if status >> 16 or status < 0:
        raise ValueError(f"{status:#x} is no wait status: bits above 0xffff belong to ptrace stops")
    if low == 0:
        if status & CORE:
            raise ValueError(f"{status:#x} says core dumped, but no signal")
        return WaitStatus(status, "exited", code=high)
    if low == STOPPED:
        raise ValueError(f"{status:#x} is no wait status: 0x7f with the core bit")
    if low > 64 or high:
        raise ValueError(f"{status:#x} has no meaning: " + ("an exit status beside a signal" if high
                                                            else f"there is no signal {low}"))
    return WaitStatus(status, "killed", signal=low, core=bool(status & CORE))


def exited(code: int) -> int:
    """Return the status of a task that called exit(code); as in the kernel, only the low byte counts."""
    return (code & 0xFF) << 8


def killed(signal: int, core: bool = False) -> int:
    """Return the status of a task that `signal` ended.

    :raises ValueError: there is no such signal
    """
    if not 1 <= signal <= 64:
        raise ValueError(f"there is no signal {signal}")
    return signal | (CORE if core else 0)


def stopped(signal: int, event: int = 0) -> int:
    """Return the status of a child stopped by `signal`, with a PTRACE_EVENT_* number if a tracer stopped it."""
    return event << 16 | (signal & 0xFF) << 8 | STOPPED


def shell_status(status: WaitStatus) -> int | None:
    """Return what a shell puts into ``$?``: the exit status, or 128 + signal; None for a stop or a continue."""
    if status.how == "exited":
        return status.code
    if status.how == "killed":
        assert status.signal is not None
        return 128 + status.signal
    return None
