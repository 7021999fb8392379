"""Kernel stacks of 32-bit ARM without a debug package: the EHABI tables in kernel memory.

``__start_unwind_idx`` has two words for each function, sorted: where it begins, and how its frame is undone, which
stands there or in an entry of .ARM.extab.  The way back is a program of bytes.  Follows arch/arm/kernel/unwind.c, v6.1,
and the Exception Handling ABI for the Arm Architecture (IHI 0038), section 10.3.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Final

from taskscope.memory.image import FaultError, Image

_SP, _LR, _PC = 13, 14, 15
_CANTUNWIND: Final = 1
#: no stack of a kernel has so many frames
_MOST: Final = 256
_WORD: Final = 0xFFFF_FFFF


class _NoWayError(Exception):
    """The tables do not say how a frame is undone, or the stack does not hold what they say."""


class Exidx:
    """The tables of one kernel.

    :param image: 32-bit ARM
    """

    def __init__(self, image: Image) -> None:
        self.image = image
        self._start = image.symbol("__start_unwind_idx") or 0
        stop = image.symbol("__stop_unwind_idx") or 0
        self._count = max(stop - self._start, 0) // 8 if self._start else 0
        self._words: array[int] | None = None

    def _function(self, address: int) -> int | None:
        """Return the number of the entry of the function in which an address is."""
        if self._words is None:
            self._words = array("I", self.image.read(self._start, 8 * self._count))
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if _relative(self._start + 8 * middle, self._words[2 * middle]) <= address:
                low = middle + 1
            else:
                high = middle
        return low - 1 if low else None

    def _program(self, address: int) -> Iterator[int]:
        """Yield the bytes that undo the frame of the function in which an address is."""
        at = self._function(address)
        if at is None or self._words is None:
            raise _NoWayError
        word = self._words[2 * at + 1]
        if word == _CANTUNWIND:
            raise _NoWayError
        if not word >> 31:
            place = _relative(self._start + 8 * at + 4, word)
            word = self._word(place)
            if word >> 24 == 0x81:
                yield from word.to_bytes(4, "big")[2:]
                for n in range(word >> 16 & 0xFF):
                    yield from self._word(place + 4 + 4 * n).to_bytes(4, "big")
                return
        if word >> 24 != 0x80:
            raise _NoWayError
        yield from word.to_bytes(4, "big")[1:]

    def _word(self, address: int) -> int:
        return int.from_bytes(self.image.read(address, 4), "little")

    def stack(self, registers: Mapping[int, int], low: int, high: int) -> list[int]:
        """Return the return addresses on the stack of a task that does not run, innermost first.

        :param registers: what the task will have in r4 to r11, r13 and r15 (thread_info.cpu_context), by number
        :param low: the lowest address of the stack
        :param high: the first address above it
        """
        found: list[int] = []
        # Who calls __switch_to is no leaf: its lr is on the stack.
        now = dict(registers) | {_LR: 0}
        if not self._count or not low <= now.get(_SP, 0) < high:
            return found
        try:
            memory = self.image.read(low, high - low)
            while len(found) < _MOST and now.get(_PC):
                found.append(now[_PC])
                sp, pc = now[_SP], now[_PC]
                now = _undone(now, self._program(pc - 1), memory, low)
                # Each frame is above the one before, or the stack is damaged.
                if now[_SP] < sp or (now[_SP], now[_PC]) == (sp, pc):
                    break
        except (FaultError, _NoWayError):
            pass
        return found


def _relative(address: int, word: int) -> int:
    """Return where a word leads that counts from its own place (prel31)."""
    offset = word & 0x7FFF_FFFF
    return address + offset - (offset >> 30 << 31) & _WORD


def _undone(registers: Mapping[int, int], program: Iterator[int], memory: bytes, low: int) -> dict[int, int]:
    """Return the caller's registers.

    :param memory: the whole stack, from `low` on
    """
    now = dict(registers) | {_PC: 0}
    sp = now[_SP]

    def pop(numbers: list[int]) -> None:
        nonlocal sp
        for number in numbers:
            at = sp - low
            if not 0 <= at <= len(memory) - 4:
                raise _NoWayError
            now[number] = int.from_bytes(memory[at : at + 4], "little")
            sp += 4
        if _SP in numbers:
            sp = now[_SP]

    for byte in program:
        if byte < 0x40:
            sp += (byte << 2) + 4
        elif byte < 0x80:
            sp -= (byte - 0x40 << 2) + 4
        elif byte < 0x90:
            mask = (byte & 0xF) << 8 | next(program, 0)
            if not mask:
                raise _NoWayError           # says that there is no way
            pop([4 + n for n in range(12) if mask >> n & 1])
        elif byte < 0xA0:
            if byte & 0xD == 0xD or byte & 0xF not in now:
                raise _NoWayError
            sp = now[byte & 0xF]
        elif byte < 0xB0:
            pop([*range(4, 5 + (byte & 7)), *([_LR] if byte & 8 else [])])
        elif byte == 0xB0:
            break
        elif byte == 0xB1:
            mask = next(program, 0)
            if not mask or mask & 0xF0:
                raise _NoWayError
            pop([n for n in range(4) if mask >> n & 1])
        elif byte == 0xB2:
            sp += 0x204 + (_uleb128(program) << 2)
        else:
            raise _NoWayError               # registers that the kernel does not use
    now[_SP] = sp & _WORD
    now[_PC] = now[_PC] or now[_LR]
    return now


def _uleb128(program: Iterator[int]) -> int:
    value = shift = 0
    for byte in program:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80 or shift > 28:
            break
    return value
