"""Stacks of 32-bit ARM: the programs of bytes that undo frames, and what is damaged."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskscope.memory.exidx import Exidx
from taskscope.memory.image import FaultError, Image, Symbol

INDEX, TABLE, STACK, SIZE = 0xC100_0000, 0xC110_0000, 0xC200_0000, 8192
#: where the functions begin
MAIN, INNER = 0xC000_1000, 0xC000_2000


class Memory(Image):
    """Two functions, and a stack."""

    arch, release, source = "armv7l", "6.1.0", "made"

    def __init__(self, main: int, inner: int, extab: bytes, stack: bytes) -> None:
        index = b"".join(struct.pack("<II", start - (INDEX + 8 * n) & 0x7FFF_FFFF, how)
                         for n, (start, how) in enumerate([(MAIN, main), (INNER, inner)]))
        self.parts = {INDEX: index, TABLE: extab, STACK: stack}

    def read(self, address: int, count: int) -> bytes:
        """See `Image.read`."""
        for start, data in self.parts.items():
            if start <= address and address + count <= start + len(data):
                return data[address - start : address - start + count]
        raise FaultError(address, count)

    def symbol(self, name: str) -> int | None:
        """See `Image.symbol`."""
        return {"__start_unwind_idx": INDEX, "__stop_unwind_idx": INDEX + 16}.get(name)

    def symbol_at(self, address: int) -> Symbol | None:  # noqa: ARG002
        """See `Image.symbol_at`."""
        return None


def stack_of(words: dict[int, int]) -> bytes:
    """Return a stack that holds words at offsets."""
    data = bytearray(SIZE)
    for at, word in words.items():
        struct.pack_into("<I", data, at, word)
    return bytes(data)


def extab(entry: int) -> int:
    """Return the second word of INNER's entry in the index: where its entry of the table is."""
    return TABLE + entry - (INDEX + 12) & 0x7FFF_FFFF


#: main calls inner: pop {r4, lr}, finish
INLINE_MAIN = 0x80A8_B0B0
CANTUNWIND = 1


@pytest.mark.parametrize(("how", "table", "words", "registers"), [
    # add sp, sp, #8; pop {r4, r5, lr}; finish
    (0x8001_A9B0, b"", {8: 0, 16: MAIN + 8, 20: 0, 24: 0}, {}),
    # sp = r11; sp -= 4; pop {r11, lr} by mask: what is kept by a frame pointer
    (None, struct.pack("<III", 0x8101_9B40, 0x8480_B0B0, 0), {96: 0, 100: MAIN + 8}, {11: STACK + 100}),
    # pop {r0 - r3}; pop {lr}
    (None, struct.pack("<II", 0x8101_B10F, 0x8400_B0B0), {16: MAIN + 8}, {}),
    # sp += 0x204 + (1 << 2); pop {lr}
    (None, struct.pack("<II", 0x8101_B201, 0x8400_B0B0), {0x208: MAIN + 8}, {}),
], ids=["inline", "frame-pointer", "low-registers", "large"])
def test_each_way_to_undo_a_frame(how: int | None, table: bytes, words: dict[int, int],
                                  registers: dict[int, int]) -> None:
    """The program of a function leads to its caller, whether it stands in the index or in the table."""
    memory = Memory(CANTUNWIND, how if how is not None else extab(0), table, stack_of(words))
    found = Exidx(memory).stack({13: STACK, 15: INNER + 4} | registers, STACK, STACK + SIZE)
    assert found == [INNER + 4, MAIN + 8]


def test_a_chain_of_callers_ends_where_there_is_no_way() -> None:
    """Frames are undone up to a function that says it cannot be."""
    memory = Memory(CANTUNWIND, INLINE_MAIN, b"", stack_of({4: INNER + 8, 12: INNER + 12, 20: MAIN + 4}))
    assert Exidx(memory).stack({13: STACK, 15: INNER + 4}, STACK, STACK + SIZE) == [
        INNER + 4, INNER + 8, INNER + 12, MAIN + 4]


@given(st.integers(0, 0xFFFF_FFFF), st.binary(min_size=16, max_size=64), st.binary(min_size=64, max_size=256),
       st.dictionaries(st.sampled_from([4, 5, 7, 11, 13, 15]), st.integers(0, 0xFFFF_FFFF)))
def test_no_table_and_no_stack_hangs(how: int, table: bytes, stack: bytes, registers: dict[int, int]) -> None:
    """Whatever the tables, the stack and the registers hold, there is an end, and no exception."""
    memory = Memory(how, extab(0), table, stack)
    found = Exidx(memory).stack({13: STACK, 15: INNER + 4} | registers, STACK, STACK + len(stack))
    assert len(found) <= 256
