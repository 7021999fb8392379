"""Symbols by name and by address, out of the tables of kernel/kallsyms.c in kernel memory (v6.0 and later).

VMCOREINFO says where they are.  Of several names for one address the kernel takes the first in its table, and so does
this.  Names are pieces of a table of tokens; only those that are asked for are put together.
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from functools import cached_property

from taskscope.memory.image import Symbol

#: no kernel has more symbols, nor longer names
_MOST, _LONG = 1 << 22, 1 << 16


def covering(starts: Sequence[int], address: int) -> tuple[int, int, int | None] | None:
    """Find what covers an address: the place of the first of its names, the offset in it, its size.

    :param starts: addresses in order, aliases beside each other
    """
    last = bisect_right(starts, address)
    if not last:
        return None
    start = starts[last - 1]
    return bisect_left(starts, start), address - start, starts[last] - start if last < len(starts) else None


class Kallsyms:
    """The symbols of a kernel.

    :param read: reads kernel memory
    :param vmcoreinfo: the text of VMCOREINFO
    :raises LookupError: it does not say where the tables are, or they are not such
    """

    def __init__(self, read: Callable[[int, int], bytes], vmcoreinfo: str, word: int = 8) -> None:
        found = dict(re.findall(r"^SYMBOL\(kallsyms_(\w+)\)=([0-9a-f]+)$", vmcoreinfo, re.MULTILINE))
        try:
            where = {name: int(found[name], 16) for name in
                     ("names", "num_syms", "token_table", "token_index", "offsets", "relative_base")}
        except KeyError as error:
            raise LookupError(f"VMCOREINFO has no kallsyms_{error.args[0]}") from None
        (count,) = struct.unpack("<I", read(where["num_syms"], 4))
        if not 0 < count < _MOST:
            raise LookupError(f"kallsyms_num_syms is {count:,}")
        (base,) = struct.unpack("<Q" if word == 8 else "<I", read(where["relative_base"], word))
        offsets = array("i", read(where["offsets"], 4 * count))
        # With CONFIG_KALLSYMS_ABSOLUTE_PERCPU only numbers below 0 are relative to the base.
        percpu = sum(offset < 0 for offset in offsets[:: max(1, count // 1000)]) > 100
        mask = (1 << 8 * word) - 1
        self._starts = [
            (offset if offset >= 0 else base - 1 - offset) & mask if percpu else base + (offset & 0xFFFF_FFFF) & mask
            for offset in offsets
        ]
        if any(a > b for a, b in zip(self._starts[:1000], self._starts[1:1001], strict=False)):
            raise LookupError("the table of kallsyms is not in the order of addresses")
        self._tokens = self._read_tokens(read, where)
        self._names, self._at = self._read_names(read, where["names"], count)
        # Others in VMCOREINFO need not be addresses of symbols: mem_section is a pointer's value.
        for name, text in re.findall(r"^SYMBOL\((_stext|init_uts_ns)\)=([0-9a-f]+)$", vmcoreinfo, re.MULTILINE):
            if self.symbol(name) not in (None, int(text, 16)):
                raise LookupError(f"kallsyms and VMCOREINFO do not agree where {name} is")

    @staticmethod
    def _read_tokens(read: Callable[[int, int], bytes], where: dict[str, int]) -> list[bytes]:
        index = struct.unpack("<256H", read(where["token_index"], 512))
        table = read(where["token_table"], max(index) + 64)
        return [table[at : table.find(b"\0", at)] for at in index]

    @staticmethod
    def _read_names(read: Callable[[int, int], bytes], start: int, count: int) -> tuple[bytes, array[int]]:
        """Read the names, and find where each begins: a length (of one or two bytes), then so many tokens."""
        data, at, begins = b"", 0, array("I")
        for _ in range(count):
            if at + 2 > len(data):
                data += read(start + len(data), _LONG)
            begins.append(at)
            length = data[at]
            # Since v6.1 (73bbb94466fd) the highest bit says that there is a second byte.
            at += 1 + length if length < 0x80 else 2 + (length & 0x7F | data[at + 1] << 7)
        while len(data) < at:
            data += read(start + len(data), min(_LONG, at - len(data)))
        return data, begins

    def name(self, number: int) -> str:
        """Return the name of a symbol by its place in the table."""
        at = self._at[number]
        length = self._names[at]
        at += 1
        if length >= 0x80:
            length, at = length & 0x7F | self._names[at] << 7, at + 1
        text = b"".join(self._tokens[token] for token in self._names[at : at + length])
        return text[1:].decode("ascii", "replace")      # its first letter is the type

    @cached_property
    def _address(self) -> dict[str, int]:
        # Of several symbols of one name the first counts.
        count = len(self._starts)
        return {self.name(number): self._starts[number] for number in range(count - 1, -1, -1)}

    def symbol(self, name: str) -> int | None:
        """See `Image.symbol`."""
        return self._address.get(name)

    def symbol_at(self, address: int) -> Symbol | None:
        """See `Image.symbol_at`."""
        found = covering(self._starts, address)
        return None if found is None else Symbol(self.name(found[0]), found[1], found[2])


