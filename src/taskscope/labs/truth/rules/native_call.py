"""System calls of this host by their names, with the arguments as they are."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

from taskscope.abi.syscalls import call_of_name

MACHINE: Final = os.uname().machine

libc: Final = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
# The same with the interpreter's lock held: a child of clone() has the lock of the thread that called.
_held: Final = ctypes.PyDLL(None, use_errno=True)
_held.syscall.restype = ctypes.c_long


class Word:
    """A word in the memory of the process."""

    def __init__(self) -> None:
        self.number = ctypes.c_int(0)

    def get(self) -> int:
        """Load."""
        return self.number.value

    def put(self, value: int) -> None:
        """Store."""
        self.number.value = value


def number_of(name: str) -> int:
    """Return the number of a system call."""
    call = call_of_name(MACHINE, name)
    if call is None:
        raise AttributeError(f"{MACHINE} has no system call {name}")
    return call.number


def _argument(value: Any) -> Any:
    if value is None:
        return ctypes.c_void_p(0)
    if isinstance(value, int):
        return ctypes.c_long(value)
    if isinstance(value, str):
        return ctypes.c_char_p(os.fsencode(value))
    if isinstance(value, bytes):
        return ctypes.c_char_p(value)
    if isinstance(value, Word):
        return ctypes.byref(value.number)
    return value


def syscall(name: str, *args: Any, held: bool = False) -> int:
    """Make a system call.

    :param args: numbers, text, bytes, a `Word`, None for NULL, or what ctypes takes as it is
    :raises OSError: it failed
    """
    filled = [_argument(arg) for arg in args] + [ctypes.c_long(0)] * (6 - len(args))
    result = int((_held if held else libc).syscall(ctypes.c_long(number_of(name)), *filled))
    if result == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
