"""The kernel's symbol table as /proc/kallsyms lists it, parsed at once and looked up for whole columns.

A line is ``ADDRESS TYPE NAME``, with ``<tab>[MODULE]`` behind the name of a module's symbol (s_show() in
the kernel's kernel/kallsyms.c, 6.1 to 6.18).  Where several symbols have one address the first in the table
is its name, as in the kernel's get_symbol_pos(); symbols hidden by kptr_restrict (address 0), mapping symbols
($a, $d: where code and data begin) and absolute ones (type A, which are offsets of per-cpu data, not addresses) name
nothing.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

Addresses = npt.NDArray[np.uint64]

#: bytes from the start of a symbol within which an address belongs to it if no other symbol is nearer; this
#: keeps the last symbol of the text and of each module from owning the hole behind it
REACH = 1 << 20

_NIBBLES = np.full(256, 0xFF, np.uint8)
_NIBBLES[np.frombuffer(b"0123456789", np.uint8)] = np.arange(10)
_NIBBLES[np.frombuffer(b"abcdef", np.uint8)] = np.arange(10, 16)
_NIBBLES[np.frombuffer(b"ABCDEF", np.uint8)] = np.arange(10, 16)

#: types of symbols that stand for code, as nm(1) names them: local, global, weak, of an indirect function
_CODE = np.frombuffer(b"tTwWi", np.uint8)

_LINE = re.compile(rb"\s*([0-9a-fA-F]{1,16}) (\S) (\S+)(?:\s+\[(\S+)\])?\s*\Z")


class Symbols:
    r"""A symbol table.

    >>> s = Symbols(b"ffffffff81000010 T do_exit\nffffffff81000400 t wait4\n"
    ...             b"ffffffffc0000000 t probe\t[virtio]\n")
    >>> s.names([0xffffffff81000010, 0xffffffff81000020, 0xffffffffc0000008, 0x10])
    ['do_exit', 'do_exit', 'probe', None]
    >>> s.names([0xffffffffc0000008], module=True)
    ['probe [virtio]']

    ``bad`` counts the lines that are no symbols; they are left out.
    """

    def __init__(self, text: bytes | memoryview = b"") -> None:
        text = bytes(text).rstrip(b"\0")
        self._text = text
        data = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero(data == 10)
        if len(data) and data[-1] != 10:
            ends = np.append(ends, len(data))
        starts = np.zeros(len(ends), np.int64)
        starts[1:] = ends[:-1] + 1
        address, good, width = _parse_addresses(data, starts, ends)
        kind = np.zeros(len(starts), np.uint8)
        kind[good] = data[starts[good] + width + 1]
        name = starts + width + 3
        name_end, module_end = _name_ends(data, ends)
        good &= (kind > 32) & (name_end > name)
        # Where code and data begin in a module ($a, $t, $d of the ARM ELF ABI): the kernel's is_mapping_symbol().
        mapping = np.zeros(len(starts), bool)
        mapping[good] = data[name[good]] == ord("$")
        self._known: dict[tuple[int, bool, bool], str | None] = {}
        self._functions: dict[int, str | None] = {}
        self.bad = 0
        odd = np.flatnonzero(~good & (ends > starts))
        self._odd: dict[int, tuple[str, str | None]] = {}      # lines of another shape, by line number
        # Of a text that is no table, so many lines are enough to tell.
        for line in odd[:100_000].tolist():
            m = _LINE.match(text[starts[line]:ends[line]])
            if m is None:
                self.bad += 1
                continue
            address[line] = int(m[1], 16)
            kind[line] = m[2][0]
            good[line] = True
            self._odd[line] = (_decode(m[3]), _decode(m[4]) if m[4] else None)
        self.bad += max(0, len(odd) - 100_000)
        keep = np.flatnonzero(good & ~mapping & (address != 0) & (kind != ord("A")) & (kind != ord("a")))
        # Stable, so that of aliases the first of the table stays first.
        order = keep[np.argsort(address[keep], kind="stable")]
        self.addresses: Addresses = address[order]
        self._line = order
        self._name, self._name_end, self._module_end = name, name_end, module_end
        # The number of the first alias of each symbol.
        fresh = np.ones(len(order), bool)
        fresh[1:] = self.addresses[1:] != self.addresses[:-1]
        self._first = np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))
        # The same of those that stand for code, -1 where an address has none.
        at = np.where(np.isin(kind[order], _CODE), np.arange(len(order)), len(order))
        firsts = np.minimum.reduceat(at, np.flatnonzero(fresh)) if len(order) else at
        self._first_code = np.where(firsts < len(order), firsts, -1)[np.cumsum(fresh) - 1]

    def __len__(self) -> int:
        return len(self.addresses)

    def find(self, addresses: Any, *, exact: bool = False, code: bool = False) -> npt.NDArray[np.int64]:
        """Look addresses up: the number of the symbol that holds each, -1 where none does.

        :param addresses: integers, of any shape
        :param exact: a symbol must begin at the address (function entries), not merely hold it (return
            addresses)
        :param code: it must be one of code: an address in a module that the table does not know falls behind the data
            of another
        """
        wanted = np.asarray(addresses, np.uint64)
        if not len(self):
            return np.full(wanted.shape, -1, np.int64)
        after = np.searchsorted(self.addresses, wanted, side="right")
        at = np.maximum(after, 1) - 1
        offset = wanted - self.addresses[at]
        none = (after == 0) | ((offset != 0) if exact else (offset >= REACH))
        first = self._first_code if code else self._first
        found: npt.NDArray[np.int64] = np.where(none, -1, first[at]).astype(np.int64)
        return found

    def symbol(self, number: int) -> tuple[str, str | None]:
        """Return the name of a symbol and the module it belongs to, None for the kernel itself."""
        line = int(self._line[number])
        if line in self._odd:
            return self._odd[line]
        start, end = int(self._name[line]), int(self._name_end[line])
        suffix = self._text[end:int(self._module_end[line])].strip()
        module = _decode(suffix[1:-1]) if suffix[:1] == b"[" and suffix[-1:] == b"]" else None
        return _decode(self._text[start:end]), module

    def _shown(self, number: int, module: bool) -> str | None:
        if number < 0:
            return None
        name, owner = self.symbol(number)
        return f"{name} [{owner}]" if module and owner else name

    def name(self, address: int, *, exact: bool = False, module: bool = False) -> str | None:
        """Name one address, as `names` does; answers are kept, because stacks repeat."""
        key = (address, exact, module)
        if key not in self._known:
            inside = 0 <= address < 1 << 64
            self._known[key] = self._shown(int(self.find(address, exact=exact)), module) if inside else None
        return self._known[key]

    def function(self, address: int) -> str | None:
        """Name the function that an address of a call stack lies in; None if what is there is no code."""
        if address not in self._functions:
            inside = 0 <= address < 1 << 64
            self._functions[address] = self._shown(int(self.find(address, code=True)), False) if inside else None
        return self._functions[address]

    def names(self, addresses: Any, *, exact: bool = False, module: bool = False) -> list[str | None]:
        """Name addresses; None where no symbol holds one.

        :param exact: see `find`
        :param module: append the module: ``probe [virtio]``
        """
        numbers, back = np.unique(self.find(addresses, exact=exact), return_inverse=True)
        shown = [self._shown(n, module) for n in numbers.tolist()]
        return [shown[i] for i in back.ravel().tolist()]

    def address_of(self, name: str) -> int | None:
        """Return the address of the first symbol of that name; None if there is none."""
        wanted = re.escape(name.encode("utf-8", "surrogateescape"))
        line = rb"^\s*([0-9a-fA-F]{1,16}) [^Aa] " + wanted + rb"(?=\s|\Z)"
        for m in re.finditer(line, self._text, re.MULTILINE):
            if int(m[1], 16):
                return int(m[1], 16)
        return None


def _decode(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace")


def _parse_addresses(data: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64],
                     ends: npt.NDArray[np.int64]) -> tuple[Addresses, npt.NDArray[np.bool_], int]:
    """Read the addresses of lines that are as wide as the first: addresses, which lines those are, digits."""
    address = np.zeros(len(starts), np.uint64)
    width = 16
    if len(starts):
        first = data[starts[0]:starts[0] + 17].tobytes().find(b" ")
        width = first if first in (8, 16) else 16
    good = ends - starts > width + 3
    at = starts[good]
    good[good] = (data[at + width] == 32) & (data[at + width + 2] == 32)
    at = starts[good]
    digits = np.empty((len(at), width), np.uint8)
    for k in range(width):                            # digit by digit: no index matrix eight times the size
        digits[:, k] = _NIBBLES[data[at + k]]
    valid = (digits != 0xFF).all(axis=1)
    packed = digits[:, 0::2] << 4 | (digits[:, 1::2] & 0xF)
    value = np.ascontiguousarray(packed).view(f">u{width // 2}").ravel()
    address[good] = value
    good[good] = valid
    return address, good, width


def _name_ends(data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64],
               ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Find where the name of each line ends (at a tab, if it has one), and where its line ends."""
    name_end = ends.astype(np.int64)
    tabs = np.flatnonzero(data == 9)
    if len(tabs):
        line = np.searchsorted(ends, tabs)
        # Backwards, so that the first tab of a line is written last.
        name_end[line[::-1]] = tabs[::-1]
    return name_end, ends.astype(np.int64)
