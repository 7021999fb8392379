"""The kernel's numbers as a story names them; the tables are in `taskscope.abi`."""

from __future__ import annotations

from functools import lru_cache

from taskscope.abi import siginfo, wait
from taskscope.abi.era import KERNELS
from taskscope.abi.sched import CLONE_FLAGS
from taskscope.abi.signal import signal_name

__all__ = ["clone_text", "si_code_name", "signal_name", "wait_status"]


@lru_cache(maxsize=512)
def clone_text(flags: int, exit_signal: int | None = None) -> str:
    """Write clone flags and the exit signal as ``CHILD_CLEARTID|CHILD_SETTID|SIGCHLD``.

    >>> clone_text(0x1200000, 17)
    'CHILD_CLEARTID|CHILD_SETTID|SIGCHLD'
    """
    # A flag has had one meaning wherever it exists: the newest table names all of them.
    found, rest = CLONE_FLAGS.split(flags, KERNELS[-1])
    words = [r.name.removeprefix("CLONE_") for r in found]
    if rest:
        words.append(f"0x{rest:x}")
    if exit_signal:
        words.append(signal_name(exit_signal))
    return "|".join(words) or "no flags"


def si_code_name(sig: int, code: int) -> str:
    """Name an si_code, ``SI_USER``; one without a name as ``si_code 99``."""
    return siginfo.si_code_name(sig, code) or f"si_code {code}"


def wait_status(code: int | None, signal: int | None, core: bool | None) -> str | None:
    """Write the status that wait() gives as ``wait status 0x0009: killed by SIGKILL``; None if it is not known.

    The core bit is part of the status: where it is unknown, the number is not given.
    """
    if signal is not None:
        if core is None:
            return f"wait status: signal {signal}; whether it dumped core was not recorded"
        status = wait.killed(signal, core)
        return f"wait status 0x{status:04x}: signal {signal}, {'core dumped' if core else 'no core'}"
    if code is not None:
        return f"wait status 0x{wait.exited(code):04x}"
    return None
