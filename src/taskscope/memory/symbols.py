"""Symbols that stand in a text: `SystemMap`."""

from __future__ import annotations

import re

from taskscope.errors import TraceError
from taskscope.memory.image import Symbol
from taskscope.memory.kallsyms import covering


class SystemMap:
    """Symbols out of a System.map, or the text of /proc/kallsyms: one ``address type name`` a line.

    :raises TraceError: a line is none
    """

    def __init__(self, text: bytes, name: str) -> None:
        found: list[tuple[int, bool, int, str]] = []
        self._address: dict[str, int] = {}
        for number, line in enumerate(text.splitlines(), 1):
            match = re.match(rb"([0-9a-fA-F]{4,16}) (\S) (\S+)", line)
            if match is None:
                raise TraceError("is no 'address type name'; give a System.map", name, number, "line")
            label = match[3].decode("ascii", "replace")
            # Mapping symbols of ARM ($a, $d, $t) name nothing.
            if not label.startswith("$"):
                address = int(match[1], 16)
                bare = label.lstrip("_")
                found.append((address, match[2] in b"wW", len(label) - len(bare), label))
                self._address.setdefault(label, address)
        # Of names of one address the kernel says the first: not a weak one, then that of the fewest underscores in
        # front (compare_symbols() in scripts/kallsyms.c, v6.1).
        found.sort(key=lambda entry: entry[:3])
        self._starts = [entry[0] for entry in found]
        self._names = [entry[3] for entry in found]

    def symbol(self, name: str) -> int | None:
        """See `Image.symbol`."""
        return self._address.get(name)

    def symbol_at(self, address: int) -> Symbol | None:
        """See `Image.symbol_at`."""
        found = covering(self._starts, address)
        return None if found is None else Symbol(self._names[found[0]], found[1], found[2])
