"""Kernel stacks of arm64: frame records, each with the caller's record and where the caller goes on.

As arch/arm64/kernel/stacktrace.c reads them.  A task that does not run has its last record's address and its pc in
thread.cpu_context (struct cpu_context).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from taskscope.memory.image import FaultError

#: no stack of a kernel has so many frames
_MOST: Final = 256
#: bits of a return address that may hold its signature (pointer authentication); in the kernel's addresses all are set
_SIGNED: Final = 0xFFFF << 48


def frames(read: Callable[[int, int], bytes], pc: int, record: int, low: int, high: int) -> list[int]:
    """Return the return addresses on a stack, innermost first.

    :param read: reads kernel memory; raises FaultError
    :param pc: cpu_context.pc, where the task goes on
    :param record: cpu_context.fp, the innermost frame record
    :param low: the lowest address of the stack
    :param high: the first address above it
    """
    found = [pc | _SIGNED]
    while len(found) < _MOST and low <= record <= high - 16 and not record % 8:
        try:
            following, address = struct.unpack("<QQ", read(record, 16))
        except FaultError:
            break
        if not address:
            break
        found.append(address | _SIGNED)
        # Each record is above the one before; the last one, at the registers of user space, is of zeros.
        if following <= record:
            break
        record = following
    return found
