"""Symbols that stand in a text: `SystemMap`."""

from __future__ import annotations

import re
from operator import itemgetter

from taskscope.errors import TraceError
from taskscope.memory.image import Symbol
from taskscope.memory.kallsyms import covering


class SystemMap:
    """Symbols out of a System.map, or the text of /proc/kallsyms: one ``address type name`` a line.

    :param ordered: names of one address stand in the kernel's own order, as in /proc/kallsyms
    :raises TraceError: a line is none
    """

    def __init__(self, text: bytes, name: str, *, ordered: bool = False) -> None:
        found: list[tuple[int, bytes, str]] = []
        self._address: dict[str, int] = {}
        for number, line in enumerate(text.splitlines(), 1):
            match = re.match(rb"([0-9a-fA-F]{4,16}) (\S) (\S+)", line)
            if match is None:
                raise TraceError("is no 'address type name'; give a System.map", name, number, "line")
            label = match[3].decode("ascii", "replace")
            # Mapping symbols of ARM ($a, $d, $t) name nothing.
            if not label.startswith("$"):
                address = int(match[1], 16)
                found.append((address, match[2], label))
                self._address.setdefault(label, address)
        found.sort(key=itemgetter(0) if ordered else _as_the_kernel)
        self._starts = [address for address, _, _ in found]
        self._names = [label for _, _, label in found]

    def symbol(self, name: str) -> int | None:
        """See `Image.symbol`."""
        return self._address.get(name)

    def symbol_at(self, address: int) -> Symbol | None:
        """See `Image.symbol_at`."""
        found = covering(self._starts, address)
        return None if found is None else Symbol(self._names[found[0]], found[1], found[2])


def _as_the_kernel(entry: tuple[int, bytes, str]) -> tuple[int, bool, int]:
    """Sort names of one address as the kernel does, which says the first: weak ones last, few underscores first.

    Follows compare_symbols() in scripts/kallsyms.c, v6.1.
    """
    address, kind, label = entry
    return address, kind in b"wW", len(label) - len(label.lstrip("_"))
