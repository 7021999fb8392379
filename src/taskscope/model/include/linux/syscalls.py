"""Which function serves which system call: include/linux/syscalls.h, v4.19.

As in the C header, the calls are listed by the file that defines them: every ``sys_*`` function of `FILES`.  The
numbers are
the architecture's (`taskscope.abi.syscalls`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from types import FunctionType
from typing import Any, Final

from taskscope.abi.era import Version
from taskscope.abi.syscalls import table

FILES: Final = (
    "kernel.fork.clone", "kernel.exit.death", "kernel.exit.wait", "kernel.sys", "kernel.signal.action",
    "kernel.sched.syscalls", "kernel.groups",
    "kernel.time.hrtimer", "kernel.time.posix_timers", "kernel.time.itimer", "kernel.kcmp", "kernel.ptrace.request",
    "kernel.printk",
    "fs.exec", "fs.file", "fs.open", "fs.read_write", "fs.pipe", "fs.namei", "fs.stat", "fs.readdir",
    "mm.mmap", "kernel.module",
    "fs.pidfs", "fs.fcntl", "fs.ioctl", "fs.d_path",
    "kernel.sys_ids", "kernel.capability", "kernel.nsproxy", "kernel.futex.syscalls",
)

#: what 32-bit ARM's functions are called beside: times of 32 bits (v5.0), assembly in front (_wrapper)
_SUFFIX: Final = re.compile(r"(_time32|32|_wrapper)$")

#: (kernel, its last number): new calls have had one number on every architecture since v5.1
_LAST: Final = (((4, 19), 399), ((6, 1), 450))
_NO_LIMIT: Final = 1 << 16


def functions() -> dict[str, Callable[..., int]]:
    """Return every function that is a system call, by name."""
    found: dict[str, Callable[..., int]] = {}
    for name in FILES:
        module = import_module(f"taskscope.model.{name}")
        found |= {
            attribute: function for attribute, function in vars(module).items()
            if attribute.startswith("sys_") and isinstance(function, FunctionType)
            and function.__module__ == module.__name__
        }
    return found


def sys_call_table(uname_machine: str, version: Version) -> dict[int, Callable[..., int]]:
    """Return the functions by number; a number that is not in it is -ENOSYS.

    :param uname_machine: the architecture, as uname -m has it
    :param version: the kernel; calls that came later are left out
    """
    last = min((number for since, number in _LAST if version <= since), default=_NO_LIMIT)
    known = functions()
    calls: dict[int, Callable[..., Any]] = {}
    for number, call in table(uname_machine).by_number.items():
        if call.abi is None and call.function is not None and number <= last:
            function = known.get(call.function) or known.get(_SUFFIX.sub("", call.function))
            if function is not None:
                calls[number] = function
    return calls
