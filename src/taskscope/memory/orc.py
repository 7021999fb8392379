"""Kernel stacks of x86-64 without a debug package: the ORC tables in kernel memory (arch/x86/kernel/unwind_orc.c).

``__start_orc_unwind_ip`` has an offset to itself for each range of code, sorted; ``__start_orc_unwind`` says where the
caller's frame is from there.  How the bits of struct orc_entry are called tells what the numbers of its ``type`` mean:
up to v6.3 there is ``end``, since fb799447ae29 ("x86,objtool: Split UNWIND_HINT_EMPTY in two", v6.4) a type of its own.
"""

from __future__ import annotations

import struct
from array import array
from typing import Final, NamedTuple

from taskscope.memory.image import FaultError, Image

#: enum of the registers, arch/x86/include/asm/orc_types.h
_PREV_SP, _BP_INDIRECT, _SP_INDIRECT, _BP, _SP = 1, 2, 3, 4, 5
#: no stack of a kernel has so many frames
_MOST: Final = 256
#: struct pt_regs: where bp, ip and sp stand
_PT_BP, _PT_IP, _PT_SP = 4 * 8, 16 * 8, 19 * 8


class Entry(NamedTuple):
    """One struct orc_entry."""

    sp_offset: int
    bp_offset: int
    sp_register: int
    bp_register: int
    kind: str              # call, regs, partial, end


class Orc:
    """The tables of one kernel.

    :param image: x86-64
    """

    def __init__(self, image: Image) -> None:
        self.image = image
        names = ("__start_orc_unwind_ip", "__stop_orc_unwind_ip", "__start_orc_unwind")
        self._start, stop, self._entries = (image.symbol(name) or 0 for name in names)
        self._count = max(stop - self._start, 0) // 4 if self._entries else 0
        self._ips: array[int] | None = None
        self._known: dict[int, Entry | None] = {}
        has_end = image.types.member("orc_entry", "end") is not None
        kinds = ("call", "regs", "partial", "end") if has_end else ("end", "end", "call", "regs", "partial")
        self._kinds = dict(enumerate(kinds))
        self._end = image.types.member("orc_entry", "end")
        self._type = image.types.member("orc_entry", "type")

    def why_not(self) -> str:
        """Return why stacks cannot be unwound here; "" if they can."""
        if not self._count or self._type is None:
            return "this kernel has no ORC tables, or its symbols do not say where"
        return ""

    def find(self, address: int) -> Entry | None:
        """Return the entry of the range in which an address is; None if it is in none."""
        if address not in self._known:
            self._known[address] = self._look(address)
        return self._known[address]

    def _look(self, address: int) -> Entry | None:
        if self._ips is None:
            self._ips = array("i", self.image.read(self._start, 4 * self._count))
        ips, low, high = self._ips, 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._start + 4 * middle + ips[middle] <= address:
                low = middle + 1
            else:
                high = middle
        if not low:
            return None
        raw = self.image.read(self._entries + 6 * (low - 1), 6)
        sp_offset, bp_offset, bits = struct.unpack("<hhH", raw)
        kind = "call"
        if self._type is not None and self._type.bits is not None:
            whole = int.from_bytes(raw, "little")
            at = self._type.offset * 8 + (self._type.bit or 0)
            kind = self._kinds.get(whole >> at & (1 << self._type.bits) - 1, "end")
            if self._end is not None and whole >> (self._end.offset * 8 + (self._end.bit or 0)) & 1:
                kind = "end"
        return Entry(sp_offset, bp_offset, bits & 15, bits >> 4 & 15, kind)

    def stack(self, sp: int, low: int, high: int) -> list[int]:
        """Return the return addresses on the stack of a task that does not run, innermost first.

        :param sp: task_struct.thread.sp, at which struct inactive_task_frame stands
        :param low: the lowest address of the stack
        :param high: the first address above it
        """
        types = self.image.types
        size = types.size("inactive_task_frame")
        bp_at, ret_at = (types.member("inactive_task_frame", name) for name in ("bp", "ret_addr"))
        if self.why_not() or not size or bp_at is None or ret_at is None or not low <= sp <= high - size:
            return []
        found: list[int] = []
        lowest = sp
        try:
            # What is in use lies above sp.
            memory = self.image.read(sp, high - sp)

            def word(at: int) -> int:
                if not lowest <= at <= high - 8:
                    raise FaultError(at, 8, "outside of the stack")
                return int.from_bytes(memory[at - lowest : at - lowest + 8], "little")

            ip, bp = word(sp + ret_at.offset), word(sp + bp_at.offset)
            sp += size
            called = True
            while len(found) < _MOST:
                found.append(ip)
                entry = self.find(ip - 1 if called else ip)
                if entry is None or entry.kind == "end":
                    break
                if entry.sp_register == _SP:
                    frame = sp + entry.sp_offset
                elif entry.sp_register == _BP:
                    frame = bp + entry.sp_offset
                elif entry.sp_register == _SP_INDIRECT:
                    frame = word(sp) + entry.sp_offset
                elif entry.sp_register == _BP_INDIRECT:
                    frame = word(bp + entry.sp_offset)
                else:
                    break
                if entry.kind != "call":
                    ip, below, called = word(frame + _PT_IP), word(frame + _PT_SP), False
                    bp = word(frame + _PT_BP) if entry.kind == "regs" else bp
                else:
                    ip, below, called = word(frame - 8), frame, True
                    if entry.bp_register == _PREV_SP:
                        bp = word(frame + entry.bp_offset)
                    elif entry.bp_register == _BP:
                        bp = word(bp + entry.bp_offset)
                # Each frame is above the one before, or the stack is damaged.
                if below <= sp:
                    break
                sp = below
        except FaultError:
            pass
        return found
