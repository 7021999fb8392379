"""Addresses as text, in the styles that tracefs uses: ``do_exit``, ``do_exit+0x0/0xa30 [module]``.

Follows trace_seq_print_sym() in the kernel's kernel/trace/trace_output.c and sprint_symbol() in kernel/kallsyms.c
(v6.18).  An address that no symbol of the recording holds is shown as a number.
"""

from __future__ import annotations

import numpy as np

from taskscope.ftrace.kallsyms import Symbols
from taskscope.ftrace.printfmt.plain import escaped

#: what a frame of ftrace's own trampoline has for an address (FTRACE_TRAMPOLINE_MARKER, INT_MAX)
TRAMPOLINE = 0x7FFFFFFF


class SymbolTexts:
    """Names addresses.

    Styles: ``ip`` as in stacks and function records, ``ip+`` the same with the option sym-offset, ``function`` the
    name or a plain number, ``ps`` and ``pS`` as printf's ``%ps`` and ``%pS``.
    """

    def __init__(self, symbols: Symbols) -> None:
        self._symbols = symbols

    def texts(self, addresses: list[int], style: str) -> list[bytes]:
        """Return the text of each address."""
        if not addresses:
            return []
        numbers = self._symbols.find(np.array(addresses, np.uint64), code=style in ("ip", "ip+")).tolist()
        return [self._text(a, n, style) for a, n in zip(addresses, numbers, strict=True)]

    def _text(self, address: int, number: int, style: str) -> bytes:
        if address == 0 and style in ("ip", "ip+"):
            return b"0"
        if number < 0:
            return b"0x%08x" % address if style == "ip" else b"0x%x" % address
        name, module = self._symbols.symbol(number)
        if style in ("pS", "ip+"):
            start = int(self._symbols.addresses[number])
            name += f"+0x{address - start:x}/0x{self._size(number):x}"
        if style in ("ps", "pS", "ip+"):
            name += f" [{module}]" if module else ""
        return escaped(name.encode("utf-8", "surrogateescape"))

    def _size(self, number: int) -> int:
        """Return how far a symbol reaches: to the next one, as in the kernel, whose table has no sizes either."""
        addresses = self._symbols.addresses
        start = addresses[number]
        after = int(np.searchsorted(addresses, start, side="right"))
        return int(addresses[after] - start) if after < len(addresses) else 0
